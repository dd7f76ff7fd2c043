"""A status on /diagnostics, from what a node has found of itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

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


Look: TypeAlias = Callable[[], tuple[list[Finding], Mapping[str, str]] | None]
"""Returns what was found and the values to show beside it; None where there is nothing to tell."""


class StatusPublisher:
    """
    Publishes a DiagnosticStatus of each subject at 1 Hz, whatever the state of the node.

    Its name is the node's and the subject's, whose look tells what is in it; `quiet` is the
    message where nothing was found.
    """

    def __init__(self, node: Node, looks: Mapping[str, Look], quiet: str):
        self._node = node
        self._looks = looks
        self._quiet = quiet
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        steady_timer(node, PERIOD, self._publish)

    def _publish(self) -> None:
        name = self._node.get_fully_qualified_name().lstrip('/')
        message = DiagnosticArray(status=[
            status_of(f'{name}: {subject}', *seen, self._quiet)
            for subject, look in self._looks.items() if (seen := look())])
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
