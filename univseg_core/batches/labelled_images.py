"""The images that a run learned from with their labels, and those it was measured with."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from univseg_core.batches.parts import samples_of
from univseg_core.batches.splits import SPLITS
from univseg_core.datasets.folders import DataError, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import did_you_mean, first_few, shortened
from univseg_core.files.records import read_json
from univseg_core.machine.resources import in_threads
from univseg_core.settings.config import load_config


def labelled_images(run: Path, domain: str) -> list[Path]:
    """Return the files of a domain's labelled images in a run, or raise as `run_samples` does."""
    return [sample.image for sample in run_samples(run, domain)]


def run_samples(run: Path, domain: str, part: Literal['labelled', 'validation'] = 'labelled'
                ) -> list[Sample]:
    """
    Return a domain's images of a part, with their labels, as the run's splits.json names them.

    Raises DataError where the run has no such domain, or one of them is not where its
    configuration says.
    """
    path = run / SPLITS
    try:
        splits = read_json(path)
        names = {each: splits[domain][each]['images'] for each in (part, 'validation')
                 if domain in splits}
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f'{path}: damaged: expected the images of the run, by domain '
                        f'({shortened(repr(error))})') from error
    if not names:
        raise DataError(f'{path}: the run has no domain {domain!r}, but {", ".join(splits)}'
                        f'{did_you_mean(domain, splits)}')
    section = load_config(run / 'config.yaml', files_needed=False).domains[domain]
    samples = {sample.name: sample for sample in samples_of(
        domain, section, 'validation' if part == 'validation' else 'train',
        set(names['validation']))}
    if gone := [name for name in names[part] if name not in samples]:
        where = 'validation' if part == 'validation' else 'training'
        raise DataError(f'{path}: {len(gone)} of {len(names[part])} {part} images of {domain} are '
                        f'no longer in its {where} folder: {first_few(gone)}')
    return [samples[name] for name in names[part]]


def class_pixels(samples: Sequence[Sample], domain: Domain, *, progress: bool = True
                 ) -> np.ndarray:
    """Return how many pixels (C,) int64 of each of a domain's classes labelled images have."""
    counts = in_threads(partial(_pixels, domain=domain), samples, f'labels of {domain.name}',
                        progress)
    return sum(counts, np.zeros(len(domain.classes), np.int64))


def _pixels(sample: Sample, domain: Domain) -> np.ndarray:
    assert sample.label is not None  # labelled images have one
    label = sample.read_label(sample.label, domain)
    return np.bincount(label.ravel(), minlength=IGNORE_INDEX + 1)[:len(domain.classes)]
