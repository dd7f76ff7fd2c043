"""What the package's managed nodes have in common: their states, their end, their errors."""

from abc import ABC, abstractmethod
import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
import functools
import sys
import traceback
from typing import Any, cast, TypeVar

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from univseg_ros.background import finished, in_background, next_turn
from univseg_ros.bonds import Bond
from univseg_ros.parameter_sources import sources_of, what_was_taken
from univseg_ros.parameter_table import listed, ParameterSpec
from univseg_ros.signals import ros_until_signal, spin

LOG_PERIOD = 5.0
"""Seconds between two messages about callbacks that failed."""

TURN = 0.02
"""Seconds that callbacks wait at most for one that waits; without, the node would be busy."""

PATIENCE = 4.0
"""Seconds that the end of a node waits for its preparation: launch waits for 5."""

Result = TypeVar('Result')

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


class ManagedNode(ABC, LifecycleNodeMixin, Node):
    """
    A lifecycle node that no bad request ends, and that says why a transition failed.

    `options` are those of rclpy's Node: namespace, parameter_overrides, cli_args, context and so
    on. A subclass has the parameters `autostart` and `bond`; its `_stop` and `_release` may be
    called at any time. What takes long in configuring is its `_prepare`.
    """

    def __init__(self, node_name: str, **options: Any):
        Node.__init__(self, node_name, **options)
        # A group of their own, since one request waits for `_prepare`.
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self._failure = ''
        self._finalized = False
        self._bond: Bond | None = None
        self._prepared: Future | None = None
        """What `_prepare` returns, while it is at work and until the node is configured."""
        self._answer_all_requests()

    def tell_sources(self, arguments: Sequence[str]) -> None:
        """Log which parameters a command's arguments give, and which of them come to nothing."""
        text, complaints = what_was_taken(
            arguments, self.get_fully_qualified_name(), list(self.get_parameters_by_prefix('')))
        if text:
            self.get_logger().info(text)
        for complaint in complaints:
            self.get_logger().warning(complaint)

    def autostart(self) -> None:
        """Configure and activate, if the parameter of that name says so."""
        if (self.get_parameter('autostart').value
                and self.trigger_configure() == TransitionCallbackReturn.SUCCESS):
            self.trigger_activate()

    async def autostart_while_spinning(self) -> None:
        """Do as `autostart`, as a task of an executor, which answers services meanwhile."""
        if self.get_parameter('autostart').value:
            try:
                await self._when_prepared(self.autostart)
            except RuntimeError as error:  # it was shut down meanwhile
                if self.context.ok():
                    self.get_logger().warning(f'not started: {error}')

    @reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop; nothing goes out or is written any more when this returns."""
        self._end_bond()
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
        self._end_bond()
        self._stop()
        self._release()
        self._finalized = True
        return super().on_shutdown(state)

    @reported
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured after a transition that raised."""
        self._end_bond()
        self._stop()
        self._release()
        return super().on_error(state)

    def destroy_node(self) -> None:
        """Wait for what `_prepare` returned, if it is at work, then destroy the node."""
        self._end_bond()
        if self._prepared is not None:
            finished(self._prepared, PATIENCE)
        super().destroy_node()

    def _prepare(self) -> Callable[[], object] | None:
        """Return what takes long in configuring, and is none of ROS; None where nothing does."""
        return None

    def _begin_bond(self) -> None:
        """Make the bond that Nav2's lifecycle manager waits for, at the end of activation."""
        if not self.get_parameter('bond').value:
            return
        try:
            self._bond = Bond(self)
        except ImportError as error:
            if not self.get_parameter('autostart').value:
                self.get_logger().info(f"no bond is made, bondpy is not installed ({error}): "
                                       "Nav2's lifecycle manager needs bond_timeout: 0.0")

    def _end_bond(self) -> None:
        bond, self._bond = self._bond, None
        if bond is not None:
            bond.end()

    @abstractmethod
    def _stop(self) -> None:
        """End what the node does while it is active."""

    @abstractmethod
    def _release(self) -> None:
        """Give back what the node holds since it was configured."""

    async def _when_prepared(self, configure: Callable[[], Result]) -> Result:
        """Call what configures the node once what `_prepare` returns is done in a thread."""
        if work := self._prepare():
            prepared = self._prepared = in_background(work)
            # Between two turns the executor waits for an event, which may be long in coming.
            prepared.add_done_callback(lambda _: self._wake_executor())
            while not finished(prepared, TURN):
                await next_turn()
        try:
            return configure()
        finally:
            self._prepared = None

    def _wake_executor(self) -> None:
        if self.executor is not None:
            self.executor.wake()

    def _answer_all_requests(self) -> None:
        """
        Answer requests for transitions while the node is being configured, and impossible ones.

        Asked for a transition that the node's state does not have, rclpy raises, and whoever asked
        gets no answer. A service's callback is not of rclpy's documented interface: tried with
        rclpy 7.1 (Jazzy); a version that has none is left as it is.
        """
        service, = (service for service in self.services if service.srv_type is ChangeState)
        change_state = getattr(service, 'callback', None)
        if change_state is None:
            self.get_logger().warning('with this rclpy, a request for an impossible transition is '
                                      'never answered')
            return

        async def answer(request: ChangeState.Request, response: ChangeState.Response
                         ) -> ChangeState.Response:
            change = functools.partial(change_state, request, response)
            try:
                if not _asks_to_configure(request):
                    return change()
                if self._prepared is not None:
                    raise RuntimeError('the node is being configured already')
                return await self._when_prepared(change)
            except RuntimeError as error:
                self.get_logger().warning(f'transition refused: {error}')
                response.success = False
                return response

        service.callback = cast(Any, answer)  # rclpy awaits coroutines, whatever it declares

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


def _asks_to_configure(request: ChangeState.Request) -> bool:
    label = request.transition.label  # which rclpy looks at first
    return label == 'configure' if label else (
        request.transition.id == Transition.TRANSITION_CONFIGURE)


def run_node(make_node: Callable[[], ManagedNode], name: str, executable: str, description: str,
             parameters: Mapping[str, ParameterSpec], args: list[str] | None) -> int:
    """Run a node until it is interrupted; return the exit code. `name` is that of its log."""
    argparse.ArgumentParser(
        executable, description=description,
        epilog=f'parameters, set by --ros-args -p NAME:=VALUE:\n{listed(parameters)}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(remove_ros_args(args)[1:])
    arguments = sys.argv if args is None else args
    with ros_until_signal(args):
        try:
            node = make_node()
        except ParameterException as error:
            # rclpy has the parameter's name at the end.
            source = sources_of(arguments, str(error).rpartition(': ')[2])
            get_logger(name).fatal(f'a parameter cannot be used: {error}'
                                   f'{source and f" (from {source})"}')
            return 1
        node.tell_sources(arguments)
        try:
            rclpy.get_global_executor().create_task(node.autostart_while_spinning())
            _serve(node)
        finally:
            node.destroy_node()
    return 0


def _serve(node: ManagedNode) -> None:
    """
    Spin until ROS is shut down, whatever a callback raises.

    rclpy raises, for example, where a request gives a parameter a type that does not exist.
    """
    while node.context.ok():
        try:
            spin(node)
        except Exception:
            if node.context.ok():
                node.get_logger().error(f'a callback failed:\n{traceback.format_exc()}',
                                        throttle_duration_sec=LOG_PERIOD)
