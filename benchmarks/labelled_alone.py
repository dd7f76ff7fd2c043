"""
Repeat runs that learned from unlabelled images with their labelled images in the place of these.

    python benchmarks/labelled_alone.py \
        runs/camvid_nyuv2_then_unlabelled/n25/seed*/then_teacher --out runs/labelled_alone

What a run gained beside that came of its unlabelled images, and not of its loss alone. Each run is
trained again by its config.yaml, of domains in plain folders. The mIoU of each domain, in %.
"""

import argparse
from pathlib import Path

from measured_labels.linked_folder import linked_folder
import torch
from univseg_core.batches.labelled_images import run_samples
from univseg_core.settings.config import load_config, RunConfig
from univseg_core.training.run import train


def main() -> None:
    """Train one run after the other, and print a row of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', type=Path, help='folders of finished runs')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default: 1)')
    parser.add_argument('--out', type=Path, default=Path('runs/labelled_alone'),
                        help='folder for the runs (default: runs/labelled_alone)')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for number, run in enumerate(options.runs):
        folder = options.out / str(number)
        results = train(of_labelled_alone(run, folder / 'data'), folder / 'run')
        print(f'| {run} | ' + ' | '.join(f'{name} {100 * result.miou:.2f}'
                                         for name, result in results.items()) + ' |', flush=True)


def of_labelled_alone(run: Path, folder: Path) -> RunConfig:
    """Return a run's configuration with its labelled images, linked in a folder, as all images."""
    values = load_config(run / 'config.yaml').model_dump(mode='json')
    for name, section in values['domains'].items():
        section |= linked_folder(run_samples(run, name), (folder / name).resolve())
        section |= {'train_also': [], 'unlabelled': [], 'labelled_also_unlabelled': True}
    return RunConfig.model_validate(values)


if __name__ == '__main__':
    main()
