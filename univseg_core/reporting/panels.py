"""Panels of a training's pictures: image, truth and prediction, side by side."""

from collections.abc import Sequence

import cv2
import numpy as np
from univseg_core.domains import Domain
from univseg_core.pictures.overlay import FONT, PAPER, TEXT, with_legend


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
    return with_legend(np.vstack(lines), domain)


def evenly_spaced(total: int, count: int = 4) -> list[int]:
    """Return the places of at most `count` of `total` things, evenly spaced."""
    count = min(count, total)
    return [i * total // count for i in range(count)]


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
