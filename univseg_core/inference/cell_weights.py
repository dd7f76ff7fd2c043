"""How the pixels of an image lie among the cells that the network has logits of."""

from dataclasses import dataclass
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
    return _weights_at(_positions(seen, length).clip(0, seen - 1), cells, seen, stride)


def cell_spans(cells: int, seen: int, length: int, stride: int, longest: int
               ) -> list[tuple[slice, slice, np.ndarray]]:
    """Return an axis of an image as `dense_spans`; the axis is that of `cell_weights`."""
    return dense_spans(*cell_weights(cells, seen, length, stride), cells, longest)


def dense_spans(first: np.ndarray, weights: np.ndarray, cells: int, longest: int
                ) -> list[tuple[slice, slice, np.ndarray]]:
    """
    Return pixels in parts, and how they come from an axis of so many cells.

    The pixels are given as `cell_weights` returns them. Of each part: the pixels (n ≤ `longest`),
    the cells (k) that they lie among, and the weights (n, k) float32 of these.
    """
    length, count, spans = len(first), -(-len(first) // longest), []
    for start, stop in pairwise(i * length // count for i in range(count + 1)):
        near = slice(int(first[start]), min(int(first[stop - 1]) + REACH, cells))
        dense = np.zeros((stop - start, near.stop - near.start + REACH - 1), np.float32)
        offset = first[start:stop, None] - near.start + np.arange(REACH)
        np.put_along_axis(dense, offset, weights[start:stop], axis=1)
        spans.append((slice(start, stop), near,
                      np.asfortranarray(dense[:, :near.stop - near.start])))  # as .T is used most
    return spans


@dataclass(frozen=True)
class Knots:
    """
    Where along an axis of n pixels the slope of logits may change: k knots, k - 1 gaps.

    What each knot is made of: `cells` (k,) and `weights` (k, 3), as `cell_weights` has it of
    pixels. Of each pixel: the gap that it is in, or at whose beginning it is, `gap` (n,); its
    number in that gap, from 0, `step` (n,) uint8; and how far along the gap it is, `share` (n,)
    float32 of 0..1. Of each gap, with r pixels at most: its `pixels` (r, k - 1), the last of them
    repeated, and their `shares` (r, k - 1), which grow by `pace` (k - 1,) float32; and whether
    any is not at its beginning, `is_open` (k - 1,) bool. `first` (k,): the first pixel at or
    after each knot.
    """

    cells: np.ndarray
    weights: np.ndarray
    gap: np.ndarray
    step: np.ndarray
    share: np.ndarray
    pixels: np.ndarray
    shares: np.ndarray
    pace: np.ndarray
    is_open: np.ndarray
    first: np.ndarray


def knots_between(cells: int, seen: int, length: int, stride: int, most: int) -> Knots:
    """
    Return the knots of the axis of `cell_weights`, and at most so many pixels in a gap.

    Knots are pixels before the network, next to the centres of cells: two of each. Where they
    would be no fewer than the image's pixels, each of these is one.
    """
    position = _positions(seen, length)
    places = _bends(seen, stride)
    if len(places) < length:
        counts = np.histogram(position, places)[0]
        places = np.concatenate([
            *(np.linspace(*ends, count // most + 1, endpoint=False)
              for ends, count in zip(pairwise(places), counts, strict=True)), places[-1:]])
        gap = np.searchsorted(places, position, 'right') - 1
    else:
        places = np.append(position, position[-1] + 1)
        gap = np.arange(length)
    share = ((position - places[gap]) / np.diff(places)[gap]).astype(np.float32)
    first = np.searchsorted(gap, np.arange(len(places)))
    last = (first[1:] - 1).clip(0)
    pixels = np.minimum(first[:-1] + np.arange(np.diff(first).max())[:, None], last)
    return Knots(
        *_weights_at(places.clip(0, seen - 1), cells, seen, stride), gap,
        (np.arange(length) - first[gap]).astype(np.uint8), share, pixels, share[pixels],
        (seen / length / np.diff(places)).astype(np.float32),
        (np.diff(first) > 0) & (share[last] > 0), first)


def _bends(seen: int, stride: int) -> np.ndarray:
    """Return where among the pixels before the network, and at their edges, slopes may change."""
    # Twice the stride times where they lie among the cells.
    scaled = 2 * np.arange(-1, seen + 1) + 1 - stride
    below, above = scaled[:-1] // (2 * stride), -(-scaled[1:] // (2 * stride))
    bends = (np.diff(below) != 0) | (np.diff(above) != 0)
    bends[[0, -1]] = True  # pixels beyond the first and the last are as these
    return np.concatenate([[-0.5], np.flatnonzero(bends), [seen - 0.5]])


def _positions(seen: int, length: int) -> np.ndarray:
    """Return where the pixels of an image lie among those before the network, or beyond."""
    return (np.arange(length) + 0.5) * seen / length - 0.5


def _weights_at(position: np.ndarray, cells: int, seen: int, stride: int
                ) -> tuple[np.ndarray, np.ndarray]:
    """Return `cell_weights` of positions among the pixels before the network, 0..seen-1."""
    below = np.floor(position)
    below_cell, above_cell = (
        ((pixel + 0.5) / stride - 0.5).clip(0, cells - 1) for pixel in (below, below + 1))
    first = np.floor(below_cell).astype(np.intp)
    near = first[:, None] + np.arange(REACH)
    share = (position - below)[:, None]
    weights = ((1 - share) * (1 - abs(below_cell[:, None] - near)).clip(0)
               + share * (1 - abs(above_cell[:, None] - near)).clip(0))
    return first, weights.astype(np.float32)
