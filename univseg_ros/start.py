"""The commands, from the moment at which they are called: their imports take seconds."""

from functools import partial
from importlib import import_module
import os
import signal
import sys

_starting = False


def run(command: str) -> int:
    """
    Import the module of a command and run its `main`; return the exit code.

    SIGINT or SIGTERM ends the process with exit code 0 until ROS has taken the signals over. Where
    something cannot be imported, a sentence on stderr says what, and by which Python.
    """
    global _starting
    _starting = True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_while_starting)
    try:
        main = import_module(f'univseg_ros.{command}').main
    except (ImportError, OSError) as error:  # OSError: a library of torch's that is damaged
        print(f'{command}: {_missing(error)}', file=sys.stderr)
        return 1
    return main()


def ros_has_the_signals() -> None:
    """Take note that signals are dealt with by others from now on."""
    global _starting
    _starting = False


def end_while_starting(*_: object) -> None:
    """End the process, unless ROS has the signals already."""
    # Not by an exception: what is being imported may make another one of it, or print it.
    if _starting:
        os._exit(0)


def _missing(error: ImportError | OSError) -> str:
    name = isinstance(error, ModuleNotFoundError) and (error.name or '').partition('.')[0]
    what = f'{name} is not installed for' if name else f'{error}: this cannot be imported by'
    return (f'{what} {sys.executable} (Python {sys.version.split()[0]}), which this command '
            'was built with; install it there, or build with `python3 -m colcon build` inside the '
            'environment that has it (docs/ros.md, Install)')


segmentation_node = partial(run, 'segmentation_node')
bag_recorder = partial(run, 'bag_recorder')
image_player = partial(run, 'image_player')
mask_viewer = partial(run, 'mask_viewer')
