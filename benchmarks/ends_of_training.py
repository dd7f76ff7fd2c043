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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from ended_training.fault import Fault, HANGS
from ended_training.kinds import Kind, KINDS

LIMIT = 10.0
"""Seconds in which all processes must have ended."""

SETTINGS = (
    'model.encoder=drn_d_22', 'model.width=0.0625', 'model.stride=8', 'model.embedding_dim=16',
    'data.image_size=96', 'data.crop_size=64', 'data.labelled_per_domain=2',
    'objective.consistency=0', 'training.steps=20', 'training.accelerator=cpu',
    'training.validate_every=10', 'training.checkpoint_every=2')


def main() -> int:
    """Run all trainings and print the table; return the exit status."""
    options = parse()
    if options.child:
        kind, = (kind for kind in KINDS if kind.name == options.child)
        Fault(kind, options.marker).train(options.arguments)
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


if __name__ == '__main__':
    sys.exit(main())
