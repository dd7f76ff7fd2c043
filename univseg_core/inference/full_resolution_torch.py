"""Logits of cells → classes and probabilities at an image's own size, on a GPU, tile by tile."""

from collections.abc import Iterator
from functools import lru_cache
import math

import torch
from univseg_core.domains import IGNORE_INDEX
from univseg_core.inference.cell_weights import cell_spans

DEVICE_TILE = 2 ** 23
"""Logits of a tile, 32 MB: few kernels, and little of a robot's memory."""


def top_classes(logits: torch.Tensor, network_size: tuple[int, int], size: tuple[int, int],
                stride: int, *, confidence: bool = False, threshold: float = 0.0
                ) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Return what `full_resolution.top_classes` does, as tensors on the device of the logits.

    So logits on a GPU need not leave it, but masks alone, which are smaller. CPU tensors are
    taken, too, but the other function is faster with them.
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
    height, width = _tile_size(size, DEVICE_TILE // classes)
    rows = _spans(cells[0], network_size[0], size[0], stride, height, logits.device)
    columns = _spans(cells[1], network_size[1], size[1], stride, width, logits.device)
    for row_span, near_rows, row_weights in rows:
        for column_span, near_columns, column_weights in columns:
            wide = logits[:, near_rows, near_columns] @ column_weights.T
            yield row_span, column_span, torch.bmm(row_weights.expand(classes, -1, -1), wide)


def _tile_size(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Return the (height, width) of tiles of that many pixels, nearly square where they fit."""
    height = min(size[0], math.isqrt(pixels))
    width = min(size[1], pixels // height)
    return min(size[0], pixels // width), width


@lru_cache(maxsize=16)
def _spans(cells: int, seen: int, length: int, stride: int, longest: int, device: torch.device
           ) -> list[tuple[slice, slice, torch.Tensor]]:
    """Return the `cell_spans` of an axis, the weights on the device."""
    return [(pixels, near, torch.from_numpy(weights).to(device)) for pixels, near, weights
            in cell_spans(cells, seen, length, stride, longest)]
