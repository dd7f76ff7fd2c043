"""
Which domain an image shows, if it shows any: what a model file knows of its training images.

The evidence is the encoder's own features: their principal components on a coarse grid of cells,
described by mean, deviation and how much neighbours differ. Only NumPy computes here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from univseg_core.machine.processors import one_blas_thread
from univseg_core.models.heads import checked, LinearMap

PREFIX = 'evidence.'
"""How the names of its tensors begin in a model file."""

GRID = (16, 24)
"""Most rows and columns of cells that are looked at, whatever the size of an image."""

FEATURES_OF_COMPONENT = 4
"""Numbers that describe a component: mean, deviation, differences of neighbours in both ways."""


@dataclass(frozen=True)
class Recognition:
    """
    Which domain an image shows, and how unlike all of them it is.

    `probabilities` of the domains add up to 1, whatever the image. `unfamiliarity` is 0 for an
    image like the average of the training images, and 1 at the level that one in a hundred of
    them is above, judged by evidence made without it; beyond 1, an image is of none of them.
    """

    probabilities: dict[str, float]
    unfamiliarity: float

    @property
    def domain(self) -> str:
        """Return the most probable domain."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def is_familiar(self) -> bool:
        """Return whether the image is like those of some domain."""
        return self.unfamiliarity <= 1


@dataclass(frozen=True, eq=False)
class DomainEvidence:
    """
    What tells the domains of some `names` from each other and from all else; float32.

    `projection` takes features to P components. Of the descriptor of D = 4·P numbers,
    `distances`, weight (K, D, D) and bias (K, D), makes K vectors: their lengths are how far an
    image is from each domain, 1 being what one in twenty of its training images is beyond.
    `logits`, weight (K + 1, D) and bias (K + 1,), are those of the domains and of none of them.
    `unfamiliarity` (3,) are the weights of the least distance and of the last logit's margin over
    the others, and what is added.
    """

    names: tuple[str, ...]
    projection: LinearMap
    distances: LinearMap
    logits: LinearMap
    unfamiliarity: np.ndarray

    def __call__(self, features: np.ndarray) -> Recognition:
        """Return what an image with features (C_F, h, w) float32 shows, or its cells alone."""
        with one_blas_thread():
            descriptor = described(features, self.projection)
            vectors = self.distances.weight @ descriptor + self.distances.bias
            logits = self.logits.weight @ descriptor + self.logits.bias
        distance = np.sqrt(np.einsum('ij,ij->i', vectors, vectors).min())
        domains, none = logits[:-1], logits[-1]
        highest = domains.max()
        shares = np.exp(domains - highest)
        of_distance, of_margin, offset = self.unfamiliarity
        return Recognition(
            dict(zip(self.names, (shares / shares.sum()).tolist(), strict=True)),
            float(of_distance * distance + of_margin * (none - highest) + offset))

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all of it by the names of a model file."""
        maps = {'projection': self.projection, 'distances': self.distances, 'logits': self.logits}
        return {**{f'{PREFIX}{key}.{part}': value for key, each in maps.items()
                   for part, value in each._asdict().items()},
                f'{PREFIX}unfamiliarity': self.unfamiliarity}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], names: Sequence[str],
                     channels: int) -> 'DomainEvidence | None':
        """
        Return it from what `tensors` has, of domains and features of so many channels.

        None where they have nothing of it. Raises ValueError for a tensor that is missing, is no
        finite float32, or does not fit the others.
        """
        if not any(key.startswith(PREFIX) for key in tensors):
            return None

        def linear(key: str, *outputs: int, inputs: int) -> LinearMap:
            return LinearMap(checked(tensors, f'{PREFIX}{key}.weight', (*outputs, inputs)),
                             checked(tensors, f'{PREFIX}{key}.bias', outputs))

        try:
            components = len(tensors[f'{PREFIX}projection.bias'])
            length = FEATURES_OF_COMPONENT * components
            return cls(tuple(names), linear('projection', components, inputs=channels),
                       linear('distances', len(names), length, inputs=length),
                       linear('logits', len(names) + 1, inputs=length),
                       checked(tensors, f'{PREFIX}unfamiliarity', (3,)))
        except KeyError as error:
            raise ValueError(f'no tensor {error.args[0]}, but others of {PREFIX}…') from error


def at_cells(features: Any) -> Any:
    """
    Return the features (C, h, w) of at most GRID cells, evenly spread; of fewer, all of them.

    Those of an array are an array, of a tensor a tensor, where it lies.
    """
    rows, columns = _places(*features.shape[1:])
    return features[:, rows, columns]


@lru_cache(maxsize=8)
def _places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows (n, 1) and columns (m,) of the cells that are looked at."""
    rows, columns = (np.linspace(0, side - 1, min(side, most)).round().astype(int)
                     for side, most in zip((height, width), GRID, strict=True))
    return rows[:, None], columns


def described(features: np.ndarray, projection: LinearMap) -> np.ndarray:
    """Return the descriptor (4·P,) float32 of features (C, h, w), by their P components."""
    cells = at_cells(features)
    flat = projection.weight @ cells.reshape(len(cells), -1)
    flat += projection.bias[:, None]
    means = flat.mean(1)
    flat -= means[:, None]
    deviations = np.sqrt(np.einsum('ij,ij->i', flat, flat) / flat.shape[1])
    values = flat.reshape(-1, *cells.shape[1:])
    below = _mean_size(values[:, 1:] - values[:, :-1])
    beside = _mean_size(values[:, :, 1:] - values[:, :, :-1])
    # What is added is far below the usual: a component that does not vary is not infinitely odd.
    return np.concatenate([means, np.log(deviations + .05), np.log(below + .02),
                           np.log(beside + .02)]).astype(np.float32, copy=False)


def _mean_size(differences: np.ndarray) -> np.ndarray:
    """Return the mean absolute value (P,) of differences (P, n, m), 0 where there are none."""
    flat = np.abs(differences).reshape(len(differences), -1)
    return flat.sum(1) / max(flat.shape[1], 1)
