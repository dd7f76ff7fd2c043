"""
Masks → polygons without holes, each painted over those before it.

They are for tools that know no holes, and draw as `drawn.Drawn` does: corners are the middles of
a region's outermost pixels, whose borders are drawn, too. Where two regions meet, only the later
one's outline counts, for the earlier one goes on below it: so simplifying leaves no gaps.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from univseg_core.annotations.drawn import drawn_classes
from univseg_core.annotations.regions import Ring
from univseg_core.domains import IGNORE_INDEX

TOLERANCES = (1.0, 0.8, 0.6, 0.4, 0.0)
"""How far in pixels an outline may be off; the first one counts that is good enough."""

WRONG = 0.004
"""The share of pixels that may be of another class afterwards."""

BELOW = 2
"""Pixels by which a region goes on below later ones: more than any tolerance."""

VOID_COVERED = 0.5
"""The share of a void piece that others have to cover for it to be painted over them."""


def stacked_outlines(mask: np.ndarray) -> list[tuple[int, Ring]]:
    """
    Return the class index and outline of each piece of a mask (H, W) uint8, undermost first.

    Void, 255, is among them only where it lies within others. Drawn one over another, they are
    the mask but for WRONG of its pixels.
    """
    pieces = _Pieces.of(mask)
    is_painted = pieces.classes != IGNORE_INDEX
    found = pieces.outlines(is_painted, 0)
    covered = drawn_classes(found, *mask.shape) != IGNORE_INDEX
    share = np.bincount(pieces.rank.ravel(), covered.ravel()) / np.bincount(pieces.rank.ravel())
    is_painted |= share > VOID_COVERED
    for tolerance in TOLERANCES:
        found = pieces.outlines(is_painted, tolerance)
        if np.mean(drawn_classes(found, *mask.shape) != mask) <= WRONG:
            break
    return found


@dataclass(frozen=True)
class _Pieces:
    """
    The pieces of a mask, by their ranks: what encloses another one comes before it.

    `rank` (H, W) int32 has that of each pixel's piece, `classes` (n,) and `boxes` (n, 4: left,
    top, width, height) are of each piece.
    """

    rank: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> '_Pieces':
        """Return the pieces of a mask: pixels of a class that touch at their sides."""
        number = np.zeros(mask.shape, np.int32)
        classes: list[int] = []
        boxes: list[list[int]] = []
        for index in np.flatnonzero(np.bincount(mask.ravel())).tolist():
            count, labels, stats, _ = cv2.connectedComponentsWithStats(
                (mask == index).astype(np.uint8), connectivity=4)
            np.copyto(number, labels + (len(classes) - 1), where=labels > 0)
            classes += [index] * (count - 1)
            boxes += stats[1:, :4].tolist()
        sides = np.array(boxes).reshape(-1, 4)
        # The box of what lies within another has a smaller one.
        order = np.argsort(-sides[:, 2] * sides[:, 3], kind='stable')
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order))
        return cls(rank[number], np.array(classes)[order], sides[order])

    def outlines(self, is_painted: np.ndarray, tolerance: float) -> list[tuple[int, Ring]]:
        """Return class and outline of the pieces that are painted, (n,) bool, in their order."""
        painted = np.where(is_painted[self.rank], self.rank, -1)
        return [(int(self.classes[rank]), self._outline(rank, painted, tolerance))
                for rank in np.flatnonzero(is_painted).tolist()]

    def _outline(self, rank: int, painted: np.ndarray, tolerance: float) -> Ring:
        """Return the outline of a piece; `painted` (H, W) has the ranks, -1 of what is not."""
        left, top, width, height = self.boxes[rank].tolist()
        left, top = max(left - BELOW, 0), max(top - BELOW, 0)
        part = painted[top:top + height + 2 * BELOW, left:left + width + 2 * BELOW]
        region = (part == rank).astype(np.uint8)
        if tolerance:
            may_cover = (part >= rank).astype(np.uint8)
            for _ in range(BELOW):
                grown = cv2.dilate(region, np.ones((3, 3), np.uint8))
                region = np.asarray(grown, np.uint8) & may_cover
        [border], _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        # Of what is thin, no more than a quarter of its width.
        allowed = min(tolerance, float(region.sum()) / (2 * cv2.arcLength(border, True) + 1))
        corners = cv2.approxPolyDP(border, allowed, True)[:, 0] + (left + 0.5, top + 0.5)
        # A dot or a line needs three corners, too: others of its last pixel.
        return np.concatenate([corners, *[corners[-1:] + 0.2 * i
                                          for i in range(1, 4 - len(corners))]])

