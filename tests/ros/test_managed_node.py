"""A managed node whose preparation ends while its executor waits for an event."""

import threading

from fakes import DEADLINE
from rclpy.executors import SingleThreadedExecutor
from univseg_ros.managed_node import ManagedNode


class Preparing(ManagedNode):
    """A node that has no timer, and is prepared when a test says so."""

    def __init__(self):
        super().__init__('preparing')
        self.declare_parameter('autostart', True)
        self.said = threading.Event()
        self.ended = False

    def _prepare(self):
        return self.said.wait

    def on_configure(self, state):
        """Note whether the preparation has ended."""
        self.ended = self._prepared.result()
        return super().on_configure(state)

    def _stop(self):
        pass

    def _release(self):
        pass


def test_the_end_of_a_preparation_wakes_an_executor_that_nothing_else_wakes(ros_domain):
    node, executor = Preparing(), SingleThreadedExecutor()
    executor.add_node(node)
    task = executor.create_task(node.autostart_while_spinning())
    for _ in range(10):  # whatever has happened to the node until now
        executor.spin_once(timeout_sec=0.05)
    assert not node.ended
    later = threading.Timer(0.5, node.said.set)
    later.start()
    # Were it not woken, it would wait until then, and look at the task no more.
    executor.spin_until_future_complete(task, timeout_sec=DEADLINE / 6)
    assert node.ended and task.done()
    executor.remove_node(node)
    executor.shutdown()
    node.destroy_node()
