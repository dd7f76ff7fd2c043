"""How the pixels of an image lie among the cells that the network has logits of."""

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
