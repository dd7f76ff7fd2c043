"""Runs → processes, some at a time, each when what it needs is there."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, ExitStack
import fcntl
import logging
import os
from pathlib import Path
import re
import subprocess
import sys
import time
from typing import IO

from univseg_core.files import write_text
from univseg_core.machine.ending import STARTED_BY, status_in_words
from univseg_core.progress import is_quiet, progress_bar, say
from univseg_core.research.plan import ExperimentError, Run
from univseg_core.training.interrupts import deferred_interrupts, Interrupted
import yaml

TRAIN = (sys.executable, '-m', 'univseg_core', 'train')
"""The command that trains; a configuration's path and --run FOLDER follow."""

OUTPUT = 'output.log'
"""What a run prints, where several go on at a time."""

LOCK = '.experiment.lock'
"""What a command holds in the folder of an N and seed."""

RUNS_SAVE = 3600
"""Seconds within which the runs, which have limits of their own, surely have ended."""

STDERR = 2
"""The number of standard error, which a child process can be given."""

POLL_SECONDS = 0.2
LAST_LINES = 8

log = logging.getLogger(__name__)


def execute(runs: Sequence[Run], *, jobs: int = 1, devices: int | None = None,
            command: Sequence[str] = TRAIN) -> None:
    """
    Run what is not finished, `jobs` at a time, each as a process of its own.

    One alone shows its own progress; of several, each prints to output.log in its run folder, and
    has one CPU thread unless OMP_NUM_THREADS says otherwise. Ctrl-C, SIGTERM and a closed terminal
    let each save where it stands and raise KeyboardInterrupt; a second one stops them at once.
    A SIGKILL of this process, too, lets them save and end.
    Where a run fails, the others are stopped in the same way and ExperimentError says why; so it
    does, before anything runs, where another command executes runs of the same N and seed.
    """
    waiting = [run for run in runs if not run.is_finished]
    finished = {run.folder for run in runs if run.is_finished}
    running: dict[Run, subprocess.Popen] = {}
    with deferred_interrupts() as interrupted, ExitStack() as stack:
        interrupted.allow(RUNS_SAVE)
        for folder in sorted({run.seed_folder for run in runs}):
            stack.enter_context(_claimed(folder))
        bar = progress_bar(total=len(runs), initial=len(finished), unit='run', smoothing=0,
                           dynamic_ncols=True, disable=jobs == 1)
        stack.enter_context(bar)
        stack.callback(lambda: _stop(running.values()))
        while waiting or running:
            ready = [run for run in waiting if finished.issuperset(run.needs)]
            for run in ready[:jobs - len(running)]:
                waiting.remove(run)
                number = len(runs) - len(waiting)
                say(f'{run.folder} ({number} of {len(runs)})')
                running[run] = _start(run, jobs > 1, devices, command)
            interrupted.wait(POLL_SECONDS)
            if interrupted.is_set():
                raise Interrupted(interrupted.number)
            for run in [run for run, process in running.items() if process.poll() is not None]:
                _check(run, running.pop(run), jobs > 1)
                finished.add(run.folder)
                bar.update()


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold a folder of runs; the kernel lets go of it when this process ends, however it does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open('w') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ExperimentError(f'{folder}: another experiment is going on in this folder; wait '
                                  'for it, or stop it with Ctrl-C') from None
        except OSError as error:  # a network file system that has no locks
            log.info('%s: cannot be locked (%s)', folder, error.strerror)
        yield


def _start(run: Run, to_file: bool, devices: int | None,
           command: Sequence[str]) -> subprocess.Popen:
    write_text(run.config_file, yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True))
    arguments = [*command, str(run.config_file), '--run', str(run.folder)]
    if devices is not None:
        arguments += ['--devices', str(devices)]
    if is_quiet() and not to_file:
        arguments.append('--quiet')
    if log.isEnabledFor(logging.DEBUG):
        arguments.append('--verbose')
    results: IO | int = subprocess.DEVNULL if is_quiet() else STDERR  # stdout is the table's
    notes: IO | int = STDERR
    environment = os.environ | {STARTED_BY: str(os.getpid())}
    with ExitStack() as stack:
        if to_file:
            environment.setdefault('OMP_NUM_THREADS', '1')
            run.folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((run.folder / OUTPUT).open('a', encoding='utf-8'))
            print(f'--- {time.strftime("%Y-%m-%d %H:%M:%S")}', file=file, flush=True)
            results = notes = file
        # In a session of its own: a terminal's Ctrl-C reaches it through us alone, and once.
        return subprocess.Popen(arguments, env=environment, stdout=results, stderr=notes,
                                start_new_session=True)


def _check(run: Run, process: subprocess.Popen, to_file: bool) -> None:
    """Raise ExperimentError, with what the run said last, where it did not end well."""
    if process.returncode == 0 and run.is_finished:
        return
    what = (f'failed ({status_in_words(process.returncode)})' if process.returncode
            else 'ended without model.univseg and evaluation.json')
    if not to_file:
        raise ExperimentError(f'{run.folder} {what}; what it wrote above says why')
    path = run.folder / OUTPUT
    raise ExperimentError('\n  '.join([f'{run.folder} {what}; the end of {path}:',
                                       *_last_lines(path)]))


def _last_lines(path: Path) -> list[str]:
    """Return the last lines that the newest start of a run left, without progress bars."""
    text = path.read_bytes().decode('utf-8', errors='replace')  # no newline for a \r
    text = re.split(r'^--- .*$', text, flags=re.MULTILINE)[-1]
    lines = [line.rpartition('\r')[2].rstrip() for line in text.split('\n')]
    return [line for line in lines if line][-LAST_LINES:]


def _stop(processes: Iterable[subprocess.Popen]) -> None:
    """
    Let processes save where they stand, and wait for them; at a second Ctrl-C, do not.

    By SIGTERM: SIGINT would be ignored where this process was started in a script's background.
    """
    processes = list(processes)
    if processes:
        log.warning('%d runs save where they stand; a second Ctrl-C does not wait',
                    len(processes))
    for process in processes:
        process.terminate()
    try:
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        raise
