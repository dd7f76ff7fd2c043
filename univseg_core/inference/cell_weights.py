"""How the pixels of an image lie among the cells that the network has logits of."""

from itertools import pairwise

import numpy as np

REACH = 3
"""Cells of an axis that a pixel draws on at most: two pixels, each between two cells."""


def cell_weights(cells: int, seen: int, length: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Return what each pixel of an axis is made of: two bilinear maps in one.

    The axis has `cells` logits at `stride`, `seen` pixels before the network and `length` in the
    image: logits are upsampled by the stride, cropped to `seen` and resized to `length`. Of each
    pixel: the first cell (length,) intp that it draws on, and the weights (length, 3) float32 of
    this and the next two. Cells beyond the last have weight 0.
    """
    position = ((np.arange(length) + 0.5) * seen / length - 0.5).clip(0, seen - 1)
    below = np.floor(position)
    below_cell, above_cell = (
        ((pixel + 0.5) / stride - 0.5).clip(0, cells - 1) for pixel in (below, below + 1))
    first = np.floor(below_cell).astype(np.intp)
    near = first[:, None] + np.arange(REACH)
    share = (position - below)[:, None]
    weights = ((1 - share) * (1 - abs(below_cell[:, None] - near)).clip(0)
               + share * (1 - abs(above_cell[:, None] - near)).clip(0))
    return first, weights.astype(np.float32)


def cell_spans(cells: int, seen: int, length: int, stride: int, longest: int
               ) -> list[tuple[slice, slice, np.ndarray]]:
    """
    Return an axis of an image in parts, and how they come from an axis of logits.

    Of each part: the pixels (n ≤ `longest`), the cells (k) that they lie among, and the weights
    (n, k) float32 of these. The axis is that of `cell_weights`.
    """
    first, weights = cell_weights(cells, seen, length, stride)
    count = -(-length // longest)
    spans = []
    for start, stop in pairwise(i * length // count for i in range(count + 1)):
        near = slice(int(first[start]), min(int(first[stop - 1]) + REACH, cells))
        dense = np.zeros((stop - start, near.stop - near.start + REACH - 1), np.float32)
        offset = first[start:stop, None] - near.start + np.arange(REACH)
        np.put_along_axis(dense, offset, weights[start:stop], axis=1)
        spans.append((slice(start, stop), near,
                      np.ascontiguousarray(dense[:, :near.stop - near.start])))
    return spans
