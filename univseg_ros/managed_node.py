"""What the package's managed nodes have in common: their states, their end, their errors."""

from abc import ABC, abstractmethod
import argparse
from collections.abc import Callable, Mapping
import functools
import traceback
from typing import TypeVar

from lifecycle_msgs.srv import ChangeState
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.utilities import remove_ros_args
from univseg_ros.parameter_table import listed, ParameterSpec
from univseg_ros.signals import ros_until_signal, spin

LOG_PERIOD = 5.0
"""Seconds between two messages about callbacks that failed."""


Managed = TypeVar('Managed', bound='ManagedNode')


def reported(transition: Callable[[Managed, LifecycleState], TransitionCallbackReturn]
             ) -> Callable[[Managed, LifecycleState], TransitionCallbackReturn]:
    """Say what a transition raises: rclpy goes to error processing without a word."""
    @functools.wraps(transition)
    def reporting(self: Managed, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(self, state)
        except Exception as error:
            self._fail(f'{transition.__name__} failed: {type(error).__name__}: {error}',
                       traceback.format_exc())
            raise
    return reporting


class ManagedNode(ABC, LifecycleNode):
    """
    A lifecycle node that no request ends, and that says why a transition failed.

    A subclass has a parameter `autostart`; its `_stop` and `_release` may be called at any time.
    """

    def __init__(self, name: str):
        super().__init__(name)
        self._failure = ''
        self._finalized = False
        self._refuse_impossible_transitions()

    def autostart(self) -> None:
        """Configure and activate, if the parameter of that name says so."""
        if (self.get_parameter('autostart').value
                and self.trigger_configure() == TransitionCallbackReturn.SUCCESS):
            self.trigger_activate()

    @reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop; nothing goes out or is written any more when this returns."""
        self._stop()
        return super().on_deactivate(state)

    @reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back what the node holds."""
        self._failure = ''
        self._release()
        return super().on_cleanup(state)

    @reported
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and give back everything."""
        self._stop()
        self._release()
        self._finalized = True
        return super().on_shutdown(state)

    @reported
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured after a transition that raised."""
        self._stop()
        self._release()
        return super().on_error(state)

    @abstractmethod
    def _stop(self) -> None:
        """End what the node does while it is active."""

    @abstractmethod
    def _release(self) -> None:
        """Give back what the node holds since it was configured."""

    def _refuse_impossible_transitions(self) -> None:
        """
        Refuse transitions that the node's state does not have.

        Of such a request rclpy makes an exception, and gives no answer to who waits for one. A
        service's callback is not of its documented interface: tried with rclpy 7.1 (Jazzy); a
        version that has none is left as it is.
        """
        service, = (service for service in self.services if service.srv_type is ChangeState)
        change_state = getattr(service, 'callback', None)
        if change_state is None:
            self.get_logger().warning('with this rclpy, a request for an impossible transition is '
                                      'never answered')
            return

        def answer(request: ChangeState.Request, response: ChangeState.Response
                   ) -> ChangeState.Response:
            try:
                return change_state(request, response)
            except RuntimeError as error:
                self.get_logger().warning(f'transition refused: {error}')
                response.success = False
                return response

        service.callback = answer

    # rclpy holds a parameter to the type of its default, which no annotation of its own tells.

    def _text(self, name: str) -> str:
        return self.get_parameter(name).value

    def _texts(self, name: str) -> list[str]:
        return self.get_parameter(name).value

    def _integer(self, name: str) -> int:
        return self.get_parameter(name).value

    def _number(self, name: str) -> float:
        return self.get_parameter(name).value

    def _fail(self, reason: str, details: str = '') -> None:
        self._failure = reason
        if self.context.ok():  # else it is no more than that a signal came
            self.get_logger().error('\n'.join(filter(None, (reason, details))))

    def _log(self, level: str, text: str) -> None:
        """Log as info or error, also at the end: the node may have been interrupted."""
        logger = self.get_logger()
        if not self.context.ok():
            # After Ctrl-C the node's own would complain that it cannot reach rosout.
            logger = get_logger(f'{logger.name}.end')
        # rclpy wants a line of its own for each level.
        if level == 'error':
            logger.error(text)
        else:
            logger.info(text)


def run_node(make_node: Callable[[], ManagedNode], name: str, executable: str, description: str,
             parameters: Mapping[str, ParameterSpec], args: list[str] | None) -> int:
    """Run a node until it is interrupted; return the exit code. `name` is that of its log."""
    argparse.ArgumentParser(
        executable, description=description,
        epilog=f'parameters, set by --ros-args -p NAME:=VALUE:\n{listed(parameters)}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(remove_ros_args(args)[1:])
    with ros_until_signal(args):
        try:
            node = make_node()
        except ParameterException as error:
            get_logger(name).fatal(f'a parameter cannot be used: {error}')
            return 1
        try:
            node.autostart()
            _serve(node)
        finally:
            node.destroy_node()
    return 0


def _serve(node: ManagedNode) -> None:
    """
    Spin until ROS is shut down, whatever a callback raises.

    rclpy raises, for example, of a parameter that is said to have a type that there is not.
    """
    while node.context.ok():
        try:
            spin(node)
        except Exception:
            if node.context.ok():
                node.get_logger().error(f'a callback failed:\n{traceback.format_exc()}',
                                        throttle_duration_sec=LOG_PERIOD)
