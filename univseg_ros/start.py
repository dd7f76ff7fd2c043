"""The commands, from the moment at which they are called: their imports take seconds."""

from functools import partial
import gc
from importlib import import_module, util
import os
import signal
import sys
import textwrap

NO_ROS = ("univseg_ros needs ROS 2 (rclpy): source a distribution's setup.bash, or install it "
          "from PyPI with pip install '.[ros]'")

PACKAGES = {'cv2': 'opencv-python', 'PIL': 'pillow', 'yaml': 'pyyaml'}
"""The packages of modules that have another name."""

LONGEST = 300
"""Characters of what an import says of its failure."""

_starting = False


def run(command: str) -> int:
    """
    Import the module of a command and run its `main`; return the exit code.

    SIGINT or SIGTERM ends the process with exit code 0 until ROS has taken the signals over. A
    sentence on stderr says what cannot be imported, and by which Python, or what ROS finds wrong
    with its arguments, such as a parameter file that is not there.
    """
    global _starting
    _starting = True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_while_starting)
    gc.disable()
    try:
        main = import_module(f'univseg_ros.{command}').main
    except Exception as error:  # packages that do not fit each other raise all kinds
        print(f'{command}: {_missing(error)}', file=sys.stderr)
        return 1
    # What was imported stays as long as the process: no collection need look through it.
    gc.freeze()
    gc.enable()
    ros = import_module('rclpy.impl.implementation_singleton').rclpy_implementation
    try:
        return main()
    except (ros.RCLInvalidROSArgsError, ros.UnknownROSArgsError) as error:
        print(f'{command}: {error}', file=sys.stderr)
        return 1


def ros_has_the_signals() -> None:
    """Take note that signals are dealt with by others from now on."""
    global _starting
    _starting = False


def end_while_starting(*_: object) -> None:
    """End the process, unless ROS has the signals already."""
    # Not by an exception: what is being imported may make another one of it, or print it.
    if _starting:
        os._exit(0)


def require_ros() -> None:
    """Raise ModuleNotFoundError, with what to do, where there is no ROS."""
    if util.find_spec('rclpy') is None:
        raise ModuleNotFoundError(NO_ROS, name='rclpy')


def _missing(error: Exception) -> str:
    python = f'{sys.executable} (Python {sys.version.split()[0]})'
    name = error.name or '' if isinstance(error, ModuleNotFoundError) else ''
    if name == 'rclpy':
        return f'{NO_ROS}; this is {python}'
    package, _, part = name.partition('.')
    if part:
        what = f'{package} has no {name}, and so is damaged or of another Python than'
    elif name:
        alias = f' ({PACKAGES[name]})' if name in PACKAGES else ''
        what = f'{name}{alias} is not installed for'
    else:
        what = f'{textwrap.shorten(str(error), LONGEST)}: this cannot be imported by'
    text = (f'{what} {python}, which this command was built with; install it there, or build with '
            '`python3 -m colcon build` inside the environment that has it (docs/ros.md, Install)')
    if 'numpy' in str(error).lower():
        text += ('; where NumPy 2 is beside modules that were built for NumPy 1, install with '
                 '-c constraints-ros.txt')
    return text


segmentation_node = partial(run, 'segmentation_node')
bag_recorder = partial(run, 'bag_recorder')
image_player = partial(run, 'image_player')
mask_viewer = partial(run, 'mask_viewer')
