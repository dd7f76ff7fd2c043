"""
Measure `univseg labels check`: how many label maps that were made wrong it ranks first.

    python benchmarks/label_check.py others CONFIG --model RUN --seeds 0 1 2 3 4
    python benchmarks/label_check.py own CONFIG --labels 100 --seeds 0 --out runs/label_check

Of 5 % of a domain's labelled images, a region each (a connected component of the label map that
has at least 1 % of its pixels) gets another class of the domain, both at random.

others  The labels are all those that a finished run of the configuration has not learned from.
own     A run of the configuration is trained on the corrupted labels, and ranks them itself.

The share of these images among the tenth that is ranked first, in all and by the region's share of
the pixels; and where images are ranked by cleanlab's score instead, the softmin of the label's
probability over the pixels (temperature 0.1).
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
from measured_labels.linked_folder import linked_folder
import numpy as np
from scipy.special import softmax
import torch
from univseg_core.batches.labelled_images import run_samples
from univseg_core.batches.parts import samples_of, with_labels
from univseg_core.batches.splits import choose_labelled
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.inference.segmenter import Segmenter
from univseg_core.labelling.contradictions import Contradiction, contradictions
from univseg_core.pictures.images import resize_label, write_png
from univseg_core.progress import progress_bar
from univseg_core.settings.config import load_config, RunConfig
from univseg_core.training.run import train

SHARE, FIRST, LEAST = 0.05, 0.1, 0.01
"""Of the images: corrupted ones, and those ranked first; of the pixels: a region, at least."""

SIZES = (LEAST, 0.02, 0.05, 0.1, 1.0)
"""Shares of the pixels between which regions are told apart."""


def main() -> None:
    """Run one of the measurements and print its tables."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('part', choices=('others', 'own'))
    parser.add_argument('config', help='a configuration')
    parser.add_argument('overrides', nargs='*', help='settings to change, KEY=VALUE')
    parser.add_argument('--model', type=Path, help='of others: the folder of a finished run')
    parser.add_argument('--labels', type=int, help='of own: so many of each domain, not all')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='of the corruption')
    parser.add_argument('--out', type=Path, default=Path('runs/label_check'),
                        help='folder for what it makes')
    options = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    config = load_config(options.config, options.overrides)
    rows: dict[str, list] = {}
    for seed in options.seeds:
        for name, found in (of_others if options.part == 'others' else of_its_own)(
                options, config, seed).items():
            rows.setdefault(name, []).extend(found)
    sizes = [f'{100 * low:g} to {100 * high:g} %' for low, high in pairwise(SIZES)]
    print(f'| domain | corrupted | found | region, too | softmin | {" | ".join(sizes)} |')
    print('|---|' + '--:|' * (4 + len(sizes)))
    for name, found in rows.items():
        table = np.array(found)
        bins = np.digitize(table[:, 0], SIZES)
        cells = [f'{100 * table[bins == i, 1].mean():.0f} ({(bins == i).sum()})'
                 if (bins == i).any() else '' for i in range(1, len(SIZES))]
        means = [f'{100 * column.mean():.1f}' for column in table.T[1:]]
        print(f'| {name} | {len(table)} | {" | ".join(means)} | {" | ".join(cells)} |')


def of_others(options: argparse.Namespace, config: RunConfig, seed: int) -> dict[str, list]:
    """Return what is found of corrupted labels by a model that has learned from other ones."""
    segmenter, found = _segmenter(options.model), {}
    for name, section in config.domains.items():
        learned = set(run_samples(options.model, name))
        samples = [sample for sample in with_labels(samples_of(name, section, 'train'))
                   if sample not in learned]
        found[name] = _found(segmenter, name, samples,
                             _made(samples, segmenter.domains[name], seed,
                                   options.out / f'others_{seed}' / name))
    return found


def of_its_own(options: argparse.Namespace, config: RunConfig, seed: int) -> dict[str, list]:
    """Train on corrupted labels, and return what that model finds of them."""
    folder = (options.out / f'{options.labels or "all"}_{seed}').resolve()
    values, samples, made = config.model_dump(mode='json'), {}, {}
    for name, section in config.domains.items():
        samples[name] = choose_labelled(with_labels(samples_of(name, section, 'train')),
                                        options.labels, name, seed)
        made[name] = _made(samples[name], config.domain(name), seed, folder / name / 'corrupted')
        values['domains'][name] |= linked_folder(_now(samples[name], made[name]), folder / name)
    values['training']['seed'] = seed
    train(RunConfig.model_validate(values), folder / 'run')
    segmenter = _segmenter(folder / 'run')
    return {name: _found(segmenter, name, samples[name], made[name]) for name in samples}


