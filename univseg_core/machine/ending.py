"""The end of a process that nothing can put off, and of those that must not outlive it."""

from collections.abc import Sequence
from contextlib import suppress
import ctypes
import os
import select
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1  # of linux/prctl.h

further: list[subprocess.Popen] = []
"""Processes that this one has started, and that end with it also where it ends by force."""

STARTED_BY = 'UNIVSEG_STARTED_BY'
"""The environment variable that tells a process the id of the one that it is to end with."""


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """
    Have the kernel send this process a signal when its parent, of that process id, has ended.

    However it ended: a SIGKILL leaves it no time to tell. Linux alone can do that.
    """
    if sys.platform != 'linux':
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it had ended before
        os.kill(os.getpid(), number)


def end_with_starter(number: int) -> None:
    """Get a signal when the process has ended that STARTED_BY names, if it names one."""
    starter = os.environ.pop(STARTED_BY, None)  # what this one starts has another
    if starter is not None:
        die_with_parent(int(starter), number)


def end_by_force(status: int, reason: str) -> None:
    """
    Tell why on standard error, kill `further`, and end this process at once, from any thread.

    Nothing is cleaned up. A standard error that takes nothing, as its reader is stuck, is done
    without.
    """
    with suppress(OSError):  # of one that is closed
        if select.select([], [2], [], 0)[1]:
            os.write(2, f'\n{reason}\n'.encode()[:select.PIPE_BUF])
    for each in further:
        each.kill()
    for each in further:  # one that waits for a dead disk may not even end by a kill
        with suppress(subprocess.TimeoutExpired):
            each.wait(1)
    os._exit(status)


def kill_all(processes: Sequence[subprocess.Popen]) -> None:
    """Kill processes, and wait for them."""
    for each in processes:
        each.kill()
    for each in processes:
        each.wait()


def status_in_words(status: int) -> str:
    """Return what a process's exit status says, as `subprocess` gives it."""
    if status >= 0:
        return f'exit status {status}'
    with suppress(ValueError):
        return f'killed by {signal.Signals(-status).name}'
    return f'killed by signal {-status}'
