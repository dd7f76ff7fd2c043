"""Processes that start at once, as they have no packages to import; Linux and macOS alone fork."""

from contextlib import contextmanager, suppress
from functools import partial
import multiprocessing
from multiprocessing.context import ForkProcess
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import torch
from univseg_core.training import launching


def forkserver():
    """Return what starts processes: its server has imported what a training needs."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['univseg_core.training.run'])
    return context


class Further(ForkProcess):
    """What stands for subprocess.Popen where a training starts its further processes."""

    def __init__(self, program, command, env):
        super().__init__()
        self._program, self._env = program, env
        self.start()

    def run(self):
        """Run the program anew, in its own environment."""
        os.environ.clear()
        os.environ.update(self._env)
        sys.exit(self._program())

    def poll(self):
        """Return the exit status, or None before the end."""
        return self.exitcode

    def wait(self, timeout=None):
        """Return the exit status; raise TimeoutExpired where there is none in time."""
        self.join(timeout)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired(self.name, timeout)
        return self.exitcode


def run_as_program(folder, call, arguments):
    """Call a function in a process group of its own, and so in its trainings' processes."""
    os.setsid()
    for name, descriptor in (('stdout', 1), ('stderr', 2)):
        with (folder / name).open('w') as file:
            os.dup2(file.fileno(), descriptor)
    torch.set_num_threads(1)
    program = partial(call, *arguments)
    launching.subprocess = SimpleNamespace(**vars(subprocess) | {'Popen': partial(
        Further, program)})
    sys.exit(program())


@contextmanager
def forked(folder, call, *arguments):
    """
    Run a function that returns an exit status as if it were a program, in a process group.

    It is to be a module's own; trainings in it fork their further processes. Output goes to the
    folder's files stdout and stderr. No process outlives this.
    """
    process = forkserver().Process(target=run_as_program, args=(folder, call, arguments))
    process.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
