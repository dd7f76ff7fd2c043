"""Logits of cells → classes and probabilities at an image's own size, on CPUs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
import math

import cv2
import numpy as np
from univseg_core.domains import IGNORE_INDEX
from univseg_core.inference.cell_weights import cell_spans, cell_weights, REACH
from univseg_core.machine.processors import one_blas_thread

TILE = 2 ** 16
"""Logits of pixels that are computed at once, 256 kB: they stay in a core's cache."""

BAND = 2 ** 18
"""Logits of a band that is widened at once, 1 MB, unless one row of blocks has more."""

TALLEST = 32
"""Pixel rows of a strip at most, so that a tile of it is not too narrow."""

WIDEST = 64
"""Pixels that are widened by one matrix at most, as it has weights for all cells near them."""

NEGLIGIBLE = 1e-6
"""Rounding changes a probability by less."""

WINDOW = np.ones((REACH, REACH), np.uint8)
"""Cells that a block of pixels draws on: its first cell is the window's."""


@dataclass(frozen=True)
class _Strip:
    """Pixel rows whose first cells are all in row `cell`, and their weights (n, 3)."""

    lines: slice
    cell: int
    weights: np.ndarray


def top_classes(logits: np.ndarray, network_size: tuple[int, int], size: tuple[int, int],
                stride: int, *, confidence: bool = False, threshold: float = 0.0
                ) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Return the top class of each pixel of an image, and the probability of it.

    `logits` (C, h, w) float32, of 1 to 255 classes at `stride`, are those of an image that the
    network saw at `network_size` (height, width) and that has `size`. They are upsampled
    bilinearly by the stride, cropped to the network's size and resized bilinearly to the
    image's; all in one step, on one thread: of several, each waits for Python's lock. What this
    takes besides its results does not grow with the image's height. The result:

    - the mask (H, W) uint8: the class of the largest logit, the first of equal ones; 255 where
      its softmax probability is below `threshold`, or where the logits are not numbers.
    - that probability (H, W) uint8 as 0..255, 0 where it is not a number; None unless
      `confidence` is asked for.

    Weights of bilinear interpolation are positive and add up to 1. So where one class is on top
    at all cells that a block of pixels draws on, it is in the whole block, which is filled; so is
    its probability, no less than the cells', where these round to 255. The rest is computed.
    """
    image = _Image(logits, network_size, size, stride, confidence, threshold)
    height = max(1, BAND // (len(logits) * size[1]) - REACH + 1)
    with one_blas_thread():
        for i in range(0, len(image.strips), height):
            image.compute(image.strips[i:i + height])
    return image.mask, image.probabilities


@lru_cache(maxsize=16)
def _strips(cells: int, seen: int, length: int, stride: int) -> list[_Strip]:
    """Return the strips of the rows of an image."""
    first, weights = cell_weights(cells, seen, length, stride)
    edges = [0, *(np.flatnonzero(np.diff(first)) + 1).tolist(), length]
    return [_Strip(slice(top, min(top + TALLEST, stop)), int(first[top]),
                   weights[top:min(top + TALLEST, stop)])
            for start, stop in pairwise(edges) for top in range(start, stop, TALLEST)]


@lru_cache(maxsize=16)
def _columns(cells: int, seen: int, length: int, stride: int
             ) -> tuple[np.ndarray, list[tuple[slice, slice, np.ndarray]]]:
    """Return the first cell of each pixel of a row, and the `cell_spans` (k, n) that widen it."""
    return cell_weights(cells, seen, length, stride)[0], [
        (pixels, near, np.ascontiguousarray(weights.T))
        for pixels, near, weights in cell_spans(cells, seen, length, stride, WIDEST)]


class _Image:
    """The logits of an image, and its mask and probabilities, which are computed in bands."""

    def __init__(self, logits: np.ndarray, network_size: tuple[int, int], size: tuple[int, int],
                 stride: int, confidence: bool, threshold: float):
        classes, height, width = logits.shape
        self.threshold = threshold
        self.strips = _strips(height, network_size[0], size[0], stride)
        self.first_columns, self.spans = _columns(width, network_size[1], size[1], stride)
        self.mask = np.empty(size, np.uint8)
        self.probabilities = np.empty(size, np.uint8) if confidence else None
        self.codes = (IGNORE_INDEX - np.arange(classes)).astype(np.uint8)[:, None]
        # Relative to each cell's top: that changes neither classes nor probabilities.
        with np.errstate(invalid='ignore', over='ignore'):  # inf - inf
            self.cells = logits - logits.max(0)
        unknown = ~np.isfinite(self.cells.min(0))
        self.cells[:, unknown] = 0
        flat = self.cells.reshape(classes, -1)
        tops = _first_top(flat, np.float32(0), self.codes).reshape(height, width)
        tops[unknown] = IGNORE_INDEX
        # Of each block, named by its first cell: what fills it, and whether it is to be computed.
        self.fill = _over_blocks(cv2.dilate, tops)
        self.open = _over_blocks(cv2.erode, tops) != self.fill
        if confidence or threshold:
            probability = 1 / cv2.exp(flat).sum(0).reshape(height, width)
            enough = max(threshold, 254.5 / 255 if confidence else 0) + NEGLIGIBLE
            unsure = (probability < enough).view(np.uint8)
            self.open |= _over_blocks(cv2.dilate, unsure).view(bool)
        self.open[self.fill == IGNORE_INDEX] = False

    def compute(self, band: list[_Strip]) -> None:
        """Compute the pixels of strips."""
        first, after = band[0].cell, band[-1].cell + 1
        fill = self.fill[first:after].take(self.first_columns, axis=1)
        is_open = self.open[first:after].take(self.first_columns, axis=1)
        for strip in band:
            row = fill[strip.cell - first]
            self.mask[strip.lines] = row
            if self.probabilities is not None:
                self.probabilities[strip.lines] = np.where(row == IGNORE_INDEX, 0, 255)
        if not is_open.any():
            return
        near = np.arange(first, after + REACH - 1).clip(max=self.cells.shape[1] - 1)
        cells = self.cells[:, near]
        wide = np.empty((*cells.shape[:2], self.mask.shape[1]), np.float32)
        for pixels, columns, weights in self.spans:
            np.matmul(cells[:, :, columns], weights, out=wide[:, :, pixels])
        # Memory that is new each time costs more than what is computed in it.
        memory = np.empty(max(TILE, len(cells) * TALLEST), np.float32)
        for strip in band:
            row = strip.cell - first
            if is_open[row].any():
                self._compute(strip, np.flatnonzero(is_open[row]), wide[:, row:row + REACH],
                              memory)

    def _compute(self, strip: _Strip, pixels: np.ndarray, rows: np.ndarray, memory: np.ndarray
                 ) -> None:
        """Compute some columns (n,) of a strip from the rows of cells (C, 3, W) near it."""
        cuts = [0, *(np.flatnonzero(np.diff(pixels) > 1) + 1).tolist(), len(pixels)]
        runs = [slice(pixels[start], pixels[stop - 1] + 1) for start, stop in pairwise(cuts)]
        near = np.concatenate([rows[:, :, run] for run in runs], axis=2)
        width = max(1, TILE // (len(near) * len(strip.weights)))
        for start in range(0, len(pixels), width):
            some = near[:, :, start:start + width]
            shape = len(some), len(strip.weights), some.shape[2]
            logits = memory[:math.prod(shape)].reshape(shape)
            np.matmul(strip.weights, some, out=logits)
            self._set((strip.lines, pixels[start:start + width]), logits.reshape(len(some), -1),
                      shape[1:])

    def _set(self, where: tuple[slice, np.ndarray], logits: np.ndarray, shape: tuple[int, ...]
             ) -> None:
        """Set the pixels of that shape by their logits (C, n), which are overwritten."""
        top = logits.max(0)
        found = _first_top(logits, top, self.codes)
        if self.threshold or self.probabilities is not None:
            logits -= top
            probability = 1 / cv2.exp(logits, logits).sum(0)
            if self.probabilities is not None:
                self.probabilities[where] = np.rint(255 * probability).reshape(shape)
            if self.threshold:
                found[probability < self.threshold] = IGNORE_INDEX
        self.mask[where] = found.reshape(shape)


def _over_blocks(function: Callable[..., np.ndarray], field: np.ndarray) -> np.ndarray:
    """Return the largest or least (h, w) of what each block draws on of cells (h, w) uint8."""
    return function(field, WINDOW, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)


def _first_top(logits: np.ndarray, top: np.ndarray | np.float32, codes: np.ndarray
               ) -> np.ndarray:
    """Return the first of the classes that have the top logit; 255 where none has."""
    return IGNORE_INDEX - ((logits == top).view(np.uint8) * codes).max(0)
