"""An end by SIGINT or SIGTERM that is no error."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import signal

import rclpy


@contextmanager
def ros_until_signal(args: Sequence[str] | None = None) -> Iterator[None]:
    """
    Initialise ROS for a block, and shut it down after it.

    A signal ends the block without an exception, also in the midst of a callback.
    """
    rclpy.init(args=args)
    try:
        yield
    except KeyboardInterrupt:
        pass
    except Exception:
        # Once a signal has shut ROS down, whatever still uses it raises one thing or another.
        if rclpy.ok():
            raise
    finally:
        # Ctrl-C under `ros2 launch` comes twice: from the terminal and from launch.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        rclpy.try_shutdown()
