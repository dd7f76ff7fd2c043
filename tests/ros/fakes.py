"""What stands in for the things around a part of the node."""

from collections.abc import Callable
import threading
import time

DEADLINE = 180
"""Seconds after which something that should happen is taken not to happen, on a busy machine."""


class Clock:
    """Stands for the module time: it is as late as a test says."""

    def __init__(self, now: float = 1000.0):
        self.now = now

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f'waited {DEADLINE} s in vain: {what}'
        threading.Event().wait(0.001)
