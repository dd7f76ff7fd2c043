"""Timers that do not stand still."""

from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer


def steady_timer(node: Node, seconds: float, callback: Callable[[], None]) -> Timer:
    """Return a timer of a node, not of its clock: simulated time may stand still."""
    return node.create_timer(seconds, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))
