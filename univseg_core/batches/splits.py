"""Which N images of a domain are the labelled ones: seeded, written down, hashed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
import hashlib
import json
import os
from pathlib import Path

import numpy as np
from univseg_core.datasets.folders import DataError, Sample
from univseg_core.errors import first_few, shortened
from univseg_core.files import write_text
from univseg_core.files.records import read_json
from univseg_core.machine.resources import in_threads

SPLITS = 'splits.json'

CONTENTS = 'contents'
"""Where a part has the fingerprint of each image with its label; earlier runs lack it."""

WHOLE = 1 << 18  # bytes
BLOCK = 1 << 16  # bytes

Splits = dict[str, dict[str, dict]]
"""By domain and part: the images' names, their hash, and the fingerprints of what they hold."""


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


def choose_aside(samples: Sequence[Sample], count: int, domain: str) -> list[Sample]:
    """
    Return the `count` of a domain's samples that are set aside to measure with.

    Those with the smallest SHA-256 of domain and name. So samples that are added later may take
    the place of others, but none of those that were learned from is set aside then, as long as
    `count` stays and no sample goes.
    """
    def digest(sample: Sample) -> bytes:
        return hashlib.sha256(f'{domain}:{sample.name}'.encode()).digest()
    return sorted(samples, key=digest)[:count]


def split_hash(samples: Sequence[Sample]) -> str:
    """Return a SHA-256 of the samples' file names, in hexadecimal."""
    return hashlib.sha256('\n'.join(s.name for s in samples).encode()).hexdigest()


def fingerprint(sample: Sample, whole: bool) -> str | None:
    """
    Return 16 hexadecimal digits that tell what a sample's files hold; None where one is none.

    Those of the `whole` files, or, of one beyond WHOLE bytes, of its size and three blocks: so
    that many large files cost little.
    """
    digest = hashlib.sha256()
    try:
        for path in filter(None, (sample.image, sample.label)):
            if not path.is_file():  # gone, or a pipe, which would be waited for
                return None
            with path.open('rb') as file:
                size = os.fstat(file.fileno()).st_size
                digest.update(f'{size}:'.encode())
                if whole or size <= WHOLE:
                    while block := file.read(1 << 20):
                        digest.update(block)
                else:
                    for place in (0, size // 2, size - BLOCK):
                        file.seek(place)
                        digest.update(file.read(BLOCK))
    except OSError:
        return None
    return digest.hexdigest()[:16]


def read_splits(path: Path) -> Splits:
    """Return what a file says of a run's images, by domain and part; nothing without a file."""
    if not path.exists():
        return {}
    try:
        written = read_json(path)
        for part in (part for parts in written.values() for part in parts.values()):
            if not all(isinstance(name, str) for name in part['images']):
                raise ValueError('not names of images')
            if len(part.get(CONTENTS, part['images'])) != len(part['images']):
                raise ValueError('not a fingerprint for each image')
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f'{path}: damaged: expected the images of the run, by domain '
                        f'({shortened(repr(error))})') from error
    return written


def splits_beside(config: str | Path) -> Splits:
    """Return the images of the run whose config.yaml this is; nothing for a file of no run."""
    return read_splits(Path(config).with_name(SPLITS))


def other_validation(name: str, samples: Sequence[Sample], splits: Splits) -> str:
    """Return in what way a domain is measured on other images than a run was, or nothing."""
    written = splits.get(name, {}).get('validation')
    if written is None:  # earlier runs have not noted them
        return ''
    before, now = written['images'], [sample.name for sample in samples]
    gone, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
    if not gone and not new:
        return ''
    return (f'{name}: measured on {len(before) - len(gone)} of the {len(before)} validation '
            'images that the run had' + (f' (gone: {first_few(gone)})' if gone else '')
            + (f' and on {len(new)} that it had not ({first_few(new)})' if new else ''))


def write_splits(path: Path, parts: Mapping[str, Mapping[str, Sequence[Sample]]]) -> None:
    """
    Write the names, their hash, and the contents' fingerprints of each domain's images, by part.

    `parts` has them by domain and part. Raises DataError where other ones are written there
    already: files have come, gone or changed since a run began. A fingerprint that is written
    stays, also where a file has gone.
    """
    written, splits = read_splits(path), {}
    for domain, those in parts.items():
        splits[domain] = {
            part: {'hash': split_hash(samples), 'images': [s.name for s in samples],
                   CONTENTS: list(in_threads(
                       partial(fingerprint, whole=part != 'unlabelled'), samples,
                       f'{domain}, {part}: note contents'))}
            for part, samples in those.items()}
    for domain, parts_there in written.items():
        for part, there in parts_there.items():
            now = splits.get(domain, {}).get(part)
            if now is None:
                raise DataError(f'{path}: damaged: expected the images of the run, by domain')
            _check_same(f'{path}: this run began with other images than its folders hold now: '
                        f'{domain}, {part}', there, now)
            now[CONTENTS] = [before or found for before, found in zip(
                there.get(CONTENTS, now[CONTENTS]), now[CONTENTS], strict=True)]
    write_text(path, json.dumps(splits, indent=1))


def _check_same(where: str, before: Mapping, now: Mapping) -> None:
    """Raise DataError where a part of a domain has other images now, or other contents."""
    names, names_now = before['images'], now['images']
    differences = {}
    if names != names_now:
        # Of two folders, two images may have one name.
        counts, counts_now = Counter(names), Counter(names_now)
        differences = {'gone': sorted((counts - counts_now).elements()),
                       'new': sorted((counts_now - counts).elements())}
    elif CONTENTS in before:
        differences = {'of other content': [
            name for name, old, new in zip(names, before[CONTENTS], now[CONTENTS], strict=True)
            if old and new and old != new]}
        if not differences['of other content']:
            return
    else:
        return
    told = [f'{len(those)} {what} ({first_few(those)})'
            for what, those in differences.items() if those]
    raise DataError(f'{where}: {", ".join(told) or "in another order"}; bring them back, or begin '
                    'a new run')
