"""Logits of cells → classes and probabilities at an image's own size, on CPUs."""

from collections.abc import Iterator
from functools import lru_cache
import sys
from typing import NamedTuple

import cv2
import numpy as np
from univseg_core.domains import IGNORE_INDEX
from univseg_core.inference.cell_weights import (
    cell_spans,
    cell_weights,
    dense_spans,
    Knots,
    knots_between,
    REACH,
)
from univseg_core.inference.kept_memory import MEMORY
from univseg_core.inference.linear_tops import between, first_top
from univseg_core.machine.processors import one_blas_thread

TILE = 2 ** 16
"""Logits that are computed at once, 256 kB: they stay in a core's cache."""

BAND = 2 ** 18
"""Pixels in a band's rows of knots, times 4, or times the classes where all logits of these are
computed, which then take 1 MB; there are two such rows at least."""

TALLEST = 32
"""Pixels from one knot to the next at most."""

WIDEST = 64
"""Pixels that are widened by one matrix at most, as it has weights for all cells near them."""

LEAST = -80
"""Logits that are below the largest by more have exponentials beyond the range of float32."""


def top_classes(logits: np.ndarray, network_size: tuple[int, int], size: tuple[int, int],
                stride: int, *, confidence: bool = False, threshold: float = 0.0
                ) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Return the top class of each pixel of an image, and the probability of it.

    `logits` (C, h, w) float32, of 1 to 255 classes at `stride`, are those of an image that the
    network saw at `network_size` (height, width) and that has `size`. They are upsampled
    bilinearly by the stride, cropped to the network's size and resized bilinearly to the
    image's; all in one step, on one thread: of several, each waits for Python's lock. What this
    takes besides its results does not grow with the image's height; the thread keeps it. The
    result:

    - the mask (H, W) uint8: the class of the largest logit, the first of equal ones; 255 where
      its softmax probability is below `threshold`, or where the logits are not numbers.
    - that probability (H, W) uint8 as 0..255, 0 where it is not a number; None unless
      `confidence` is asked for.

    Along a row or a column of pixels, logits are linear from knot to knot, of which there are two
    to each cell. Where one class is on top at a knot and the next, it is so between them, and
    where two are, as `between` finds. So first the rows of knots are found from their knots, then
    the columns from these rows; hardly a pixel has all its logits computed.
    """
    image = _Image(logits, network_size, size, stride, confidence, threshold)
    with one_blas_thread():
        for band in image.bands:
            image.compute(band)
    return image.mask, image.probabilities


class _Band(NamedTuple):
    """Neighbouring knots of an axis, and the `dense_spans` that they are."""

    knots: slice
    spans: list[tuple[slice, slice, np.ndarray]]


@lru_cache(maxsize=32)
def _axis(cells: int, seen: int, length: int, stride: int, most: int) -> tuple[Knots, list[_Band]]:
    """Return the knots of an axis, in bands of so many at most that share their ends."""
    knots = knots_between(cells, seen, length, stride, TALLEST)
    bands = [slice(start, min(start + most, len(knots.cells)))
             for start in range(0, len(knots.cells) - 1, most - 1)]
    return knots, [_Band(band, dense_spans(knots.cells[band], knots.weights[band], cells,
                                           WIDEST // 2)) for band in bands]


@lru_cache(maxsize=16)
def _pixels(cells: int, seen: int, length: int, stride: int
            ) -> list[tuple[slice, slice, np.ndarray]]:
    """Return the `cell_spans` of the pixels of an axis."""
    return cell_spans(cells, seen, length, stride, WIDEST)


class _Image:
    """The logits of an image, and its mask and probabilities, which are computed in bands."""

    def __init__(self, logits: np.ndarray, network_size: tuple[int, int], size: tuple[int, int],
                 stride: int, confidence: bool, threshold: float):
        classes, height, width = logits.shape
        rows, columns = zip((height, width), network_size, size, (stride, stride), strict=True)
        self.threshold = threshold
        self.is_probable = confidence or threshold > 0
        self.rows, self.bands = _axis(
            *rows, max(2, BAND // (size[1] * (classes if self.is_probable else 4))))
        self.columns, [(_, self.spans)] = _axis(*columns, sys.maxsize)
        self.pixels = _pixels(*columns)
        self.mask = np.empty(size, np.uint8)
        self.probabilities = np.empty(size, np.uint8) if confidence else None
        # Relative to each cell's top: that changes neither classes nor probabilities.
        with np.errstate(invalid='ignore', over='ignore'):  # inf - inf
            self.cells = logits - logits.max(0)
        # Of each block of pixels, named by its first cell: whether it draws on what is no number.
        self.unknown = None
        if not np.isfinite(self.cells.min()):
            unknown = ~np.isfinite(self.cells.min(0))
            self.cells[:, unknown] = 0
            self.unknown = cv2.dilate(unknown.view(np.uint8), np.ones((REACH, REACH), np.uint8),
                                      anchor=(0, 0), borderType=cv2.BORDER_REPLICATE).view(bool)
            self.first_cells = cell_weights(*rows)[0], cell_weights(*columns)[0]
        self.is_steep = self.cells.min() < LEAST

    def compute(self, band: _Band) -> None:
        """Compute the pixels from the first to the last of some knots (k) of the rows."""
        lines = slice(self.rows.first[band.knots.start], self.rows.first[band.knots.stop - 1])
        mask, classes = self.mask[lines], len(self.cells)
        narrow = MEMORY.array('narrow', (classes, band.knots.stop - band.knots.start,
                                         self.cells.shape[2]))
        for some, near, weights in band.spans:
            np.matmul(weights, self.cells[:, near], out=narrow[:, some])
        grid = _widened(narrow, self.spans, len(self.columns.cells), 'grid')
        tops = self._rows(grid)
        if self.is_probable:
            logits = _widened(narrow, self.pixels, mask.shape[1], 'wide')
            highest = logits.max(0, out=MEMORY.array('highest', tops.shape))
            logits -= highest
            numerators = MEMORY.array('numerators', mask.shape)
            self._columns(band.knots, lines, grid, tops, (highest, numerators))
            self._divide(band.knots, lines, logits, numerators)
        else:
            self._columns(band.knots, lines, grid, tops)
        if self.unknown is not None:
            unknown = self.unknown[self.first_cells[0][lines]][:, self.first_cells[1]]
            mask[unknown] = IGNORE_INDEX
            if self.probabilities is not None:
                self.probabilities[lines][unknown] = 0

    def _rows(self, grid: np.ndarray) -> np.ndarray:
        """Return the classes (k, W) of rows of pixels from logits (C, k, j) of their knots."""
        classes, _, count = grid.shape
        logits = grid.reshape(classes, -1)
        at_knots = first_top(logits, logits.max(0))
        by_row = at_knots.reshape(-1, count)
        tops = by_row.take(self.columns.gap, 1)
        for where in self._parts((by_row[:, :-1] != by_row[:, 1:]) & self.columns.is_open):
            row, gap = np.divmod(where, count - 1)
            knot = where + row
            first, second = at_knots.take(knot), at_knots.take(knot + 1)
            shares = self.columns.shares.take(gap, 1)
            found = between(logits.take(knot, 1), logits.take(knot + 1, 1), first, second, shares,
                            with_top=False, tile=TILE)
            steps = np.arange(len(shares), dtype=np.uint8)[:, None]
            its = np.where(steps < found.number, first, second)
            its[:, found.third] = found.classes
            tops[row, self.columns.pixels.take(gap, 1)] = its
        return tops

    def _columns(self, knots: slice, lines: slice, grid: np.ndarray, tops: np.ndarray,
                 tops_too: tuple[np.ndarray, np.ndarray] | None = None) -> None:
        """
        Set the mask in some lines (n) from the classes (k, W) of the rows of knots around them.

        Of `tops_too`, the first are the highest logits (k, W) of these, the second (n, W) become
        the exponentials of the highest in the lines, relative to what is linear between the
        knots': 1 where the class is the same at both.
        """
        gaps = slice(knots.start, knots.stop - 1)
        pixels, all_shares = self.rows.pixels[:, gaps] - lines.start, self.rows.shares[:, gaps]
        mask, width, flat = self.mask[lines], tops.shape[1], tops.reshape(-1)
        number = MEMORY.array('number', (len(tops) - 1, width), np.uint8)
        number.fill(IGNORE_INDEX)
        thirds = []
        if tops_too:
            highest, numerators = tops_too
            numerators.fill(1)
        for where in self._parts((tops[:-1] != tops[1:]) & self.rows.is_open[gaps, None]):
            row, column = np.divmod(where, width)
            shares = all_shares.take(row, 1, mode='clip', out=MEMORY.array(
                'shares', (len(all_shares), len(row))))
            found = between(
                self._at(grid, row, column, 'first'), self._at(grid, row + 1, column, 'second'),
                flat.take(where), flat.take(where + width), shares, with_top=tops_too is not None,
                tile=TILE)
            number.reshape(-1)[where] = found.number
            thirds.append((row[found.third], column[found.third], found.classes))
            if found.top is not None:
                above, below = highest.take(where), highest.take(where + width)
                shares *= below - above
                shares += above
                top = np.subtract(found.top, shares, out=shares)
                numerators[pixels.take(row, 1), column] = cv2.exp(top, top)
        gap = self.rows.gap[lines] - knots.start
        tops[:-1].take(gap, 0, out=mask, mode='clip')
        if thirds:
            change = (tops[1:] - tops[:-1]).take(
                gap, 0, out=MEMORY.array('change', mask.shape, np.uint8), mode='clip')
            number = number.take(
                gap, 0, out=MEMORY.array('numbers', mask.shape, np.uint8), mode='clip')
            is_second = np.less_equal(number, self.rows.step[lines, None], out=number.view(bool))
            change *= is_second.view(np.uint8)
            mask += change
        for row, column, classes in thirds:
            mask[pixels.take(row, 1), column] = classes

    def _at(self, grid: np.ndarray, row: np.ndarray, column: np.ndarray, name: str) -> np.ndarray:
        """Return the logits (C, m) of pixels (m,) in the rows of a grid (C, k, j) of knots."""
        knot = row * grid.shape[2] + self.columns.gap.take(column)
        shape, flat = (len(grid), len(knot)), grid.reshape(len(grid), -1)
        found = flat.take(knot, 1, out=MEMORY.array(name, shape), mode='clip')
        change = flat.take(knot + 1, 1, out=MEMORY.array('to the next', shape), mode='clip')
        change -= found
        change *= self.columns.share.take(column)
        found += change
        return found

    def _divide(self, knots: slice, lines: slice, logits: np.ndarray, numerators: np.ndarray
                ) -> None:
        """
        Set the probabilities in some lines (n), and the mask where they are too small.

        `logits` (C, k, W) are relative to the highest at each knot, `numerators` (n, W) are of
        `_columns`, and overwritten.
        """
        classes, _, width = logits.shape
        value, change = MEMORY.array('exponentials', (2, classes, width))
        sums, ones = MEMORY.array('sums', (TALLEST, width)), np.ones(classes, np.float32)
        for gap in range(logits.shape[1] - 1):
            this = knots.start + gap
            some = slice(*(self.rows.first[this:this + 2] - lines.start))
            quotients, count = numerators[some], some.stop - some.start
            if not count:
                continue
            first, shares = logits[:, gap], self.rows.shares[:count, this]
            if self.rows.is_open[this]:
                np.subtract(logits[:, gap + 1], first, out=change)
            else:
                change.fill(0)
            if self.is_steep:
                for share, line in zip(shares, sums, strict=False):
                    np.multiply(change, share, out=value)
                    value += first
                    value -= value.max(0)
                    np.dot(ones, cv2.exp(value, value), out=line)
                quotients.fill(1)
            else:
                if shares[0]:
                    np.multiply(change, shares[0], out=value)
                    first = np.add(value, first, out=value)
                np.dot(ones, cv2.exp(first, value), out=sums[0])
                if count > 1:
                    # From line to line, an exponential changes by the same factor.
                    change *= self.rows.pace[this]
                    cv2.exp(change, change)
                for line in sums[1:count]:
                    value *= change
                    np.dot(ones, value, out=line)
            quotients /= sums[:count]
            if self.threshold:
                self.mask[lines][some][quotients < self.threshold] = IGNORE_INDEX
            if self.probabilities is not None:
                cv2.convertScaleAbs(quotients, self.probabilities[lines][some], 255)

    def _parts(self, found: np.ndarray) -> Iterator[np.ndarray]:
        """Yield where it is found in parts (m,), of which logits are a tile."""
        where = np.flatnonzero(found)
        count = max(1, TILE // len(self.cells))
        for start in range(0, len(where), count):
            yield where[start:start + count]


def _widened(rows: np.ndarray, spans: list[tuple[slice, slice, np.ndarray]], width: int,
             name: str) -> np.ndarray:
    """Return rows (C, k, width) of what `spans` say of rows of cells (C, k, w)."""
    wide = MEMORY.array(name, (*rows.shape[:2], width))
    flat = rows.reshape(-1, rows.shape[2])
    for some, near, weights in spans:
        np.matmul(flat[:, near], weights.T, out=wide.reshape(-1, width)[:, some])
    return wide
