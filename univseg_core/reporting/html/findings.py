"""What one pass over a run's validation images tells of its model, for a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import IGNORE_INDEX
from univseg_core.errors import UnivsegError
from univseg_core.inference.full_resolution import top_classes
from univseg_core.inference.segmenter import Segmenter
from univseg_core.measuring.correspondences import Correspondence, CorrespondenceCount
from univseg_core.measuring.evaluation import ConfusionCount, DomainResult, measure
from univseg_core.measuring.reliability import Reliability, ReliabilityCount
from univseg_core.pictures.images import resize_label
from univseg_core.progress import progress_bar
from univseg_core.reporting.plots.cells import cell_classes, CLASSES_SHOWN

PER_CLASS = 30
"""Cells of a class at most that the t-SNE shows."""


@dataclass(frozen=True)
class ImageScore:
    """A validation image and the mean IoU of the classes that its truth or mask has, 0..1."""

    sample: Sample
    miou: float


@dataclass(frozen=True)
class CellVectors:
    """Vectors (n, channels) float32 of cells of a domain's images, and their classes (n,)."""

    vectors: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class DomainFindings:
    """What the validation images of one domain tell."""

    result: DomainResult
    reliability: Reliability
    scores: list[ImageScore]
    cells: CellVectors


@dataclass(frozen=True)
class Findings:
    """
    What the validation images of a model's domains tell.

    `correspondences` is of each ordered pair of domains, None where there is none: `without` says
    why.
    """

    domains: dict[str, DomainFindings]
    correspondences: dict[tuple[str, str], Correspondence] | None
    without: str


def find(segmenter: Segmenter, samples: Mapping[str, Sequence[Sample]], name: str) -> Findings:
    """
    Look at validation images, by domain; one encoder pass an image. `name` is the run's.

    Raises UnivsegError where an image cannot be read.
    """
    together, without = None, ''
    try:
        together = CorrespondenceCount(segmenter, list(samples))
    except UnivsegError as error:
        without = str(error)
    found = {}
    for key, files in samples.items():
        domain = segmenter.domains[key]
        confusion, reliability, scores = ConfusionCount(domain), ReliabilityCount(), []
        chosen = _ChosenCells(len(domain.classes), segmenter.stride)
        for sample in progress_bar(files, f'{name}, {key}', leave=False):
            image, truth = read_sample(sample, domain)
            encoded = segmenter.encode(image)
            mask, confidence = top_classes(
                segmenter.logits(encoded, key), encoded.network_size, encoded.size,
                segmenter.stride, confidence=True)
            assert confidence is not None
            confusion.add(mask, truth)
            reliability.add(mask, confidence, truth)
            scores.append(ImageScore(sample, measure(domain, [(mask, truth)]).miou))
            chosen.add(segmenter.features(encoded), resize_label(truth, *encoded.network_size))
            if together:
                together.add(key, encoded, truth)
        found[key] = DomainFindings(confusion.result(), reliability.result(), scores,
                                    chosen.most_frequent())
    try:
        return Findings(found, together.results() if together else None, without)
    except UnivsegError as error:
        return Findings(found, None, str(error))


class _ChosenCells:
    """Keeps the vectors of some cells of each class: all are equally likely to be kept."""

    def __init__(self, classes: int, stride: int):
        self._stride = stride
        self._generator = np.random.default_rng(0)
        self._seen = np.zeros(classes, np.int64)
        self._kept: list[tuple[np.ndarray, np.ndarray]] = [
            (np.empty(0), np.empty((0, 0), np.float32))] * classes

    def add(self, features: np.ndarray, label: np.ndarray) -> None:
        """Add an image's features (channels, h, w), and its label map at the network's size."""
        labels = cell_classes(label, len(self._seen), self._stride).ravel()
        vectors = features.reshape(len(features), -1)
        # Of what comes in pieces, those with the lowest of random numbers are a fair choice.
        lots = self._generator.random(len(labels))
        for c in np.unique(labels[labels != IGNORE_INDEX]):
            here = np.flatnonzero(labels == c)
            self._seen[c] += len(here)
            here = here[np.argsort(lots[here])[:PER_CLASS]]
            before, kept = self._kept[c]
            drawn = np.concatenate([before, lots[here]])
            both = np.concatenate([kept.reshape(-1, len(vectors)), vectors[:, here].T])
            lowest = np.argsort(drawn)[:PER_CLASS]
            self._kept[c] = drawn[lowest], both[lowest]

    def most_frequent(self, count: int = CLASSES_SHOWN) -> CellVectors:
        """Return the kept cells of the classes, at most `count`, that have most cells."""
        classes = sorted(c for c in np.argsort(-self._seen, kind='stable')[:count]
                         if self._seen[c])
        kept = [self._kept[c][1] for c in classes]
        if not kept:
            return CellVectors(np.empty((0, 0), np.float32), np.empty(0, np.int64))
        return CellVectors(np.concatenate(kept),
                           np.repeat(classes, [len(each) for each in kept]))


def worst_and_best(runs: Sequence[Sequence[ImageScore]], count: int
                   ) -> tuple[list[Sample], list[Sample]]:
    """
    Return the images, `count` at most of each, that several runs are worst and best at.

    The mean of the runs' scores decides, of those images that all of them have looked at; none
    is in both lists.
    """
    scores = [{score.sample: score.miou for score in each} for each in runs]
    shared = [sample for sample in scores[0] if all(sample in each for each in scores)]
    means = {sample: float(np.mean([each[sample] for each in scores])) for sample in shared}
    ranked = sorted((sample for sample in shared if not np.isnan(means[sample])),
                    key=means.__getitem__)
    half = min(count, len(ranked) // 2)
    worst = ranked[:min(count, len(ranked) - half)]
    return worst, ranked[len(ranked) - half:][::-1]
