"""Logits of cells → classes and probabilities at an image's own size, tile by tile."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
import math

import numpy as np
import torch
from univseg_core.domains import IGNORE_INDEX

CPU_TILE = 2 ** 18
"""Logits of a tile for each thread, 1 MB: of what computes them, most stays in its cache."""

DEVICE_TILE = 2 ** 23
"""Logits of a tile on any other device, 32 MB: few kernels, and little of a robot's memory."""


def top_classes(logits: torch.Tensor, network_size: tuple[int, int], size: tuple[int, int],
                stride: int, *, confidence: bool = False, threshold: float = 0.0
                ) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Return the top class of each pixel of an image, and the probability of it.

    `logits` (C, h, w) float32, of 1 to 255 classes at `stride`, are those of an image that the
    network saw at `network_size` (height, width) and that has `size`. They are upsampled
    bilinearly by the stride, cropped to the network's size and resized bilinearly to the
    image's; all in one step, and only a tile at a time, so that what this takes besides its
    results does not grow with the image. The result, on the device of the logits:

    - the mask (H, W) uint8: the class of the largest logit, the first of equal ones; 255 where
      its softmax probability is below `threshold`, or where the logits are not numbers.
    - that probability (H, W) uint8 as 0..255, 0 where it is not a number; None unless
      `confidence` is asked for.
    """
    classes, logits = len(logits), logits.to(torch.float32)
    mask = torch.empty(size, dtype=torch.uint8, device=logits.device)
    probabilities = torch.empty_like(mask) if confidence else None
    # Of the classes that are on top, the first has the largest rank; none leaves 255.
    rank = IGNORE_INDEX - torch.arange(classes, dtype=torch.float32, device=logits.device)
    for rows, columns, tile in _tiles(logits, network_size, size, stride):
        top = tile.amax(0)
        if confidence or threshold:
            probability = tile.softmax(0).amax(0).nan_to_num_(0)
        # In place, and in floats: so it takes a third of the time of Tensor.max on a CPU.
        ranks = tile.eq_(top).mul_(rank[:, None, None]).amax(0)
        mask[rows, columns] = IGNORE_INDEX - ranks
        if threshold:
            mask[rows, columns].masked_fill_(probability < threshold, IGNORE_INDEX)
        if probabilities is not None:
            probabilities[rows, columns] = probability.mul_(255).round_()
    return mask, probabilities


def _tiles(logits: torch.Tensor, network_size: tuple[int, int], size: tuple[int, int],
           stride: int) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Yield the rows, columns and logits (C, b, a) of the tiles of an image."""
    classes, *cells = logits.shape
    height, width = _tile_size(size, _tile_logits(logits.device) // classes)
    rows = _spans(cells[0], network_size[0], size[0], stride, height, logits.device)
    columns = _spans(cells[1], network_size[1], size[1], stride, width, logits.device)
    for row_span, near_rows, row_weights in rows:
        for column_span, near_columns, column_weights in columns:
            wide = logits[:, near_rows, near_columns] @ column_weights.T
            yield row_span, column_span, torch.bmm(row_weights.expand(classes, -1, -1), wide)


def _tile_logits(device: torch.device) -> int:
    return CPU_TILE * torch.get_num_threads() if device.type == 'cpu' else DEVICE_TILE


def _tile_size(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Return the (height, width) of tiles of that many pixels, nearly square where they fit."""
    height = min(size[0], math.isqrt(pixels))
    width = min(size[1], pixels // height)
    return min(size[0], pixels // width), width


@lru_cache(maxsize=16)
def _spans(cells: int, seen: int, length: int, stride: int, longest: int, device: torch.device
           ) -> list[tuple[slice, slice, torch.Tensor]]:
    """
    Return an axis of an image in parts, and how they come from an axis of logits.

    Of each part: the pixels (n ≤ `longest`), the cells (k) that they lie among, and the weights
    (n, k) of these. The axis has `cells` logits at `stride`, `seen` pixels before the network
    and `length` in the image.
    """
    count = -(-length // longest)
    edges = [i * length // count for i in range(count + 1)]
    return [(slice(start, stop), *_weights(cells, seen, length, stride, start, stop, device))
            for start, stop in pairwise(edges)]


def _weights(cells: int, seen: int, length: int, stride: int, start: int, stop: int,
             device: torch.device) -> tuple[slice, torch.Tensor]:
    """Return the cells (k) and their weights (stop − start, k) for a part of an axis."""
    position = ((np.arange(start, stop) + 0.5) * seen / length - 0.5).clip(0, seen - 1)
    below = np.floor(position)
    below_cell, above_cell = (
        ((pixel + 0.5) / stride - 0.5).clip(0, cells - 1) for pixel in (below, below + 1))
    near = np.arange(math.floor(below_cell[0]), math.ceil(above_cell[-1]) + 1)

    def of_pixels(cell: np.ndarray) -> np.ndarray:
        return (1 - abs(cell[:, None] - near)).clip(0)

    share = (position - below)[:, None]
    weights = (1 - share) * of_pixels(below_cell) + share * of_pixels(above_cell)
    return (slice(near[0], near[-1] + 1),
            torch.from_numpy(weights.astype(np.float32)).to(device))
