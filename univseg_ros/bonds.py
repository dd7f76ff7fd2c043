"""The bond that Nav2's lifecycle manager wants with each node it has activated."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription

TOPIC = 'bond'
"""Where the manager expects it, in the node's namespace."""

HEARTBEAT_PERIOD = 0.1
"""Seconds, as of Nav2's own nodes: the manager waits for the first one half its bond_timeout."""


class Bond:
    """
    A bond of bondpy's with whoever has activated a node, until `end`.

    Raises ImportError where bondpy is not installed. When the other side dies, the node's log
    says so, and the node goes on.
    """

    def __init__(self, node: Node):
        bondpy = import_module('bondpy.bondpy')
        self._node = node
        self._entities = _NodeOfBond(node)
        self._formed = False
        self._bond = bondpy.Bond(self._entities, TOPIC, node.get_name())
        self._bond.heartbeat_period = HEARTBEAT_PERIOD
        self._bond.on_formed = self._note_formed
        self._bond.on_broken = self._note_broken
        self._bond.start()

    def end(self) -> None:
        """Tell the other side, and stop listening to it."""
        self._bond.on_broken = None
        self._bond.shutdown()
        self._entities.end()

    # Both are called in a thread of bondpy's.

    def _note_formed(self) -> None:
        self._formed = True

    def _note_broken(self) -> None:
        if self._formed:
            self._node.get_logger().warning(
                'the bond with the lifecycle manager is broken: it has ended or does not answer; '
                'the node goes on without')
        if executor := self._node.executor:
            # Or bondpy would complain of each heartbeat of a manager that starts anew.
            executor.create_task(self.end)


class _NodeOfBond:
    """
    A node as bondpy sees it.

    bondpy destroys its subscription itself, of which the node's executor knows nothing, publishes
    from a thread that does not know of ROS's end, and declares a parameter again and again.
    """

    def __init__(self, node: Node):
        self._node = node
        self._publisher: Publisher | None = None
        self._subscription: Subscription | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def declare_parameter(self, name: str, value: Any) -> None:
        if not self._node.has_parameter(name):
            self._node.declare_parameter(name, value)

    def create_publisher(self, *arguments: Any) -> SimpleNamespace:
        with self._unless_shut_down():
            self._publisher = self._node.create_publisher(*arguments)
        return SimpleNamespace(publish=self._publish, destroy=_nothing)

    def create_subscription(self, *arguments: Any) -> SimpleNamespace:
        with self._unless_shut_down():
            self._subscription = self._node.create_subscription(*arguments)
        return SimpleNamespace(destroy=_nothing)

    def end(self) -> None:
        """Destroy what was made for the bond."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
        self._subscription = self._publisher = None

    def _publish(self, message: Any) -> None:
        if (publisher := self._publisher) is not None:
            with self._unless_shut_down():
                publisher.publish(message)

    @contextmanager
    def _unless_shut_down(self) -> Iterator[None]:
        """Let go what cannot be done once ROS was shut down, as by Ctrl-C."""
        try:
            yield
        except RuntimeError:
            if self._node.context.ok():
                raise


def _nothing() -> None:
    """Leave it to `_NodeOfBond.end`."""
