"""
End trainings in every way, and see that all their processes end soon, say why, and can go on.

    python benchmarks/ends_of_training.py                              all: an hour
    python benchmarks/ends_of_training.py --workers 1 --processes 2 --kinds 'kill -9 worker'

Each training, of small networks on synthetic worlds on the CPU, is the `train` command in a
session of its own. At its fifth step something ends it: from within (an error, a full disk) or
from outside (a signal to some of its processes). A row tells how long it took until no process of
the session was left, the exit status, whether the cause was named, and whether the same command
then went on to the end. A good figure is every row within 10 s, with its cause, gone on with: the
last line counts them, the exit status is 1 if one is not. Filling /dev/shm needs root.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
import ctypes
from dataclasses import dataclass
import os
from pathlib import Path
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, NoReturn

LIMIT = 10.0
"""Seconds in which all processes must have ended."""

HANGS = 40.0
"""Seconds after which a training is killed."""

EVENT_STEP = 5

SETTINGS = (
    'model.encoder=drn_d_22', 'model.width=0.0625', 'model.stride=8', 'model.embedding_dim=16',
    'data.image_size=96', 'data.crop_size=64', 'data.labelled_per_domain=2',
    'objective.consistency=0', 'training.steps=20', 'training.accelerator=cpu',
    'training.validate_every=10', 'training.checkpoint_every=2')


@dataclass(frozen=True)
class Kind:
    """
    A way in which a training ends.

    The name of what happens `within` its processes, or which of them (`first`, `further`,
    `worker`, `all`) get which `signals`; the exit status, and a text that names the cause.
    """

    name: str
    status: int
    cause: str
    within: str = ''
    to: str = ''
    signals: tuple[int, ...] = ()
    workers: bool = False
    further: bool = False


def by_signal(number: int, to: str, times: int = 1) -> Kind:
    """Return the end by a signal that the training takes and tells of."""
    name = signal.Signals(number).name
    return Kind(f'{name}{" twice" * (times > 1)} to {to}', 128 + number,
                name if times == 1 else '', to=to, signals=times * (number,))


KINDS = (
    by_signal(signal.SIGTERM, 'first'), by_signal(signal.SIGTERM, 'all'),
    by_signal(signal.SIGINT, 'all'), by_signal(signal.SIGINT, 'all', 2),
    by_signal(signal.SIGHUP, 'all'),
    Kind('kill -9 first', -signal.SIGKILL, '', to='first', signals=(signal.SIGKILL,)),
    Kind('kill -9 further', 1, 'SIGKILL', to='further', signals=(signal.SIGKILL,), further=True),
    Kind('SIGTERM further', 143, 'SIGTERM', to='further', signals=(signal.SIGTERM,),
         further=True),
    Kind('further stopped, SIGTERM', 143, 'SIGTERM', within='stop further', to='first',
         signals=(signal.SIGTERM,), further=True),
    Kind('kill -9 worker', 1, 'Killed', to='worker', signals=(signal.SIGKILL,), workers=True),
    Kind('segmentation fault of worker', 1, 'Segmentation fault', to='worker',
         signals=(signal.SIGSEGV,), workers=True),
    Kind('worker stopped, SIGTERM', 143, 'SIGTERM', within='stop worker', to='first',
         signals=(signal.SIGTERM,), workers=True),
    Kind('error in worker', 1, 'a fault of the benchmark', within='error in worker',
         workers=True),
    Kind('exit of worker', 1, 'exited unexpectedly', within='exit of worker', workers=True),
    Kind('error in step', 1, 'a fault of the benchmark', within='error in step'),
    Kind('error in step of further', 1, 'a fault of the benchmark', within='error in further',
         further=True),
    Kind('error where a row is logged', 1, 'a fault of the benchmark', within='error in log'),
    Kind('sys.exit in step', 7, '', within='exit in step'),
    Kind('os._exit in step', 7, '', within='os exit in step'),
    Kind('os._exit in step of further', 1, 'exit status 7', within='os exit in further',
         further=True),
    Kind('out of memory', 1, 'out of memory', within='memory'),
    Kind('full disk', 1, 'File too large|too large', within='disk'),
    Kind('SIGTERM in validation', 143, 'SIGTERM', within='slow validation', to='first',
         signals=(signal.SIGTERM,)),
    Kind('SIGTERM in start-up', 143, '', within='slow start', to='first',
         signals=(signal.SIGTERM,)),
    Kind('SIGTERM in a library', 143, 'SIGTERM', within='deaf', to='first',
         signals=(signal.SIGTERM,)),
    Kind('/dev/shm full', 1, 'shm-size', within='shm', workers=True),
)


def main() -> int:
    """Run all trainings and print the table; return the exit status."""
    options = parse()
    if options.child:
        child(options.child, options.marker, options.arguments)
    from univseg_core.demo.scenes.worlds import write_worlds

    wrong = rows = 0
    # A shell lets what it starts in the background ignore them, and so would the trainings.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        write_worlds(top / 'worlds', train=6, labelled=4, validation=4, width=96, height=72,
                     progress=False)
        print('| end | workers | processes | s | status | cause named | goes on |\n'
              '|---|--:|--:|--:|--:|---|---|', flush=True)
        for kind in (kind for kind in KINDS if not options.kinds or kind.name in options.kinds):
            for workers in options.workers:
                for processes in options.processes:
                    if (kind.workers and not workers) or (kind.further and processes == 1):
                        continue
                    row = measured(kind, top, workers, processes)
                    rows += 1
                    wrong += not row[-1]
                    print('|', ' | '.join(map(str, row[:-1])), '|', flush=True)
    print(f'\n{rows - wrong} of {rows} ended within {LIMIT:g} s, with the cause, and went on')
    return int(wrong > 0)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kinds', nargs='+', metavar='END', choices=[k.name for k in KINDS],
                        help=f'of: {", ".join(kind.name for kind in KINDS)} (default: all)')
    parser.add_argument('--workers', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--processes', nargs='+', type=int, default=[1, 2])
    parser.add_argument('--child', choices=[k.name for k in KINDS], help=argparse.SUPPRESS)
    parser.add_argument('--marker', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('arguments', nargs='*', help=argparse.SUPPRESS)
    return parser.parse_args()


def measured(kind: Kind, top: Path, workers: int, processes: int) -> list[Any]:
    """End a training; return the row of the table, and whether all is as it should be."""
    run = top / f'{kind.name.replace("/", " ").replace(".", "")}-{workers}-{processes}'.replace(
        ' ', '_')
    marker = run.with_suffix('.marker')
    command = ['train', 'train/scenes.yaml', '--run', str(run), f'training.workers={workers}',
               *SETTINGS]
    output = run.with_suffix('.txt')
    program = [sys.executable, __file__, '--child', kind.name, '--marker', str(marker), '--',
               *command, '--devices', str(processes)]
    if kind.within == 'shm':
        program = ['unshare', '-m', 'sh', '-c',
                   'mount -t tmpfs -o size=4k tmpfs /dev/shm && exec "$@"', 'sh', *program]
    with started(program, top, output) as process:
        while not marker.exists() and process.poll() is None:
            time.sleep(0.02)
        since = time.monotonic()
        send(kind, process.pid, marker)
        left = True
        while left and time.monotonic() - since < HANGS:
            time.sleep(0.02)
            status = process.poll()
            left = status is None or bool(of_session(process.pid))
        seconds = time.monotonic() - since
    text = output.read_text(encoding='utf-8', errors='replace')
    named = re.search(kind.cause, text) is not None
    with started([sys.executable, '-m', 'univseg_core', *command], top,
                 run.with_suffix('.again.txt')) as process:
        goes_on = process.wait() == 0 and (run / 'model.univseg').exists()
    return [kind.name, workers, processes, f'{seconds:.1f}' if not left else 'hangs', status,
            'yes' if named else f'no: {text[-200:]!r}', 'yes' if goes_on else 'no',
            not left and seconds < LIMIT and status == kind.status and named and goes_on]


@contextmanager
def started(program: list[str], top: Path, output: Path) -> Iterator[subprocess.Popen]:
    """Start a program in a session of its own; none of it outlives the block."""
    variables = {'UNIVSEG_DATA': str(top / 'worlds'), 'OMP_NUM_THREADS': '1'}
    with output.open('wb') as file:
        process = subprocess.Popen(program, env=os.environ | variables, stdin=subprocess.DEVNULL,
                                   stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        for pid in of_session(process.pid):
            with suppress(ProcessLookupError):  # it ends meanwhile
                os.kill(pid, signal.SIGKILL)
        process.wait()


def of_session(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text(encoding='utf-8', errors='replace').rpartition(')')[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != 'Z':
            found.append(int(path.parent.name))
    return found


def children(pid: int) -> list[int]:
    """Return a process's children, in the order in which they started."""
    path = Path(f'/proc/{pid}/task/{pid}/children')
    return [int(child) for child in path.read_text(encoding='ascii').split()]


