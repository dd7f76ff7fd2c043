"""The benchmark's own node, which sees what the segmentation node publishes."""

from collections.abc import Sequence
import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
from measured_node.processes import DEADLINE, DOMAINS, stamp_of
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image


class Consumer:
    """It receives masks and diagnostics, and sets parameters."""

    def __init__(self, domains: Sequence[str] = DOMAINS[:1]):
        self.node = Node('consumer')
        self.masks: dict[str, list[tuple[int, int, int]]] = {name: [] for name in domains}
        """Stamp, time of arrival in ns, and first pixel of each mask."""
        self.diagnostics: list[dict[str, str]] = []
        for name in domains:
            self.node.create_subscription(
                Image, f'univseg/{name}/mask',
                lambda message, name=name: self.masks[name].append(
                    (stamp_of(message), self.node.get_clock().now().nanoseconds,
                     message.data[0])), QoSProfile(depth=100))
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnose, 10)
        self.parameters = self.node.create_client(SetParameters, 'univseg/set_parameters')

    def _diagnose(self, message: DiagnosticArray) -> None:
        self.diagnostics.append({item.key: item.value for item in message.status[0].values})

    def wait(self, condition, what: str, seconds: float = DEADLINE) -> None:
        """Handle what comes until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                sys.exit(f'waited {seconds:.0f} s in vain: {what}')
            rclpy.spin_once(self.node, timeout_sec=0.05)

    def wait_for(self, process: subprocess.Popen, seconds: float) -> None:
        """Handle what comes until a process ends."""
        self.wait(lambda: process.poll() is not None, 'the end of the camera', seconds)

    def set_domains(self, names: Sequence[str]):
        """Ask for other active domains; return the future."""
        return self.parameters.call_async(SetParameters.Request(parameters=[
            Parameter('active_domains', value=list(names)).to_parameter_msg()]))
