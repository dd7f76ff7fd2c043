"""
Pixels → the polygons that annotation tools let a person edit.

OpenCV follows the borders of regions, but through the centres of pixels, so that a line of one
pixel has no area. Here it follows those of an image twice as large, in which every pixel of a
border lies at a corner of one of the mask's: halved and rounded up, these are the pixels' edges.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from univseg_core.annotations.regions import Ring
from univseg_core.domains import IGNORE_INDEX

TOLERANCE = 0.5
"""
How far in pixels an outline may be off. It changes 0.4 % of the pixels of a label map at most, as
benchmarks/outlines.py measures CamVid and NYUv2.
"""

CHANGE = 0.1
"""The largest share of a ring's area that simplification may add or take."""

LONG = 3
"""Where two edges of so many pixels meet is a corner of a thing, and not of its pixels."""


@dataclass(frozen=True)
class Outline:
    """A region in one piece: what is within the ring `outer`, and in none of `holes`."""

    outer: Ring
    holes: tuple[Ring, ...] = ()


def outlines(mask: np.ndarray, tolerance: float = TOLERANCE) -> list[Outline]:
    """
    Return the outlines of the pieces of a mask (H, W) bool.

    Corners are on the edges of pixels: that of column 3, row 0 goes round (3, 0) and (4, 1).
    Pixels that touch at a corner are of one piece; what a hole has within it is another.

    With a tolerance of 0, `Polygons` of an outline covers just the pixels of its piece, and a
    ring goes twice through a corner at which pixels touch. With a larger one, in pixels, corners
    are fewer (Douglas-Peucker, through the middles of pixels' edges, so that a slanted border has
    no steps); a ring that would lose or gain more than a tenth of its area keeps more of them, so
    that every piece remains. Rings of the pieces on both sides of a border are simplified each
    for itself: they may overlap a little, or leave a gap.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    first = columns[0], rows[0]
    part = mask[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].astype(np.uint8)
    borders, links = cv2.findContours(part.repeat(2, 0).repeat(2, 1), cv2.RETR_CCOMP,
                                      cv2.CHAIN_APPROX_NONE)
    rings = [_simplified(_corners((border[:, 0] + 1) // 2 + first), tolerance)
             for border in borders]
    around = links[0, :, 3].tolist()  # of a hole, the ring that it lies in; else -1
    holes: dict[int, list[Ring]] = {}
    for ring, outer in zip(rings, around, strict=True):
        holes.setdefault(outer, []).append(ring)
    return [Outline(ring, tuple(holes.get(i, ()))) for i, ring in enumerate(rings)
            if around[i] < 0]


def class_outlines(mask: np.ndarray, tolerance: float = TOLERANCE
                   ) -> Iterator[tuple[int, Outline]]:
    """
    Yield the class index and outline of each piece of a mask (H, W) uint8, 255 being void.

    The first is that which encloses most: painted in this order, a smaller piece is not covered
    by a larger one that overlaps it, nor by what lies around it where holes cannot be kept.
    """
    found = [(int(index), outline) for index in np.unique(mask) if index != IGNORE_INDEX
             for outline in outlines(mask == index, tolerance)]
    yield from sorted(found, key=lambda each: -enclosed_area(each[1].outer))


def enclosed_area(ring: Ring) -> float:
    """Return the area within a ring, in pixels."""
    x, y = (ring - ring[0]).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _corners(points: np.ndarray) -> Ring:
    """Return where a closed way (n, 2) of steps along one axis, or none, turns."""
    points = points[(points != np.roll(points, 1, 0)).any(1)]
    step = points - np.roll(points, 1, 0)
    return points[(step != np.roll(step, -1, 0)).any(1)].astype(float)


def _simplified(ring: Ring, tolerance: float) -> Ring:
    """Return a ring of axis-parallel edges with fewer corners."""
    if tolerance > 0:
        area, middles = enclosed_area(ring), _middles(ring).astype(np.float32)
        for allowed in (tolerance, tolerance / 2, tolerance / 4):
            fewer = cv2.approxPolyDP(middles, allowed, True)[:, 0].astype(float)
            if len(fewer) > 2 and abs(enclosed_area(fewer) - area) <= CHANGE * area:
                return fewer
    return ring


def _middles(ring: Ring) -> np.ndarray:
    """
    Return the middles (n, 2) of the first and last pixel's edge of each of a ring's edges.

    Corners of long edges are kept between them. The ring through them covers the same pixels.
    """
    ends = np.roll(ring, -1, 0)
    length = np.abs(ends - ring).sum(1)
    half = (ends - ring) / (2 * length[:, None])
    long = length >= LONG
    points = np.stack([ring, ring + half, ends - half], 1)
    return points[np.stack([long & np.roll(long, 1), length > 0, length > 1], 1)]
