"""
Kill trainings at random moments, let them go on, and compare their results bit by bit.

    python benchmarks/kill_and_resume.py --kills 20

Synthetic worlds are learned from once without disturbance, by the `train` command on one CPU
thread. Then, for each kill, the same training starts in a new folder, gets SIGKILL at a moment
that is uniform over the undisturbed run's duration, and is started again until it finishes; every
other one is killed once more while it goes on. A kill may fall into the start-up, the
supervised-only networks, the joint training, a validation or the writing of a file.

Every file must be that of the undisturbed run, none more and none less: models, label embeddings,
evaluation, validation.csv, pictures, the last checkpoint, and log.csv but for its columns of time.
Only TensorBoard's events and curves.png, which show times, may differ. A good figure is all of
them: the last line says how many of the kills ended bit-equal, the exit status is 1 if not all.
"""

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import random
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
from univseg_core.demo.scenes.worlds import WORLDS, write_worlds
from univseg_core.files import LEFTOVER
from univseg_core.reporting.description import describe
from univseg_core.reporting.run_tables import read_losses

TIMES = {'data_wait', 'images_per_second', 'seconds_per_step'}
"""Columns of log.csv that no two runs share."""

# A checkpoint with each row of log.csv: a row that began before the kill is averaged anew whole.
SETTINGS = (
    'model.encoder=drn_d_22', 'model.width=0.0625', 'model.stride=8', 'model.embedding_dim=16',
    'data.image_size=96', 'data.crop_size=64', 'data.unlabelled_per_domain=1',
    'objective.alpha=0.1', 'objective.beta=0.1', 'objective.warmup_steps=20',
    'label_embeddings.pretrain_steps=40', 'training.steps=160',
    'training.accelerator=cpu', 'training.validate_every=20', 'training.checkpoint_every=10')


def main() -> int:
    """Run all trainings and print the table; return the exit status."""
    options = parse()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        write_worlds(top / 'worlds', train=12, labelled=8, validation=4, width=96, height=72,
                     progress=False)
        undisturbed = top / 'undisturbed'
        start_up, duration = time_of(training(undisturbed), undisturbed)
        print(f'undisturbed: {duration:.1f} s, of which {start_up:.1f} s of start-up',
              file=sys.stderr)
        print('| kill | after s | in the midst of | killed again after s | in the midst of | '
              'differs |\n|--:|--:|---|--:|---|---|', flush=True)
        equal = 0
        for number in range(1, options.kills + 1):
            run = top / str(number)
            moment = rng.uniform(0, duration)
            while not killed(training(run), moment):  # this one was faster
                shutil.rmtree(run)
                moment = rng.uniform(0, duration)
            cells = [f'{moment:.2f}', doing(run, moment < start_up), '', '']
            if number % 2 == 0:
                again = rng.uniform(0, start_up + duration - moment)
                if killed(training(run), again):
                    cells[2:] = [f'{again:.2f}', doing(run, again < start_up)]
            finish(training(run))
            wrong = differences(undisturbed, run)
            equal += not wrong
            print('|', ' | '.join([str(number), *cells, ', '.join(wrong) or 'nothing']), '|',
                  flush=True)
            shutil.rmtree(run)
    print(f'\n{equal} of {options.kills} bit-equal')
    return int(equal < options.kills)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20,
                        help='trainings to kill (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0,
                        help='decides the moments (default: %(default)s)')
    return parser.parse_args()


def training(run: Path) -> subprocess.Popen:
    """Start the training in a folder, or go on there; what it prints goes to a file beside it."""
    command = [sys.executable, '-m', 'univseg_core', 'train', 'train/scenes.yaml', '--run', run,
               *SETTINGS]
    variables = {'UNIVSEG_DATA': str(run.parent / 'worlds'), 'OMP_NUM_THREADS': '1'}
    with printed(run).open('ab') as output:
        return subprocess.Popen(command, env=os.environ | variables, stdin=subprocess.DEVNULL,
                                stdout=output, stderr=subprocess.STDOUT)


def printed(run: Path) -> Path:
    """Return the file of what a training prints."""
    return run.with_suffix('.txt')


def time_of(process: subprocess.Popen, run: Path) -> tuple[float, float]:
    """Return the seconds until a training claims its folder, and until it has finished."""
    since = time.monotonic()
    while not (run / 'config.yaml').exists() and process.poll() is None:
        time.sleep(0.01)
    start_up = time.monotonic() - since
    finish(process)
    return start_up, time.monotonic() - since


def finish(process: subprocess.Popen) -> None:
    """Wait for the end of a training, which must be a good one."""
    try:
        if process.wait() != 0:
            run = Path(process.args[process.args.index('--run') + 1])
            sys.exit(f'a training failed:\n{printed(run).read_text(encoding="utf-8")}')
    finally:
        process.kill()  # if this benchmark is interrupted
        process.wait()


def killed(process: subprocess.Popen, seconds: float) -> bool:
    """Kill a process after some seconds; return whether it was still running."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
    return process.wait() < 0


def doing(run: Path, starting: bool) -> str:
    """Return what a killed training was doing, as far as its files tell."""
    if starting or not (run / 'config.yaml').exists():
        return 'start-up'
    for name in WORLDS:
        folder = run / 'supervised' / name
        if not (folder / 'curves.png').exists():  # the last of its files
            return f'supervised-only {name}, {progress(folder)}'
    if not (run / 'label_embeddings.safetensors').exists():
        return 'label embeddings'
    return f'joint training, {progress(run)}'


def progress(folder: Path) -> str:
    """Return how far a network's training is."""
    checkpoint = folder / 'checkpoint.safetensors'
    saved = describe(checkpoint)['step'] if checkpoint.exists() else 0
    logged = int(max(read_losses(folder).get('step', [0])))
    text = f'before checkpoint {logged}' if logged > saved else f'after checkpoint {saved}'
    writing = [path.name.partition(LEFTOVER)[0][1:] + path.suffix
               for path in folder.glob(f'.*{LEFTOVER}*')]
    return ', '.join([text, *(f'writing {name}' for name in writing)])


def differences(undisturbed: Path, run: Path) -> Sequence[str]:
    """Return the files, relative to the runs' folders, that are not equal in both."""
    names = sorted({path.relative_to(top) for top in (undisturbed, run)
                    for path in top.rglob('*') if path.is_file()})
    return [str(name) for name in names
            if 'tensorboard' not in name.parts and name.name != 'curves.png'
            and not equal_files(undisturbed / name, run / name)]


def equal_files(one: Path, other: Path) -> bool:
    """Return whether two files are there and bit-equal, or hold the same losses."""
    if not (one.exists() and other.exists()):
        return False
    if one.name != 'log.csv':
        return one.read_bytes() == other.read_bytes()
    losses, others = (
        {name: column for name, column in read_losses(path.parent).items() if name not in TIMES}
        for path in (one, other))
    return losses.keys() == others.keys() and all(
        np.array_equal(losses[name], others[name], equal_nan=True) for name in losses)


if __name__ == '__main__':
    sys.exit(main())
