"""Images that are in several parts of a domain, or look like some that are."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
import os

import cv2
import numpy as np
from univseg_core.batches.splits import fingerprint
from univseg_core.datasets.folders import Sample
from univseg_core.errors import first_few

ALIKE = 0.985
"""Lowest correlation of near duplicates' thumbnails: other light does not change it."""

LEAST_CONTRAST = 2.0
"""Deviation of a picture's pixels, of 255; one with less is compared by its mean colour alone."""

SAME_COLOUR = 2.0
"""How far apart, of 255, the mean colours of such near duplicates may be."""

THUMBNAIL = 16
"""Pixels a side of a thumbnail."""


@dataclass(frozen=True)
class Look:
    """
    A hash of an image file's bytes, and its picture as a thumbnail.

    `thumbnail` is (16, 16) float32, of mean 0 and length 1. Where there is hardly any contrast it
    is zeros, and `colour` (3,) is the picture's mean, which is NaN for all others.
    """

    sample: Sample
    digest: bytes
    thumbnail: np.ndarray
    colour: np.ndarray


def look_of(sample: Sample, digest: bytes, image: np.ndarray) -> Look:
    """Return the look of an image (H, W, 3) uint8."""
    step = max(1, min(image.shape[:2]) // (4 * THUMBNAIL))
    if image[::step, ::step].std(axis=(0, 1)).max() < LEAST_CONTRAST:
        return Look(sample, digest, np.zeros((THUMBNAIL, THUMBNAIL), np.float32),
                    image.mean(axis=(0, 1)))
    # In two steps: whole greys are too coarse for a mean of many pixels.
    few = cv2.resize(image, (4 * THUMBNAIL, 4 * THUMBNAIL), interpolation=cv2.INTER_AREA)
    greys = cv2.resize(cv2.cvtColor(few.astype(np.float32), cv2.COLOR_RGB2GRAY),
                       (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    greys -= greys.mean()
    length = np.linalg.norm(greys)
    return Look(sample, digest, greys / length if length else greys, np.full(3, np.nan))


def measured_by_its_own(name: str, training: Sequence[Sample],
                        validation: Sequence[Sample]) -> Iterator[str]:
    """Yield a sentence where files of a domain are trained on and measured with, by any name."""
    trained = {_node(facts): sample for sample, facts in _there(training)}
    yield from _sentence(name, [(sample, trained[_node(facts)])
                                for sample, facts in _there(validation)
                                if _node(facts) in trained], len(validation), 'the same files')


def measured_by_copies(name: str, training: Sequence[Sample],
                       validation: Sequence[Sample]) -> Iterator[str]:
    """
    Yield a sentence where copies of files of a domain are trained on and measured with.

    Their contents are compared as fingerprints tell them, of files of one size alone, which are
    few. The same files are left to `measured_by_its_own`.
    """
    yield from _sentence(name, copies(validation, training), len(validation), 'the same content')


def copies(samples: Sequence[Sample], of: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Return each sample whose image is another file of the same content as one `of` others."""
    there, others = list(_there(samples)), list(_there(of))
    nodes = {_node(facts) for _, facts in others}
    there = [(sample, facts) for sample, facts in there if _node(facts) not in nodes]
    sizes = {facts.st_size for _, facts in others} & {facts.st_size for _, facts in there}
    of_content = {_content(sample): sample for sample, facts in others if facts.st_size in sizes}
    of_content.pop(None, None)
    return [(sample, of_content[content]) for sample, facts in there
            if facts.st_size in sizes and (content := _content(sample)) in of_content]


def not_among(samples: Sequence[Sample], others: Sequence[Sample]) -> list[Sample]:
    """Return those samples whose image is none of the others' files, nor a copy of one."""
    nodes = {_node(facts) for _, facts in _there(others)}
    among = {sample.image for sample, facts in _there(samples) if _node(facts) in nodes}
    among |= {sample.image for sample, _ in copies(samples, others)}
    return [sample for sample in samples if sample.image not in among]


def _there(samples: Sequence[Sample]) -> Iterator[tuple[Sample, os.stat_result]]:
    """Yield each sample whose image is there, and what the disk knows of that."""
    for sample in samples:
        with suppress(OSError):
            yield sample, sample.image.stat()


def _node(facts: os.stat_result) -> tuple[int, int]:
    """Return what a file is to the disk, whatever links lead to it."""
    return facts.st_dev, facts.st_ino


def _content(sample: Sample) -> str | None:
    return fingerprint(replace(sample, label=None), whole=False)


def overlaps(name: str, training: Sequence[Look], validation: Sequence[Look]) -> Iterator[str]:
    """
    Yield a sentence for validation images that are training images, one for near duplicates.

    The former have the same bytes. The latter look alike, as copies in another format, size or
    light do, those that are turned or mirrored, and neighbours in a video.
    """
    of_digest = {look.digest: look.sample for look in training}
    same = [(look.sample, of_digest[look.digest]) for look in validation
            if look.digest in of_digest]
    yield from _sentence(name, same, len(validation), 'the same content')
    others = [look for look in validation if look.digest not in of_digest]
    yield from _sentence(name, list(_near(training, others)), len(validation), 'near duplicates')


def _near(training: Sequence[Look], validation: Sequence[Look]
          ) -> Iterator[tuple[Sample, Sample]]:
    """Yield each validation image that looks like a training image, with the first such one."""
    if not training:
        return
    thumbnails = np.stack([look.thumbnail.ravel() for look in training])
    colours = np.stack([look.colour for look in training])
    for look in validation:
        turned = [way for turns in range(4) for way in (
            np.rot90(look.thumbnail, turns), np.rot90(look.thumbnail.T, turns))]
        alike = (np.stack(turned).reshape(8, -1) @ thumbnails.T).max(axis=0)
        alike[np.abs(colours - look.colour).max(axis=1) <= SAME_COLOUR] = 1
        if alike.max() >= ALIKE:
            yield look.sample, training[alike.argmax()].sample


def _sentence(name: str, pairs: Sequence[tuple[Sample, Sample]], of: int,
              what: str) -> Iterator[str]:
    if pairs:
        named = first_few([f'{held_out.image} and {trained.image}'
                           for held_out, trained in pairs])
        yield (f'domains.{name}: {len(pairs)} of {of} validation images are training images, too '
               f'({what}: {named}): what is measured with '
               'them says little of other images')