@cache
def _segmenter(run: Path) -> Segmenter:
    return Segmenter.load(run / 'model.univseg', precision='fp32', device='cpu')


def corrupted(label: np.ndarray, classes: int, generator: np.random.Generator
              ) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a label map (H, W) with a region of another class, and the region (H, W) bool."""
    regions = []
    for each in np.unique(label[label != IGNORE_INDEX]):
        count, numbers, stats, _ = cv2.connectedComponentsWithStats((label == each).view(np.uint8))
        regions += [(each, numbers == n) for n in range(1, count)
                    if stats[n, cv2.CC_STAT_AREA] >= LEAST * label.size]
    if not regions:
        return None
    was, region = regions[generator.integers(len(regions))]
    became = generator.choice([c for c in range(classes) if c != was])
    return np.where(region, became, label).astype(np.uint8), region


def _made(samples: Sequence[Sample], domain: Domain, seed: int, folder: Path
          ) -> dict[int, tuple[Sample, np.ndarray]]:
    """Return corrupted samples by their index, with where (H, W) bool; label maps in `folder`."""
    generator, made = np.random.default_rng(seed), {}
    for index in generator.permutation(len(samples)).tolist():
        if len(made) == round(SHARE * len(samples)):
            break
        sample = samples[index]
        if changed := corrupted(read_sample(sample, domain)[1], len(domain.classes), generator):
            path = folder / f'{sample.image.stem}.png'
            write_png(path, changed[0])
            made[index] = replace(sample, label=path), changed[1]
    return made


def _now(samples: Sequence[Sample], made: dict[int, tuple[Sample, np.ndarray]]) -> list[Sample]:
    """Return all samples, the corrupted ones in the place of what they were."""
    return [made[index][0] if index in made else sample for index, sample in enumerate(samples)]


def _found(segmenter: Segmenter, name: str, samples: Sequence[Sample],
           made: dict[int, tuple[Sample, np.ndarray]]) -> list[list[float]]:
    """Return, of each corrupted sample, its region's share and 1 for each way it is found."""
    judged = [_judged(segmenter, name, sample)
              for sample in progress_bar(_now(samples, made), leave=False)]
    count = round(FIRST * len(samples))
    first = _lowest([-worst.score if worst else 0 for worst, _ in judged], count)
    by_softmin = _lowest([softmin for _, softmin in judged], count)
    rows = []
    for index, (sample, region) in made.items():
        worst, is_hit = judged[index][0], False
        if worst and index in first:
            left, top, right, bottom = worst.box
            label = read_sample(sample, segmenter.domains[name])[1][top:bottom, left:right]
            is_hit = region[top:bottom, left:right][label == worst.label].mean() > 0.5
        rows.append([float(region.mean()), index in first, is_hit, index in by_softmin])
    return rows


def _lowest(values: Sequence[float], count: int) -> set[int]:
    return set(np.argsort(values, kind='stable')[:count].tolist())


@cache
def _judged(segmenter: Segmenter, name: str, sample: Sample
            ) -> tuple[Contradiction | None, float]:
    """Return what is worst in a label map, and its softmin; neither depends on other images."""
    image, label = read_sample(sample, segmenter.domains[name])
    encoded = segmenter.encode(image)
    logits = segmenter.logits(encoded, name)
    found = contradictions(logits, label, encoded.network_size, segmenter.stride)
    small = resize_label(label, *encoded.network_size)
    return found[0] if found else None, _softmin(logits, small, segmenter.stride)


def _softmin(logits: np.ndarray, label: np.ndarray, stride: int) -> float:
    """Return cleanlab's score of an image (Lad and Mueller, 2023), as small as labels are bad."""
    height, width = label.shape
    wide = np.stack([cv2.resize(plane, None, fx=stride, fy=stride)[:height, :width]
                     for plane in logits])
    valid = label != IGNORE_INDEX
    own = softmax(wide, 0)[:, valid][label[valid], np.arange(valid.sum())]
    return float((softmax((1 - own) / 0.1) * own).sum()) if len(own) else 1.0


if __name__ == '__main__':
    main()
