"""
Polygons → pixels, by pycocotools, at a cost of the polygon's size and not of its image's.

pycocotools makes run lengths of a polygon, and of these a whole image's pixels. Here only those
of the rectangle around the polygon are made, which are the same.
"""

from collections.abc import Sequence
from types import ModuleType

import numpy as np


def clipped(ring: np.ndarray, height: int, width: int) -> np.ndarray:
    """
    Return a ring (n, 2) without what lies more than the image's size outside of an image.

    It is cut at one side of that larger rectangle after another (Sutherland and Hodgman): what is
    within stays as it is. (0, 2) where nothing is left.
    """
    for axis, size in enumerate((width, height)):
        for sign, limit in ((-1, size), (1, 2 * size)):
            ring = _cut(ring, axis, sign, limit)
    return ring


def _cut(ring: np.ndarray, axis: int, sign: int, limit: int) -> np.ndarray:
    """Return a ring without what lies beyond a line: where sign * coordinate > limit."""
    along = sign * ring[:, axis]
    is_within = along <= limit
    if is_within.all():
        return ring
    crosses = is_within != np.roll(is_within, -1)
    following = np.roll(ring, -1, 0)
    inner, outer = (np.where(is_within[:, None], *ends)[crosses]
                    for ends in ((ring, following), (following, ring)))
    # From the inner end, and by halves, numbers of any size stay exact and finite.
    share = ((sign * limit / 2 - inner[:, axis] / 2)
             / (outer[:, axis] / 2 - inner[:, axis] / 2))[:, None]
    at = np.zeros_like(ring)
    at[crosses] = inner * (1 - share) + outer * share
    at[crosses, axis] = sign * limit
    # Each corner that is within, and behind it the point where its side crosses the line.
    return np.stack([ring, at], 1)[np.stack([is_within, crosses], 1)]


def pixels_within(coco: ModuleType, rings: Sequence[np.ndarray], height: int, width: int
                  ) -> tuple[np.ndarray, int, int]:
    """
    Return the pixels of an image that lie within any of some rings (n, 2), by their centres.

    They are those of the smallest rectangle around them, (h, w) bool, which may be empty, with
    its first column and row. `coco` is pycocotools.mask.
    """
    # It takes memory for each pixel of a border, and two corners for a box.
    near = [ring for ring in (clipped(each, height, width) for each in rings) if len(ring) > 2]
    if not near:
        return np.zeros((0, 0), bool), 0, 0
    runs = coco.merge(coco.frPyObjects([ring.ravel().tolist() for ring in near], height, width))
    left, top, columns, rows = coco.toBbox(runs).astype(int).tolist()
    ends = np.cumsum(_lengths(runs['counts']))[:-1]
    column, row = np.divmod(ends, height)
    # A run of all of a column ends in the first row of the next one, above the rectangle's.
    ends = (column - left) * rows + np.clip(row - top, 0, rows)
    inside = np.zeros(len(ends) + 1, bool)
    inside[1::2] = True
    bits = np.repeat(inside, np.diff(ends, prepend=0, append=columns * rows))
    return bits.reshape(columns, rows).T, left, top


def _lengths(packed: bytes) -> np.ndarray:
    """Return the run lengths that pycocotools packed; `run_lengths.unpacked` says how."""
    codes = np.frombuffer(packed, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    shift = 5 * (np.arange(len(codes)) - np.repeat(first, last - first + 1))
    numbers = np.add.reduceat((codes & 31) << shift, first)
    numbers -= np.where(codes[last] & 16, 32 << shift[last], 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
