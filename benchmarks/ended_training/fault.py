"""What ends a training from within, at one of its steps, or tells that a signal may end it now."""

from collections.abc import Callable
import ctypes
import os
from pathlib import Path
import resource
import signal
import sys
import time
from typing import Any, NoReturn

from ended_training.kinds import Kind

HANGS = 40.0
"""Seconds after which a training is killed."""

EVENT_STEP = 5
"""The step at which it happens."""


class Fault:
    """
    The end of a training by a kind, in each of its processes.

    `marker` is the file that says that it is time for signals, and which processes may get them.
    """

    def __init__(self, kind: Kind, marker: Path):
        self._kind, self._marker = kind, marker
        self._is_first = int(os.environ.get('LOCAL_RANK', 0)) == 0
        self._steps = 0

    def train(self, arguments: list[str]) -> NoReturn:
        """Train by the command, with the fault in it."""
        from univseg_core import cli
        from univseg_core.batches.stores import ImageStore
        from univseg_core.reporting.run_log import RunLog
        from univseg_core.training import run, step, trainer

        step.batch_losses = _after(self._at_step, step.batch_losses)
        ImageStore.__getitem__ = _after(self._at_read, ImageStore.__getitem__)  # type: ignore
        if self._kind.within == 'error in log':
            RunLog.losses = _after(self._at_row, RunLog.losses)  # type: ignore[method-assign]
        if self._kind.within == 'slow validation':
            trainer.validate = _after(self._linger, trainer.validate)
        if self._kind.within == 'slow start':
            run.prepare_stores = _after(self._linger, run.prepare_stores)
        cli.run(arguments)

    def _at_step(self) -> None:
        self._steps += 1
        if self._steps > EVENT_STEP:
            time.sleep(0.3)  # that signals find it at work
        if self._steps != EVENT_STEP:
            return
        within = self._kind.within
        if self._is_first and within not in ('slow validation', 'slow start', 'shm'):
            self._mark()
        of_first: dict[str, Callable[[], Any]] = {
            'error in step': lambda: _fail('step'),
            'exit in step': lambda: sys.exit(7),
            'os exit in step': lambda: os._exit(7),
            'memory': _cannot_allocate,
            'disk': lambda: resource.setrlimit(resource.RLIMIT_FSIZE,
                                               (20_000, resource.RLIM_INFINITY)),
            'deaf': _wait_in_a_library}
        of_further: dict[str, Callable[[], Any]] = {
            'error in further': lambda: _fail('step'),
            'os exit in further': lambda: os._exit(7)}
        (of_first if self._is_first else of_further).get(within, lambda: None)()

    def _at_read(self) -> None:
        if self._marker.exists() and self._kind.within == 'error in worker':
            _fail('worker')
        if self._marker.exists() and self._kind.within == 'exit of worker':
            os._exit(3)

    def _at_row(self) -> None:
        if self._steps >= EVENT_STEP:
            _fail('log')

    def _linger(self) -> None:
        if self._is_first:
            self._mark()
        time.sleep(HANGS)

    def _mark(self) -> None:
        """Tell the benchmark that it is time, and which processes it may want."""
        own = _children(os.getpid())
        further = [pid for pid in own if b'--child' in Path(f'/proc/{pid}/cmdline').read_bytes()
                   and _was_started_anew(pid)]
        chosen = further if 'further' in (self._kind.to, *self._kind.within.split()) else [
            pid for pid in own if pid not in further]
        if self._kind.within.startswith('stop'):
            os.kill(chosen[0], signal.SIGSTOP)
        temporary = self._marker.with_suffix('.new')
        temporary.write_text(' '.join(map(str, chosen)), encoding='ascii')
        temporary.replace(self._marker)


def _after(before: Callable[[], None], function: Callable) -> Callable:
    """Return a function that does something else first."""
    def wrapped(*values: Any, **options: Any) -> Any:
        before()
        return function(*values, **options)
    return wrapped


def _fail(what: str) -> None:
    raise ArithmeticError(f'a fault of the benchmark ({what})')


def _cannot_allocate() -> None:
    raise MemoryError


def _wait_in_a_library() -> None:
    """Wait for ever in a library, to which Python's handlers of signals are nothing."""
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):  # the second waits
        ctypes.CDLL(None).pthread_mutex_lock(mutex)


def _children(pid: int) -> list[int]:
    """Return a process's children, in the order in which they started."""
    path = Path(f'/proc/{pid}/task/{pid}/children')
    return [int(child) for child in path.read_text(encoding='ascii').split()]


def _was_started_anew(pid: int) -> bool:
    """Return whether a process is a program of its own, not forked as a worker is."""
    return b'LOCAL_RANK=' in Path(f'/proc/{pid}/environ').read_bytes()
