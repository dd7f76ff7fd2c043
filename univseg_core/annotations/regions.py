"""What an annotation tool says of an image: regions of it, each with the name of its class."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from univseg_core.annotations.polygon_pixels import pixels_within
from univseg_core.errors import UnivsegError

Ring = np.ndarray
"""Corners (n, 2) float64, x and y in pixels: the pixel of column c and row r is c..c+1, r..r+1."""


class AnnotationError(UnivsegError):
    """Annotations that cannot be read or written as they are."""


class Shape(Protocol):
    """Where a region lies, in little memory: pixels are made, or read, when they are asked for."""

    def mask(self, height: int, width: int) -> np.ndarray:
        """
        Return which pixels it covers in an image of that size, (H, W) bool.

        Raises AnnotationError where it is not of an image of that size.
        """


@dataclass(frozen=True)
class Region:
    """
    A part of an image that is of one class.

    `label` is the class's name as the tool has it; `what` says which object it is in its file,
    for errors: 'annotation 12'.
    """

    label: str
    shape: Shape
    what: str


@dataclass(frozen=True)
class AnnotatedImage:
    """
    One image's regions, the undermost first: where two overlap, the later one counts.

    `image` is what the file calls the image, a name or a path; `also` are other names under which
    it may be known. `size` is its height and width as the file has them, None where it has not.
    `source` is the file that says all that. `void` are labels that stand for no class, where a
    domain has none of that name.
    """

    image: str
    size: tuple[int, int] | None
    regions: tuple[Region, ...]
    source: Path
    also: tuple[str, ...] = ()
    void: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Bits:
    """Pixels (h, w) bool whose first one is in column `left` and row `top` of the image."""

    bits: np.ndarray
    left: int = 0
    top: int = 0

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return which pixels it covers; see `Shape`."""
        rows, columns = self.bits.shape
        if min(self.left, self.top) < 0 or self.top + rows > height or self.left + columns > width:
            raise AnnotationError(
                f'a mask of {columns}×{rows} pixels at column {self.left}, row {self.top} does '
                f'not fit into an image of {width}×{height}')
        whole = np.zeros((height, width), bool)
        whole[self.top:self.top + rows, self.left:self.left + columns] = self.bits
        return whole


@dataclass(frozen=True)
class Polygons:
    """
    All that is within any of the rings `outer`, and in none of `holes`.

    A ring that crosses itself covers what its border goes round an odd number of times. What lies
    outside of the image is cut off; where all does, its mask is an error.
    """

    outer: Sequence[Ring]
    holes: Sequence[Ring] = field(default=())

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return which pixels it covers, by their centres; see `Shape`."""
        coco, covered = coco_masks(), np.zeros((height, width), bool)
        for rings, is_inside in ((self.outer, True), (self.holes, False)):
            bits, left, top = pixels_within(coco, rings, height, width)
            rows, columns = bits.shape
            covered[top:top + rows, left:left + columns][bits] = is_inside
            if is_inside and not bits.size:
                check_reaches(np.concatenate([*rings, np.empty((0, 2))]), height, width)
        return covered


def check_reaches(points: Ring, height: int, width: int) -> None:
    """
    Raise AnnotationError where the rectangle around some points lies outside of an image.

    What lies upon its border does not: it is what tools leave of what they have cut off there.
    """
    if not len(points):
        return
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    before = (right <= 0 and left < 0) or (bottom <= 0 and top < 0)
    behind = (left >= width and right > width) or (top >= height and bottom > height)
    if before or behind:
        raise AnnotationError(f'x {left:g} to {right:g} and y {top:g} to {bottom:g} lie outside '
                              f'of the image of {width}×{height}')


def ring(points: Sequence[Sequence[float]]) -> Ring:
    """
    Return a polygon's corners [x, y] as a ring.

    Raises AnnotationError for fewer than three, or numbers that are not finite or too large.
    """
    try:
        corners = np.array(points, float)
    except OverflowError:  # such as a number of 400 digits
        raise AnnotationError('a polygon has a number that is too large') from None
    except (TypeError, ValueError):
        corners = np.empty(0)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise AnnotationError('a polygon of three corners at least, each of two numbers, was '
                              f'expected, got {len(points)} corners')
    if not np.isfinite(corners).all():
        raise AnnotationError('a polygon has corners that are no finite numbers')
    return corners


def coco_masks() -> ModuleType:
    """Return pycocotools.mask; raise AnnotationError, with what to do, where it is missing."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise AnnotationError('polygons and run lengths need pycocotools: '
                              'pip install pycocotools') from error
    return mask
