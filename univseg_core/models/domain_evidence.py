"""
Which domain an image shows, if it shows any: what a model file knows of its training images.

The evidence is the encoder's own features: their principal components on a coarse grid of cells,
described by mean, deviation and how much neighbours differ. Only NumPy computes here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
import math
from typing import Any

import numpy as np
from univseg_core.machine.processors import one_blas_thread
from univseg_core.models.heads import checked, LinearMap

PREFIX = 'evidence.'
"""How the names of its tensors begin in a model file."""

GRID = (16, 24)
"""Most rows and columns of cells that are looked at, whatever the size of an image."""

HOLDS_FROM, HOLDS_TO = .5, 2.0
"""Inference sizes for which the evidence holds, as multiples of the model's own size."""

FEATURES_OF_COMPONENT, LEAST = 4, np.array([[.05], [.02], [.02]], np.float32)
"""
Numbers that describe a component: mean, deviation, differences of neighbours in both ways; and
what is added to the last three.
"""


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
        """Return what an image with features (C_F, h, w) float32 shows."""
        return self.of_cells(at_cells(features))

    def of_cells(self, cells: np.ndarray) -> Recognition:
        """Return what an image shows by its features at cells, as `at_cells` gives them."""
        projection, (weight, bias) = self._prepared
        with one_blas_thread():
            found = weight @ described(cells, projection)
        found += bias
        count = len(self.names)
        distance = math.sqrt(min(vector.dot(vector) for vector in
                                 found[:-count - 1].reshape(count, -1)))
        *domains, none = found[-count - 1:].tolist()
        highest = max(domains)
        shares = [math.exp(each - highest) for each in domains]
        total = sum(shares)
        of_distance, of_margin, offset = self.unfamiliarity.tolist()
        return Recognition(
            {name: share / total for name, share in zip(self.names, shares, strict=True)},
            of_distance * distance + of_margin * (none - highest) + offset)

    @cached_property
    def _prepared(self) -> tuple[LinearMap, LinearMap]:
        """
        Return the projection, and distances and logits as one map, (K·D + K + 1, D).

        They lie in memory as few and fast calls want them.
        """
        return (LinearMap(np.asfortranarray(self.projection.weight), self.projection.bias),
                LinearMap(np.concatenate([*self.distances.weight, self.logits.weight]),
                          np.concatenate([*self.distances.bias, self.logits.bias])))

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
    Return the features (C, h, w) of at most GRID cells, evenly spread: (rows, columns, C).

    An array's are an array; a tensor's are a tensor on its device.
    """
    channels, height, width = features.shape
    rows, columns, places = _places(height, width)
    by_place = features.swapaxes(0, 1).swapaxes(1, 2)
    if not isinstance(features, np.ndarray) or not by_place.flags.c_contiguous:
        return by_place[rows, columns]
    return by_place.reshape(-1, channels).take(places, axis=0)


@lru_cache(maxsize=8)
def _places(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return which cells are looked at: rows (n, 1) and columns (m,), and their places (n, m).

    Places are counted row by row.
    """
    rows, columns = (np.linspace(0, side - 1, min(side, most)).round().astype(int)
                     for side, most in zip((height, width), GRID, strict=True))
    return rows[:, None], columns, rows[:, None] * width + columns


def described(cells: np.ndarray, projection: LinearMap) -> np.ndarray:
    """Return the descriptor (4·P,) float32 of cells (rows, columns, C), by their P components."""
    rows, columns, _ = cells.shape
    # Few calls, on memory that lies together: they are most of what a frame costs here.
    seen = np.empty((FEATURES_OF_COMPONENT, rows * columns, len(projection.bias)), np.float32)
    values, squares = seen[:2]
    np.matmul(cells, projection.weight.T, out=values.reshape(rows, columns, -1))
    values += projection.bias
    np.multiply(values, values, out=squares)
    for differences, step in zip(seen[2:], (columns, 1), strict=True):
        differences[:step] = 0
        np.subtract(values[step:], values[:-step], out=differences[step:])
    np.abs(seen[2:], out=seen[2:])
    described = (_shares(rows, columns) @ seen).reshape(FEATURES_OF_COMPONENT, -1)
    mean, square = described[:2]
    np.sqrt(np.maximum(square - mean * mean, 0), out=square)
    # What is added is far below the usual: what does not vary is not infinitely odd.
    varying = described[1:]
    varying += LEAST
    np.log(varying, out=varying)
    return described.reshape(-1)


@lru_cache(maxsize=8)
def _shares(rows: int, columns: int) -> np.ndarray:
    """Return the share that each cell has in each of the four means, (4, 1, rows · columns)."""
    shares = np.ones((FEATURES_OF_COMPONENT, rows, columns), np.float32)
    shares[2, 0] = shares[3, :, 0] = 0  # there is no cell before them
    shares /= np.maximum(shares.sum((1, 2), keepdims=True), 1)
    return shares.reshape(FEATURES_OF_COMPONENT, 1, -1)
