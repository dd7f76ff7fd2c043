"""An end by SIGINT or SIGTERM that is no error."""

from collections.abc import Iterator
from contextlib import contextmanager
import re
import signal

import rclpy
from rclpy.node import Node
from univseg_ros.start import end_while_starting, ros_has_the_signals

WAKE_UP = 1.0
"""Seconds after which a spinning node looks whether ROS was shut down."""

PLACES = re.compile(r', at \S+:\d+')
"""Where in ROS's sources an error comes from."""

FORM_OF_FILES = ("; a parameter file has a node's name or /**, below it ros__parameters, and "
                 'below that the values, without aliases and lists of several types')


def spin(node: Node) -> None:
    """
    Spin a node until ROS is shut down.

    rclpy.spin() has been seen to overlook a signal while a node without timers was waiting, which
    then never ended: so this looks again every second.
    """
    executor = rclpy.get_global_executor()
    executor.add_node(node)
    try:
        while executor.context.ok():
            executor.spin_once(timeout_sec=WAKE_UP)
    finally:
        executor.remove_node(node)


@contextmanager
def ros_until_signal(args: list[str] | None = None) -> Iterator[None]:
    """
    Initialise ROS for a block, and shut it down after it.

    A signal ends the block without an exception, also in the midst of a callback. Ctrl-C counts
    once: under `ros2 launch` it comes twice, from the terminal and from launch, and the second
    one would break off what the first one lets end in good order.

    Raises SystemExit, with a sentence, for arguments and parameter files that ROS cannot read.
    """
    signal.signal(signal.SIGINT, _interrupt_once)  # before rclpy's, which calls it
    try:
        rclpy.init(args=args)
    except RuntimeError as error:
        raise SystemExit(f'ROS does not take the arguments: {_in_short(str(error))}') from error
    ros_has_the_signals()
    try:
        yield
    except KeyboardInterrupt:
        pass
    except Exception:
        # Once a signal has shut ROS down, whatever still uses it raises one thing or another.
        if rclpy.ok():
            raise
    finally:
        _ignore_signals()
        rclpy.try_shutdown()
        # Which has put back what there was before; Python would, at its end, let a further signal
        # kill it.
        _ignore_signals()


def _in_short(text: str) -> str:
    text = PLACES.sub('', ' '.join(text.split()))
    for beginning in ('Failed to parse ROS arguments: ', 'failed to initialize rcl: '):
        text = text.removeprefix(beginning)
    return text + FORM_OF_FILES * ('params file' in text)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _interrupt_once(*_: object) -> None:
    end_while_starting()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
