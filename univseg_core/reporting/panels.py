"""Panels of a training's pictures: image, truth and prediction, side by side."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import cv2
import numpy as np
from univseg_core.domains import Domain
from univseg_core.pictures.overlay import BLACK, FONT, PAPER, TEXT, with_legend

Thing = TypeVar('Thing')

SHOWN = 4
"""Pictures of a domain in a training's panel."""

THUMBNAIL = (8, 6)
"""Columns and rows of what pictures are compared by."""


def panel(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], domain: Domain,
          width: int = 320) -> np.ndarray:
    """
    Return rows of pictures (each (H, W, 3) uint8) under column titles, above a legend.

    Each picture is scaled to `width` pixels.
    """
    gap = 4
    lines = [_title_line(titles, width, gap)]
    for row in rows:
        height = round(width * row[0].shape[0] / row[0].shape[1])
        cells = [cv2.resize(cell, (width, height), interpolation=cv2.INTER_NEAREST)
                 for cell in row]
        lines.append(np.hstack([np.pad(cell, ((gap, 0), (gap, 0), (0, 0)), constant_values=255)
                                for cell in cells]))
    return with_legend(np.vstack(lines), domain, void=BLACK)


class MostDifferent(Generic[Thing]):
    """
    Keeps, of things that come one by one, the few that are farthest from each other.

    Each has a vector (d,). Where there is one too many, one of the two that are nearest to each
    other goes: the one that is nearer to the others, or else the later one. So which stay depends
    on the vectors and their order alone, and never more than `count` and one are held.
    """

    def __init__(self, count: int = SHOWN):
        self._count = count
        self._kept: list[tuple[np.ndarray, Thing]] = []

    def add(self, vector: np.ndarray, thing: Thing) -> None:
        """Take a thing, or leave it, or take it in the place of another."""
        self._kept.append((np.asarray(vector, np.float64), thing))
        if len(self._kept) <= self._count:
            return
        vectors = np.stack([each for each, _ in self._kept])
        distances = np.linalg.norm(vectors[:, None] - vectors, axis=2)
        np.fill_diagonal(distances, np.inf)
        first, second = sorted(np.unravel_index(distances.argmin(), distances.shape))
        rest = np.delete(np.arange(len(vectors)), (first, second))
        nearest = [distances[i, rest].min(initial=np.inf) for i in (first, second)]
        del self._kept[first if nearest[0] < nearest[1] else second]

    @property
    def things(self) -> list[Thing]:
        """Return what is kept, in the order in which it came."""
        return [thing for _, thing in self._kept]


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return a vector (d,) float32 of the colours of an image (H, W, 3) uint8 by place."""
    return cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()


def validation_panel(domain: Domain,
                     rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return a panel of images (H, W, 3) uint8, their truths and predictions (H, W) uint8."""
    return panel([[image, domain.colourise(truth), domain.colourise(mask)]
                  for image, truth, mask in rows], ['image', 'truth', 'prediction'], domain)


def _title_line(titles: Sequence[str], width: int, gap: int) -> np.ndarray:
    line = np.full((26, len(titles) * (width + gap), 3), PAPER, np.uint8)
    for i, title in enumerate(titles):
        cv2.putText(line, title, (i * (width + gap) + gap, 19), FONT, 0.55, TEXT, 1, cv2.LINE_AA)
    return line
