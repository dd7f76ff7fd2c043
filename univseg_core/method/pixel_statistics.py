"""
What is remembered of many images' pixels, one image at a time, in memory that does not grow.

The vectors of a pixel are the encoder's features, or the pixel embeddings, of its cell.
"""

from collections.abc import Callable
from dataclasses import dataclass
import warnings

import numpy as np
import torch
import torch.nn.functional as F

SAMPLED_CELLS = 4096
"""Cells of each class that K-means clusters at most, drawn evenly from all that were seen."""

SAMPLED_BYTES = 512 * 2 ** 20
"""What the sample of a domain's classes may take: fewer cells where vectors are very long."""

STARTS = 10
"""Times that K-means starts anew; the best result counts."""


def class_shares(label: torch.Tensor, classes: int, stride: int) -> torch.Tensor:
    """
    Return each class's share (C, ⌈H/s⌉, ⌈W/s⌉) of the s×s pixels of a cell at a stride s, float64.

    The label map is (H, W) integer. Void pixels, and those beyond the border, count as no
    class, so that a cell's shares may sum to less than 1.
    """
    height, width = label.shape
    one_hot = torch.stack([label == c for c in range(classes)]).double()
    padded = F.pad(one_hot, (0, -width % stride, 0, -height % stride))
    return F.avg_pool2d(padded, stride)


@dataclass(frozen=True)
class Projection:
    """
    Principal components: x ↦ (x − mean) @ directions.

    `mean` (C_F,), `directions` (C_F, D) and `variances` (D,), of the projected values, float64.
    """

    mean: torch.Tensor
    directions: torch.Tensor
    variances: torch.Tensor

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the projections (…, D) of vectors (…, C_F)."""
        return (vectors - self.mean) @ self.directions


class PrincipalComponents:
    """Streaming sums over cells, of which the principal components follow exactly."""

    def __init__(self, channels: int):
        self._count = 0
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self._products = torch.zeros(channels, channels, dtype=torch.float64)

    def update(self, cells: torch.Tensor) -> None:
        """Add the vectors (C_F, n) float64 of some cells."""
        self._count += cells.shape[1]
        self._sum += cells.sum(1)
        self._products += cells @ cells.T

    def projection(self, dim: int) -> Projection:
        """
        Return the projection to the first `dim` principal components.

        Each direction's largest component is positive, so that the result is unique.
        """
        mean = self._sum / self._count
        covariance = self._products / self._count - mean[:, None] * mean
        values, vectors = torch.linalg.eigh(covariance)
        directions = vectors.flip(1)[:, :dim]
        largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
        return Projection(mean, directions * largest.sign(), values.flip(0)[:dim])


def _unchanged(vectors: torch.Tensor) -> torch.Tensor:
    return vectors


class ClassMeans:
    """The mean vector of each class's pixels."""

    def __init__(self, classes: int, channels: int):
        self._weights = torch.zeros(classes, dtype=torch.float64)
        self._sums = torch.zeros(classes, channels, dtype=torch.float64)

    def update(self, cells: torch.Tensor, shares: torch.Tensor) -> None:
        """Add the vectors (C_F, n) and the classes' shares (C, n) of some cells, float64."""
        self._weights += shares.sum(1)
        self._sums += shares @ cells.T

    def centroids(self, project: Callable[[torch.Tensor], torch.Tensor] = _unchanged
                  ) -> torch.Tensor:
        """
        Return the projected means (C, 1, D), NaN for a class that was never seen.

        The projection is affine: that of the mean is the mean of the projections.
        """
        return project(self._sums / self._weights[:, None])[:, None]

    def mean(self) -> torch.Tensor:
        """Return the mean of the pixels of all classes, (C_F,) float64."""
        return self._sums.sum(0) / self._weights.sum()


