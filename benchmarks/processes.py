"""
Measure how much faster two CPU processes train than one, and whether they learn the same.

    python benchmarks/processes.py --steps 100

Synthetic worlds are learned from by the `train` command with --devices 1 and then --devices 2,
with one thread each, the same configuration and so the same crops in each step. Steps a second
are the inverse of the median of log.csv's seconds_per_step without its first row; the wait for
data is a share of them. The processes' losses are to be the same but for rounding: the table has
the largest difference of their means over 10 steps, up to step 50.

A good figure is a ratio of 1.7 or more, of 2 that are possible, and a difference that is small
beside the loss, which begins at about 5 nats. It takes as many idle cores as processes: give them
by taskset, `taskset -c 2,3 python benchmarks/processes.py`; each process then keeps to its own.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import subprocess
import sys
import tempfile

import numpy as np
from univseg_core.demo.scenes.worlds import write_worlds
from univseg_core.reporting.run_tables import read_losses

CONFIGURATIONS = {
    'compact': ('model.encoder=drn_d_22', 'model.stride=8', 'model.width=0.25',
                'data.image_size=240', 'data.crop_size=160', 'data.labelled_per_domain=4',
                'data.unlabelled_per_domain=4'),
    'full': ('model.encoder=drn_d_22', 'model.stride=8', 'model.width=1.0',
             'data.image_size=null', 'data.crop_size=256', 'data.labelled_per_domain=3',
             'data.unlabelled_per_domain=1'),
    'pretrained': ('data.image_size=240', 'data.crop_size=160', 'data.labelled_per_domain=4',
                   'data.unlabelled_per_domain=1'),
}
"""
Settings of DRN-D-22 at the size of camvid_nyuv2_compact.yaml, and at full width and size; and of
EfficientNet-Lite0 at stride 4, which train/scenes.yaml has.
"""

COMMON = ('objective.alpha=0.1', 'objective.beta=0.1', 'objective.warmup_steps=0',
          'objective.consistency=0', 'objective.class_balance=0',
          'training.accelerator=cpu', 'training.precision=32-true',
          'training.validate_every=1000000', 'training.checkpoint_every=1000000')

OPTIMISERS = {
    'AdamW, one cycle': ('training.learning_rate=0.003',),
    'SGD, polynomial': ('training.optimizer=sgd', 'training.schedule=polynomial',
                        'training.learning_rate=0.001'),
}

COMPARED = 50
"""Steps over which the losses of one process and of several are compared."""

# The command itself, which also starts the further processes by its own name.
PINNED = """
import os, sys
from univseg_core.cli import main
cores = {cores}
os.sched_setaffinity(0, {{cores[int(os.environ.get('LOCAL_RANK', 0)) % len(cores)]}})
sys.exit(main())
"""


@dataclass(frozen=True)
class Figures:
    """What the log of a training says: steps a second, wait for data, loss of each 10 steps."""

    rate: float
    wait: float
    loss: np.ndarray


def main() -> None:
    """Run all trainings and print the table."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        write_worlds(top / 'worlds', train=40, labelled=20, validation=2, width=480, height=360)
        command = pinned_command(top) if options.pin else [sys.executable, '-m', 'univseg_core']
        settings = [*CONFIGURATIONS[options.config], *COMMON]
        # So that the trainings that are measured need no supervised-only networks.
        first = top / 'embeddings'
        train(command, first, 1, [*settings, 'training.steps=1',
                                  'label_embeddings.pretrain_steps=10'])
        settings += [f'training.steps={options.steps}',
                     f'label_embeddings.file={first / "label_embeddings.safetensors"}']
        print(f'{options.config}, {options.steps} steps:\n\n'
              '| optimiser | processes | steps/s | ratio | wait for data, % | first loss | '
              'largest difference |\n|---|--:|--:|--:|--:|--:|--:|', flush=True)
        for name, optimiser in OPTIMISERS.items():
            alone = None
            for devices in (1, options.processes):
                run = top / f'{name}, {devices}'
                train(command, run, devices, [*settings, *optimiser])
                found = figures(run)
                alone = alone or found
                difference = np.abs(found.loss - alone.loss).max()
                print(f'| {name} | {devices} | {found.rate:.3g} | {found.rate / alone.rate:.2f} '
                      f'| {100 * found.wait:.1f} | {found.loss[0]:.3f} | {difference:.1e} |',
                      flush=True)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=int, default=100,
                        help='of each training, 20 or more (default: %(default)s)')
    parser.add_argument('--config', choices=CONFIGURATIONS, default='compact',
                        help='compact: DRN-D-22 × 0.25, crops of 160 pixels, 4 labelled and 4 '
                             'unlabelled of each domain; full: × 1, 256 pixels, 3 and 1; '
                             'pretrained: EfficientNet-Lite0, 160 pixels, 4 and 1 '
                             '(default: %(default)s)')
    parser.add_argument('--processes', type=int, default=2,
                        help='to compare with one (default: %(default)s)')
    parser.add_argument('--pin', action=argparse.BooleanOptionalAction,
                        default=hasattr(os, 'sched_setaffinity'),
                        help='keep each process on a core of its own (default: on Linux)')
    options = parser.parse_args()
    if options.steps < 20:
        parser.error('--steps: expected 20 or more: the first 10 are not counted')
    return options


def pinned_command(folder: Path) -> list[str]:
    """Return a command that is `univseg`, each of whose processes keeps to one core."""
    script = folder / 'univseg.py'
    script.write_text(PINNED.format(cores=sorted(os.sched_getaffinity(0))), encoding='utf-8')
    return [sys.executable, str(script)]


def train(command: Sequence[str], run: Path, devices: int, settings: Sequence[str]) -> None:
    """Train in a folder; its progress goes to stderr."""
    print(f'\n{run.name} …', file=sys.stderr)
    variables = {'UNIVSEG_DATA': str(run.parent / 'worlds'), 'OMP_NUM_THREADS': '1'}
    subprocess.run([*command, 'train', 'train/scenes.yaml', '--run', str(run), '--devices',
                    str(devices), *settings], env=os.environ | variables,
                   stdout=sys.stderr, check=True)


def figures(run: Path) -> Figures:
    """Return what a finished training's log says."""
    losses = read_losses(run)
    seconds = losses['seconds_per_step'][1:]
    return Figures(1 / np.median(seconds), np.median(losses['data_wait'][1:] / seconds),
                   losses['loss'][losses['step'] <= COMPARED])


if __name__ == '__main__':
    main()
