"""Ctrl-C between two steps, not in the midst of one."""

from collections.abc import Iterator
from contextlib import contextmanager
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def deferred_interrupts() -> Iterator[threading.Event]:
    """
    Yield an event that is set when SIGINT, SIGTERM or SIGHUP comes, instead of interrupting.

    A second signal interrupts at once. SIGHUP, of a terminal that is closed, stays ignored where
    it is (nohup). Outside the main thread, where Python delivers no
    signals, the event is never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    old = {number: signal.signal(number, note) for number in SIGNALS
           if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