class ClassSamples:
    """
    An even, seeded sample of each class's cells, and K-means of it.

    Each class keeps up to `limit` of the cells that show any of it, or as many as SAMPLED_BYTES
    hold: all of them up to there, and later each that was seen with the same probability
    (reservoir sampling). A cell weighs as much as its share of the class.
    """

    def __init__(self, classes: int, channels: int, clusters: int, seed: int,
                 limit: int = SAMPLED_CELLS):
        limit = min(limit, max(clusters, SAMPLED_BYTES // (4 * classes * channels)))
        self._clusters, self._seed, self._limit = clusters, seed, limit
        self._generators = [np.random.default_rng((seed, c)) for c in range(classes)]
        self._seen = [0] * classes
        # Written to once now, so that its memory is there from the first image on.
        self._vectors = np.full((classes, limit, channels), 0, np.float32)
        self._weights = np.zeros((classes, limit))

    def update(self, cells: torch.Tensor, shares: torch.Tensor) -> None:
        """Add the vectors (C_F, n) and the classes' shares (C, n) of some cells, float64."""
        vectors = cells.T.numpy()
        for c, of_class in enumerate(shares.numpy()):
            rows = of_class.nonzero()[0]
            number = self._seen[c] + np.arange(len(rows))
            self._seen[c] += len(rows)
            drawn = self._generators[c].integers(0, number + 1)
            place = np.where(number < self._limit, number, drawn)
            kept = place < self._limit
            # Where two go to one place, NumPy keeps the later one, as one by one would.
            self._vectors[c, place[kept]] = vectors[rows[kept]]
            self._weights[c, place[kept]] = of_class[rows[kept]]

    def centroids(self, project: Callable[[torch.Tensor], torch.Tensor] = _unchanged
                  ) -> torch.Tensor:
        """
        Return K-means' centres (C, K, D) of the projected sample, NaN for a class never seen.

        A class of fewer than K cells has its mean K times.
        """
        return torch.stack([self._centroids_of(c, project) for c in range(len(self._seen))])

    def _centroids_of(self, c: int, project: Callable[[torch.Tensor], torch.Tensor]
                      ) -> torch.Tensor:
        # A robot, which makes no label embeddings, lacks these.
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        count = min(self._seen[c], self._limit)
        vectors = project(torch.from_numpy(self._vectors[c, :count]).double()).numpy()
        weights = self._weights[c, :count]
        if count < self._clusters:
            with np.errstate(invalid='ignore'):
                mean = weights @ vectors / weights.sum()
            return torch.from_numpy(mean).expand(self._clusters, -1)
        clustering = KMeans(self._clusters, n_init=STARTS, random_state=self._seed)
        with warnings.catch_warnings():  # of cells that are all alike
            warnings.simplefilter('ignore', ConvergenceWarning)
            clustering.fit(vectors, sample_weight=weights)
        return torch.from_numpy(clustering.cluster_centers_)


class LabelEmbeddingSums:
    """
    The mean of the pixel embeddings that lie nearest to each label embedding of their class.

    `label_embeddings` (C·K, D) are those before an update, class by class. `sums` (C·K, D) and
    `weights` (C·K,), float64, may be added up over processes.
    """

    def __init__(self, label_embeddings: torch.Tensor, classes: int):
        self._old = label_embeddings.detach().double().cpu()
        self._per_class = self._old.view(classes, -1, self._old.shape[1])
        self.sums = torch.zeros_like(self._old)
        self.weights = torch.zeros(len(self._old), dtype=torch.float64)

    def update(self, cells: torch.Tensor, shares: torch.Tensor) -> None:
        """Add the embeddings (D, n) and the classes' shares (C, n) of some cells, float64."""
        scores = self._per_class @ cells
        nearest = F.one_hot(scores.argmax(1), scores.shape[1]).mT.double()
        weights = (nearest * shares[:, None]).flatten(0, 1)
        self.weights += weights.sum(1)
        self.sums += weights @ cells.T

    def updated(self, theta: float) -> torch.Tensor:
        """
        Return normalise(θ·old + (1 − θ)·means) (Eq 7), (C·K, D) float32.

        One that is nearest to no pixel stays as it is, as does one of a class that has none (0).
        """
        means = self.sums / self.weights.clamp(min=1e-12)[:, None]
        new = F.normalize(theta * self._old + (1 - theta) * means, dim=1)
        counts = (self.weights > 0) & self._old.any(1)
        return torch.where(counts[:, None], new, self._old).float()