def send(kind: Kind, first: int, marker: Path) -> None:
    """Send the signals of a kind to the processes that get them."""
    targets = [first]
    if kind.to == 'all':
        targets = of_session(first)
    elif kind.to in ('further', 'worker'):
        targets = [int(pid) for pid in marker.read_text(encoding='ascii').split()][:1]
    for number in kind.signals:
        for pid in targets:
            with suppress(ProcessLookupError):  # of one that the signal before has ended
                os.kill(pid, number)
        time.sleep(0.2)


def child(name: str, marker: Path, arguments: list[str]) -> NoReturn:
    """Train by the command, with the fault of a kind in it."""
    from univseg_core import cli
    from univseg_core.batches.stores import ImageStore
    from univseg_core.reporting.run_log import RunLog
    from univseg_core.training import run, step, trainer

    (kind,) = (kind for kind in KINDS if kind.name == name)
    rank, steps = int(os.environ.get('LOCAL_RANK', 0)), []

    def fail(what: str) -> None:
        raise ArithmeticError(f'a fault of the benchmark ({what})')

    def mark() -> None:
        """Tell the benchmark that it is time, and which processes it may want."""
        own = children(os.getpid())
        further = [pid for pid in own if b'--child' in Path(f'/proc/{pid}/cmdline').read_bytes()
                   and was_started_anew(pid)]
        chosen = further if kind.to == 'further' or 'further' in kind.within else [
            pid for pid in own if pid not in further]
        if kind.within.startswith('stop'):
            os.kill(chosen[0], signal.SIGSTOP)
        temporary = marker.with_suffix('.new')
        temporary.write_text(' '.join(map(str, chosen)), encoding='ascii')
        temporary.replace(marker)

    def was_started_anew(pid: int) -> bool:
        """Return whether a process is a program of its own, not forked as a worker is."""
        return b'LOCAL_RANK=' in Path(f'/proc/{pid}/environ').read_bytes()

    def around(function: Callable, before: Callable) -> Callable:
        def wrapped(*values: Any, **options: Any) -> Any:
            before()
            return function(*values, **options)
        return wrapped

    def at_step() -> None:
        steps.append(1)
        if len(steps) > EVENT_STEP:
            time.sleep(0.3)  # that signals find it at work
        if len(steps) != EVENT_STEP:
            return
        if rank == 0 and kind.within not in ('slow validation', 'slow start', 'shm'):
            mark()
        acts: dict[str, Callable[[], Any]] = {
            'error in step': lambda: rank or fail('step'),
            'error in further': lambda: rank and fail('step'),
            'exit in step': lambda: rank or sys.exit(7),
            'os exit in step': lambda: rank or os._exit(7),
            'os exit in further': lambda: rank and os._exit(7),
            'memory': lambda: rank or cannot_allocate(),
            'disk': lambda: rank or resource.setrlimit(
                resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY)),
            'deaf': lambda: rank or deaf(),
        }
        acts.get(kind.within, lambda: None)()

    def cannot_allocate() -> None:
        raise MemoryError

    def deaf() -> None:
        """Wait in a library, to which Python's handlers of signals are nothing."""
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):  # the second waits for ever
            ctypes.CDLL(None).pthread_mutex_lock(mutex)

    def at_read() -> None:
        if marker.exists() and kind.within == 'error in worker':
            fail('worker')
        if marker.exists() and kind.within == 'exit of worker':
            os._exit(3)

    def slowly() -> None:
        if rank == 0:
            mark()
        time.sleep(HANGS)

    step.batch_losses = around(step.batch_losses, at_step)
    ImageStore.__getitem__ = around(ImageStore.__getitem__, at_read)  # type: ignore
    if kind.within == 'error in log':
        RunLog.losses = around(RunLog.losses,  # type: ignore[method-assign]
                               lambda: len(steps) >= EVENT_STEP and fail('log'))
    if kind.within == 'slow validation':
        trainer.validate = around(trainer.validate, slowly)
    if kind.within == 'slow start':
        run.prepare_stores = around(run.prepare_stores, slowly)
    cli.run(arguments)


if __name__ == '__main__':
    sys.exit(main())
