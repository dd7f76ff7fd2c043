"""
Signals that end a program: between two steps of the work, or at once, but always.

Python hands a signal to the main thread when that runs Python code. One that waits in a library,
for another process or for a disk, would never take it: a thread waits for signals, too, and ends
the process by force where its main thread does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import os
import select
import signal
import threading
import time
from types import FrameType

from univseg_core.machine.ending import end_by_force

END = b'\0'
"""What ends the watch of signals, in place of a signal's number."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

GRACE = 7.0
"""Seconds in which a process can end after a signal before it is ended by force."""

IMPATIENCE = 2.0
"""Seconds that it has after a second signal."""


class Interrupted(KeyboardInterrupt):
    """A signal has asked this program to end; `status` is the exit status that tells which."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class Request(threading.Event):
    """Whether a signal, `number`, has asked for the end of the work."""

    def __init__(self) -> None:
        super().__init__()
        self.number: int = signal.SIGTERM
        self.patience = GRACE
        self._at_once = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note a signal: a first one, unless it is to be taken `at_once`, raises nothing."""
        again = self.is_set()
        if not again:
            self.number = number
            self.set()
        if again or self._at_once:
            raise Interrupted(self.number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise Interrupted as soon as a signal comes within the block, or has come before."""
        if self.is_set():
            raise Interrupted(self.number)
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @contextmanager
    def later(self) -> Iterator[None]:
        """Within a block of `at_once`, raise no earlier than at the end of this one."""
        self._at_once = False
        yield
        self._at_once = True
        if self.is_set():
            raise Interrupted(self.number)

    def allow(self, seconds: float) -> None:
        """Give the work time to end by itself: twice what a part of it, so far, has taken."""
        self.patience = max(self.patience, 2 * seconds)


_watches: list[int] = []
"""The file descriptors by which signals wake the threads that wait for them."""


def _watch_no_child() -> None:
    """Let a forked child's signals, by which a library may end it, be no signals of its parent."""
    if _watches:
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_watch_no_child)

_requests: list[Request] = []
"""Those that take signals now, the last one first."""


@contextmanager
def deferred_interrupts() -> Iterator[Request]:
    """
    Yield an event that is set when SIGINT, SIGTERM or SIGHUP comes, instead of interrupting.

    A second signal interrupts at once. SIGHUP, of a terminal that is closed, stays ignored where
    it is (nohup). Outside the main thread, where Python delivers no signals, the event is never
    set.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    with _taken_by(request.note):
        _requests.append(request)
        try:
            yield request
        finally:
            _requests.pop()


def is_ending() -> bool:
    """Say whether a signal has come that the process ends by."""
    return any(request.is_set() for request in _requests)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """
    Let SIGINT, SIGTERM and SIGHUP raise Interrupted; end the process where they cannot.

    Without an end of the block within GRACE seconds, or what `deferred_interrupts` has been
    allowed, the process ends by force, with the exit status that the signal gives it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watch = threading.Thread(target=_watch, args=(reader,), daemon=True, name='signals')
    with _taken_by(interrupt):
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        _watches.append(writer)
        watch.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            _watches.remove(writer)
            os.write(writer, END)  # forked children may hold the pipe open
            watch.join()
            os.close(writer)


@contextmanager
def _taken_by(handler: object) -> Iterator[None]:
    """Have a handler take the signals, but for those that are ignored."""
    old = {number: signal.signal(number, handler) for number in SIGNALS  # type: ignore[arg-type]
           if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, its in old.items():
            signal.signal(number, its)


def _watch(reader: int) -> None:
    """End the process by force some time after a signal's number has come; until the pipe ends."""
    first, until = 0, None
    while True:
        left = None if until is None else max(0.0, until - time.monotonic())
        if not select.select([reader], [], [], left)[0]:
            name = signal.Signals(first).name
            end_by_force(128 + first, f'univseg: {name}: something did not end in time: ended by '
                                      'force. What was saved before is whole')
        numbers = os.read(reader, 64)
        if END in numbers:
            os.close(reader)
            return
        for number in numbers:
            if number not in SIGNALS:  # of a child that has ended
                continue
            patience = _requests[-1].patience if _requests else GRACE
            until = time.monotonic() + (IMPATIENCE if first else patience)
            first = first or number
