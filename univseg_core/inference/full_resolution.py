"""Logits of cells → classes and probabilities at an image's own size, on CPUs."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
import math
import os

import cv2
import numpy as np
from univseg_core.domains import IGNORE_INDEX
from univseg_core.inference.cell_weights import cell_weights, REACH
from univseg_core.machine.processors import cpu_cores

BATCH = 2 ** 15
"""Logits of pixels that are computed at once, 128 kB: they stay in a core's cache."""

FEWEST = 128
"""Blocks of a batch at least, as NumPy's inner loops are over these."""

BAND = 2 ** 18
"""Logits around the blocks of a band, 1 MB at most, unless one row of blocks has more."""

LONGEST = 32
"""Pixels of a block's side at most, so that a batch has many blocks."""

NEVER = np.float32(-1e30)
"""A logit that is never on top, and less than any other."""

NEGLIGIBLE = 2.0 ** -24
"""What classes that are left out change of a probability at most: no more than rounding does."""


@dataclass(frozen=True)
class _Runs:
    """
    An axis of an image as runs of pixels, each of which draws on three cells in a row.

    `of` (length,) is the run of each pixel, `start` (R,) the first pixel and `last` (R,) the
    offset of the last one of a run, `cells` (3, R) what it draws on and `weights` (3, n, R)
    float32 how each pixel does. Runs have up to n pixels: shorter ones repeat their last one.
    """

    of: np.ndarray
    start: np.ndarray
    last: np.ndarray
    cells: np.ndarray
    weights: np.ndarray


