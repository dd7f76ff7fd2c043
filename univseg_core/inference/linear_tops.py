"""Which classes are on top from one place to another, if their logits are linear between them."""

from typing import NamedTuple

import numpy as np
from univseg_core.domains import IGNORE_INDEX
from univseg_core.inference.kept_memory import MEMORY

TIE = 1e-5
"""Logits that differ by no more are equal but for rounding."""


class Between(NamedTuple):
    """
    The classes of up to r pixels on each of m ways from one place to another.

    `number` (m,) uint8: so many of them, from the first on, have the first place's class, the
    rest the second's. But ways `third` (t,) have `classes` (r, t) uint8. `top` (r, m) are the
    largest logits, None if they were not asked for.
    """

    number: np.ndarray
    third: np.ndarray
    classes: np.ndarray
    top: np.ndarray | None


def first_top(logits: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Return the first (n,) uint8 of 1 to 255 classes that has the top logit, of (C, n), (n,)."""
    codes = (IGNORE_INDEX - np.arange(len(logits))).astype(np.uint8)[:, None]
    is_top = np.equal(logits, top, out=MEMORY.array('is top', logits.shape, bool))
    ranks = is_top.view(np.uint8)
    ranks *= codes
    return IGNORE_INDEX - ranks.max(0)


def between(first: np.ndarray, second: np.ndarray, first_class: np.ndarray,
            second_class: np.ndarray, shares: np.ndarray, *, with_top: bool,
            tile: int) -> Between:
    """
    Return what is on top between two places, of which logits (C, m) and classes (m,) are given.

    The classes are on top there, but for a tie; the logits of the second are overwritten.
    `shares` (r, m) of 0..1, which never fall, say how far each pixel is on its way. Of logits of
    pixels, a `tile` at most is computed at once.

    Each of the two classes is on its side of the point where their logits are equal, unless a
    third is larger there: then, and only then, it is on top somewhere.
    """
    change = np.subtract(second, first, out=second)
    ways = np.arange(len(first_class))
    rise = first[first_class, ways] - first[second_class, ways]
    relative = change[second_class, ways] - change[first_class, ways]
    crossing = rise / np.maximum(relative, np.finfo(np.float32).tiny)
    is_before = np.less(shares, crossing, out=MEMORY.array('is before', shares.shape, bool))
    number = is_before.view(np.uint8).sum(0, dtype=np.uint8)
    middle = np.multiply(change, crossing, out=MEMORY.array('middle', change.shape))
    middle += first
    third = np.flatnonzero(middle.max(0) > middle[first_class, ways] + TIE)
    top = None
    if with_top:
        top, other = MEMORY.array('tops', (2, *shares.shape))
        for its, each in ((top, first_class), (other, second_class)):
            np.multiply(change[each, ways], shares, out=its)
            its += first[each, ways]
        np.maximum(top, other, out=top)
    classes = np.empty((len(shares), len(third)), np.uint8)
    width = max(1, tile // (len(first) * len(shares)))
    for start in range(0, len(third), width):
        some = third[start:start + width]
        logits = MEMORY.array('logits', (len(first), len(shares), len(some)))
        np.multiply(change[:, None, some], shares[:, some], out=logits)
        logits += first[:, None, some]
        largest = logits.max(0)
        classes[:, start:start + width] = first_top(
            logits.reshape(len(first), -1), largest.reshape(-1)).reshape(largest.shape)
        if top is not None:
            top[:, some] = largest
    return Between(number, third, classes, top)
