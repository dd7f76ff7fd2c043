"""
Which classes of one domain are like which of another: road like floor, building like wall.

Three measures, all over the labelled pixels of validation images: the cosine of class means in the
shared encoder's features, the same in the embedding, and the share of a class's pixels that the
label embeddings of another domain give to each of its classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.inference.segmenter import Encoded, Segmenter
from univseg_core.measuring.evaluation import count_pairs
from univseg_core.method.pixel_statistics import class_shares, ClassMeans
from univseg_core.pictures.images import resize_label
from univseg_core.progress import progress_bar

COLLAPSED = 0.99
"""Cosines in the embedding that are all above it say that it has collapsed to one direction."""


class CorrespondenceError(UnivsegError):
    """A model or data in which no domain can be compared with another."""


@dataclass(frozen=True)
class Correspondence:
    """
    How the classes of domain `rows` (C_i) are like those of domain `columns` (C_j).

    `features` and `embedding` (C_i, C_j) float64 hold cosines in -1..1, `shares` (C_i, C_j) the
    part of each row's pixels, 0..1, that lie nearest to a label embedding of each column's class.
    NaN where a class has no pixel; in `shares`, where the row has no pixel or the column no label
    embedding. `pixels` (C_i,) int64 counts each row's pixels.
    """

    rows: Domain
    columns: Domain
    pixels: np.ndarray
    features: np.ndarray
    embedding: np.ndarray
    shares: np.ndarray

    @property
    def has_collapsed(self) -> bool:
        """Say whether all classes' means point the same way in the embedding."""
        return bool(np.nanmin(self.embedding) > COLLAPSED)


def cosines(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Compare vectors (R, channels) with others (C, channels) by cosine: (R, C); NaN stays NaN."""
    def unit(vectors: np.ndarray) -> np.ndarray:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(lengths, 1e-12)

    return unit(rows) @ unit(columns).T


def centred(means: Mapping[str, ClassMeans]) -> dict[str, np.ndarray]:
    """
    Return each domain's class means (C, channels) minus the mean of all domains' pixels.

    Features after a ReLU are never negative: from zero they all point the same way, and those
    classes are nearest to everything that are nearest to the mean. So they are seen from the
    mean. Every domain weighs the same in it, however many images it has. It is one point for
    all domains: what sets one domain as a whole apart from another stays in the cosines.
    """
    middle = np.mean([each.mean().numpy() for each in means.values()], axis=0)
    return {name: _of_classes(each) - middle for name, each in means.items()}


def _of_classes(means: ClassMeans) -> np.ndarray:
    """Return each class's mean, (C, channels) float64; NaN for a class without a pixel."""
    return means.centroids()[:, 0].numpy()


def nearest(row: np.ndarray, count: int) -> list[int]:
    """Return the columns of a row's largest values (C,), at most `count`; NaN is left out."""
    order = np.argsort(-row, kind='stable')
    return [int(column) for column in order[:count] if not np.isnan(row[column])]


def measure_correspondences(segmenter: Segmenter, samples: Mapping[str, Sequence[Sample]]
                            ) -> dict[tuple[str, str], Correspondence]:
    """
    Compare the classes of every ordered pair of domains; one encoder pass an image.

    `samples` maps names of the segmenter's domains to labelled images. Raises as
    `CorrespondenceCount` does.
    """
    count = CorrespondenceCount(segmenter, list(samples))
    for name, files in samples.items():
        for sample in progress_bar(files, name, leave=False):
            image, label = read_sample(sample, segmenter.domains[name])
            count.add(name, segmenter.encode(image), label)
    return count.results()


class CorrespondenceCount:
    """
    Gathers, image by image, what the classes of some of a segmenter's domains are like.

    The features' class means are seen from the mean of all domains' pixels (see `centred`); those
    in the embedding as they are, since the method itself compares embeddings seen from zero.
    Raises CorrespondenceError for fewer than two domains, UnivsegError where the model has no
    label embeddings.
    """

    def __init__(self, segmenter: Segmenter, names: Sequence[str]):
        if len(names) < 2:
            raise CorrespondenceError('correspondences are between domains, and there is only '
                                      f'{", ".join(names)}')
        self._segmenter = segmenter
        self._domains = {name: segmenter.domains[name] for name in names}
        classes = {name: len(domain.classes) for name, domain in self._domains.items()}
        self._labelled = {name: segmenter.label_embeddings(name).reshape(count, -1).any(1)
                          for name, count in classes.items()}
        self._means: dict[str, tuple[ClassMeans, ClassMeans]] = {}
        self._pixels = {name: np.zeros(count, np.int64) for name, count in classes.items()}
        self._counts = {(i, j): np.zeros((classes[i], classes[j]), np.int64)
                        for i, j in permutations(names, 2)}

    def add(self, name: str, encoded: Encoded, label: np.ndarray) -> None:
        """Add an image of a domain, with its label map (H, W) uint8."""
        segmenter, classes = self._segmenter, len(self._domains[name].classes)
        vectors = [torch.from_numpy(each(encoded).copy())
                   for each in (segmenter.features, segmenter.embed)]
        if name not in self._means:
            shown, embedded = (ClassMeans(classes, len(each)) for each in vectors)
            self._means[name] = shown, embedded
        at_network_size = torch.from_numpy(resize_label(label, *encoded.network_size))
        shares = class_shares(at_network_size, classes, segmenter.stride).flatten(1)
        for means, each in zip(self._means[name], vectors, strict=True):
            means.update(each.flatten(1).double(), shares)
        self._pixels[name] += np.bincount(label.ravel(), minlength=256)[:classes]
        for (i, j), count in self._counts.items():
            if i == name:
                rows, columns = count.shape  # void is beyond them
                mask = segmenter.label_embedding_mask(encoded, j)
                count += count_pairs(label, mask)[:rows, :columns]

    def results(self) -> dict[tuple[str, str], Correspondence]:
        """
        Return how every ordered pair of domains compares.

        Raises CorrespondenceError for a domain without a labelled pixel.
        """
        for name, pixels in self._pixels.items():
            if not pixels.any():
                raise CorrespondenceError(f'{name}: every pixel of the labels is void')
        from_middle = centred({name: each for name, (each, _) in self._means.items()})
        as_they_are = {name: _of_classes(each) for name, (_, each) in self._means.items()}
        results = {}
        for (i, j), counts in self._counts.items():
            total = self._pixels[i][:, None].astype(float)
            shares = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
            shares[:, ~self._labelled[j]] = np.nan
            results[i, j] = Correspondence(
                self._domains[i], self._domains[j], self._pixels[i],
                cosines(from_middle[i], from_middle[j]),
                cosines(as_they_are[i], as_they_are[j]), shares)
        return results
