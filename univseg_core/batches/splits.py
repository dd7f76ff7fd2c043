"""Which N images of a domain are the labelled ones: seeded, written down, hashed."""

from collections.abc import Mapping, Sequence
import hashlib
import json
from pathlib import Path

import numpy as np
from univseg_core.datasets.folders import DataError, Sample
from univseg_core.files import write_text


def choose_labelled(samples: Sequence[Sample], count: int | None, domain: str,
                    seed: int) -> list[Sample]:
    """
    Return `count` of a domain's labelled samples (None: all), in file order.

    The choice depends on the seed, the domain's name and the sorted file names alone; a
    smaller choice is part of a larger one. Raises DataError where there are too few.
    """
    if count is None:
        return list(samples)
    if count > len(samples):
        raise DataError(f'domains.{domain}.labelled: {count} labelled images asked for, but the '
                        f'training folder has {len(samples)} with a label map to choose from')
    digest = hashlib.sha256(f'{domain}:{seed}'.encode()).digest()
    order = np.random.default_rng(int.from_bytes(digest[:8], 'big')).permutation(len(samples))
    return [samples[i] for i in sorted(order[:count])]


def split_hash(samples: Sequence[Sample]) -> str:
    """Return a SHA-256 of the samples' file names, in hexadecimal."""
    return hashlib.sha256('\n'.join(s.name for s in samples).encode()).hexdigest()


def write_splits(path: Path, parts: Mapping[str, Mapping[str, Sequence[Sample]]]) -> None:
    """
    Write the names and hash of each domain's images, part by part.

    `parts` has them by domain and part. Raises DataError where other ones are written there
    already: files have come or gone since a run began.
    """
    splits = {domain: {part: {'hash': split_hash(samples), 'images': [s.name for s in samples]}
                       for part, samples in those.items()}
              for domain, those in parts.items()}
    if path.exists():
        _check_same(path, splits)
    write_text(path, json.dumps(splits, indent=1))


def _check_same(path: Path, splits: Mapping[str, Mapping[str, Mapping]]) -> None:
    """Raise DataError where a file has other images than `splits`, of the parts that it has."""
    try:
        written = json.loads(path.read_text(encoding='utf-8'))
        found = [(f'{domain}, {part}', each['images'], splits[domain][part]['images'])
                 for domain, parts in written.items() for part, each in parts.items()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f'{path}: damaged: expected the images of the run, by domain') from error
    for where, before, now in found:
        if before != now:
            told = [f'{len(names)} {what} ({", ".join(names[:3])}{", …" * (len(names) > 3)})'
                    for what, names in (('gone', sorted(set(before) - set(now))),
                                        ('new', sorted(set(now) - set(before)))) if names]
            raise DataError(
                f'{path}: this run began with other images than its folders hold now: {where}: '
                f'{", ".join(told) or "in another order"}; bring them back, or begin a new run')