def top_classes(logits: np.ndarray, network_size: tuple[int, int], size: tuple[int, int],
                stride: int, *, confidence: bool = False, threshold: float = 0.0,
                threads: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Return the top class of each pixel of an image, and the probability of it.

    `logits` (C, h, w) float32, of 1 to 255 classes at `stride`, are those of an image that the
    network saw at `network_size` (height, width) and that has `size`. They are upsampled
    bilinearly by the stride, cropped to the network's size and resized bilinearly to the
    image's; all in one step, on as many `threads` (None: one for each CPU core). What this takes
    besides its results does not grow with the image. The result:

    - the mask (H, W) uint8: the class of the largest logit, the first of equal ones; 255 where
      its softmax probability is below `threshold`, or where the logits are not numbers.
    - that probability (H, W) uint8 as 0..255, 0 where it is not a number; None unless
      `confidence` is asked for.

    Weights of bilinear interpolation are positive and add up to 1. So where one class is on top
    at all cells that a block of pixels draws on, it is in the whole block; and elsewhere only a
    class that no other one beats at all of the cells can be.
    """
    rows = _runs(logits.shape[1], network_size[0], size[0], stride)
    columns = _runs(logits.shape[2], network_size[1], size[1], stride)
    image = _Image(logits, rows, columns, size, confidence, threshold)
    height = max(1, BAND // (len(logits) * REACH ** 2 * len(columns.start)))
    threads = threads or cpu_cores()
    bands = [slice(start, start + height) for start in range(0, len(rows.start), height)]
    if threads == 1 or len(bands) == 1:
        for band in bands:
            image.compute(band)
    else:
        list(_pool(threads).map(image.compute, bands))
    return image.mask, image.probabilities


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix='top_classes')


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork has none of the threads


@lru_cache(maxsize=16)
def _runs(cells: int, seen: int, length: int, stride: int) -> _Runs:
    """Return the runs of an axis, which is that of `cell_weights`."""
    first, weights = cell_weights(cells, seen, length, stride)
    # No longer than most are, as shorter ones cost as much: at the edges, half a cell is added.
    longest = max(1, min(LONGEST, math.ceil(stride * length / seen)))
    changes = np.flatnonzero(np.diff(first)) + 1
    starts = []
    for start, stop in zip([0, *changes], [*changes, length], strict=True):
        parts = -(-(stop - start) // longest)
        starts += [start + part * (stop - start) // parts for part in range(parts)]
    start = np.array(starts)
    last = np.diff(start, append=length) - 1
    offset = np.minimum(np.arange(last.max() + 1)[:, None], last)
    return _Runs(
        np.repeat(np.arange(len(start)), last + 1), start, last,
        np.minimum(first[start] + np.arange(REACH)[:, None], cells - 1),
        np.ascontiguousarray(weights[start + offset].transpose(2, 0, 1)))


class _Image:
    """The logits of an image, and its mask and probabilities, which are computed in bands."""

    def __init__(self, logits: np.ndarray, rows: _Runs, columns: _Runs, size: tuple[int, int],
                 confidence: bool, threshold: float):
        self.rows, self.columns, self.threshold = rows, columns, threshold
        self.mask = np.empty(size, np.uint8)
        self.probabilities = np.empty(size, np.uint8) if confidence else None
        classes = len(logits)
        # Relative to each cell's top: that changes neither classes nor probabilities.
        # Another class, which never is on top, fills up lists of classes.
        self.cells = np.empty((classes + 1, *logits.shape[1:]), np.float32)
        self.cells[-1] = NEVER
        self.codes = (IGNORE_INDEX - np.arange(classes + 1)).astype(np.uint8)
        self.codes[-1] = 0
        cells = self.cells[:-1]
        top = logits.max(0)
        with np.errstate(invalid='ignore'):  # inf - inf
            np.subtract(logits, top, out=cells)
        cells[:, ~np.isfinite(cells.sum(0))] = np.nan
        self.tops = _first_top(cells, np.float32(0), self.codes[:-1, None, None])
        self.reach = 0.0
        self.sure = self.tops < classes
        if confidence or threshold:
            probability = 1 / np.exp(cells).sum(0)
            enough = max(threshold, 254.5 / 255 if confidence else 0)
            self.sure &= probability >= enough + 1e-6
            self.reach = math.log(NEGLIGIBLE / classes)

    def compute(self, band: slice) -> None:
        """Compute the pixels of a slice of the runs of rows."""
        rows, columns = self.rows, self.columns
        near_rows = rows.cells[:, band]
        lines = slice(rows.start[band][0], rows.start[band][-1] + rows.last[band][-1] + 1)
        lowest, highest, sure = (
            over(over(field[near_rows], axis=0)[:, columns.cells], axis=1)
            for over, field in ((np.min, self.tops), (np.max, self.tops), (np.all, self.sure)))
        filled = sure & (lowest == highest)
        lowest.take(columns.of, axis=1).take(rows.of[lines] - band.start, axis=0,
                                             out=self.mask[lines], mode='clip')  # no copy
        if self.probabilities is not None:
            self.probabilities[lines] = 255
        row, column = np.nonzero(~filled)
        if not len(row):
            return
        width = self.cells.shape[2]
        near = (near_rows[:, None, row] * width + columns.cells[:, column]).reshape(-1, len(row))
        reach = self._within_reach(near, lowest[row, column], highest[row, column])
        row += band.start
        counts = reach.sum(0)
        order = np.argsort(counts)
        agreed = ((lowest == highest) & (lowest < len(reach)))[row - band.start, column]
        for blocks, top in ((order[~agreed[order]], None), (order[agreed[order]], lowest)):
            while len(blocks):
                n = max(FEWEST, BATCH // (counts[blocks[-1]] * columns.weights.shape[1]))
                some, blocks = blocks[-n:], blocks[:-n]
                self._compute(row[some], column[some], near.take(some, axis=1),
                              _lists(reach.take(some, axis=1)),
                              None if top is None else top[row[some] - band.start, column[some]])

    def _within_reach(self, near: np.ndarray, first: np.ndarray, second: np.ndarray
                      ) -> np.ndarray:
        """
        Return which classes (C, n) matter in blocks (n,) that draw on the cells `near` (9, n).

        A class does not if it is beaten at all cells by the class `first` (n,) or `second` (n,),
        which are on top at some, or by the mean of both, which is nowhere above the top.
        """
        planes = self.cells.reshape(len(self.cells), -1)
        around = planes[:-1].take(near, axis=1)
        last = len(around) - 1  # where no class is on top, any will do
        one, two = (planes.take(np.minimum(tops, last, dtype=np.intp) * planes.shape[1] + near)
                    for tops in (first, second))
        beaten = np.zeros((len(around), near.shape[1]), bool)
        for reference in (one, two, (one + two) / 2):
            beaten |= (around - reference).max(1) < self.reach
        return ~beaten

    def _compute(self, row: np.ndarray, column: np.ndarray, near: np.ndarray,
                 classes: np.ndarray, top: np.ndarray | None) -> None:
        """
        Compute blocks (n,) from the cells (9, n) around them and lists of classes (M, n).

        Where the top class (n,) of whole blocks is known, and is in the mask, only its
        probability is.
        """
        around = self.cells.take(classes[:, None] * self.cells[0].size + near)
        if top is not None:
            around -= self.cells.take(top.astype(np.intp) * self.cells[0].size + near)
        above, *below = around.reshape(len(classes), REACH, REACH, -1).transpose(1, 0, 2, 3)
        below = [cells - above for cells in below]
        heights = self.rows.weights.take(row, axis=2)
        widths = self.columns.weights.take(column, axis=2)
        shape = (len(classes), *widths.shape[1:])
        codes = np.broadcast_to(self.codes[classes][:, None], shape).reshape(len(classes), -1)
        pixels = self.columns.start[column] + np.minimum(
            np.arange(shape[1])[:, None], self.columns.last[column])
        pixels += self.rows.start[row] * self.mask.shape[1]
        last = self.rows.last[row]
        drawn = widths[2].any(1)
        third = int(drawn.argmax()) if drawn.any() else shape[1]
        logits, more = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for line in range(heights.shape[1]):
            cells = above + heights[1, line] * below[0]
            if heights[2, line].any():
                cells += heights[2, line] * below[1]
            left, middle, right = cells.transpose(1, 0, 2)[:, :, None]
            np.multiply(widths[1], middle - left, out=logits)
            logits += left
            if third < shape[1]:
                logits[:, third:] += np.multiply(widths[2, third:], right - left,
                                                 out=more[:, third:])
            if line:
                pixels += np.where(line <= last, self.mask.shape[1], 0)
            self._fill(pixels.reshape(-1), logits.reshape(len(classes), -1),
                       codes if top is None else None)

    def _fill(self, pixels: np.ndarray, logits: np.ndarray, codes: np.ndarray | None) -> None:
        """
        Set pixels (n,) of the image by logits (M, n) of classes that have codes (M, n).

        Without codes, the mask has the top class, and logits are relative to its own.
        """
        mask = self.mask.reshape(-1)
        if codes is not None:
            top = logits.max(0)
            found = _first_top(logits, top, codes)
            mask[pixels] = found
            logits -= top
        if self.reach:
            probability = 1 / cv2.exp(logits, logits).sum(0)
            if codes is not None:
                probability[found == IGNORE_INDEX] = 0
            if self.probabilities is not None:
                self.probabilities.reshape(-1)[pixels] = np.rint(255 * probability)
            if self.threshold:
                mask[pixels[probability < self.threshold]] = IGNORE_INDEX


def _lists(chosen: np.ndarray) -> np.ndarray:
    """Return which rows (M, n) of `chosen` (C, n) are, in each column; C fills up its end."""
    column, row = np.nonzero(chosen.T)
    counts = chosen.sum(0)
    lists = np.full((counts.max(), len(counts)), len(chosen))
    lists[np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts), column] = row
    return lists


def _first_top(logits: np.ndarray, top: np.ndarray | np.float32, codes: np.ndarray
               ) -> np.ndarray:
    """Return the first of the classes that have the top logit; 255 where none has."""
    return IGNORE_INDEX - ((logits == top).view(np.uint8) * codes).max(0)

