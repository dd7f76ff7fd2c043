"""A status on /diagnostics, from what a node has found of itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from univseg_ros.timers import steady_timer

PERIOD = 1.0
"""Seconds between two messages."""


@dataclass(frozen=True)
class Finding:
    """Something that is to be known, and how bad it is: a level of DiagnosticStatus."""

    level: bytes
    text: str


class StatusPublisher:
    """
    Publishes a DiagnosticStatus at 1 Hz, whatever the state of the node.

    Its name is the node's and `subject`. `look` returns what was found and the values to show
    beside it; `quiet` is the message where nothing was found.
    """

    def __init__(self, node: Node, look: Callable[[], tuple[list[Finding], Mapping[str, str]]],
                 subject: str, quiet: str):
        self._node = node
        self._look = look
        self._subject = subject
        self._quiet = quiet
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        steady_timer(node, PERIOD, self._publish)

    def _publish(self) -> None:
        findings, values = self._look()
        name = self._node.get_fully_qualified_name().lstrip('/')
        message = DiagnosticArray(status=[
            status_of(f'{name}: {self._subject}', findings, values, self._quiet)])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def status_of(name: str, findings: Sequence[Finding], values: Mapping[str, str],
              quiet: str) -> DiagnosticStatus:
    """Return a status whose message and level follow from what was found, the worst first."""
    ordered = sorted(findings, key=lambda finding: finding.level, reverse=True)
    return DiagnosticStatus(
        name=name, hardware_id=values.get('device', ''),
        level=ordered[0].level if ordered else DiagnosticStatus.OK,
        message='; '.join(finding.text for finding in ordered) or quiet,
        values=[KeyValue(key=key, value=value) for key, value in values.items()])
