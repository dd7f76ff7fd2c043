"""Many small pictures with captions on one page."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from univseg_core.pictures.overlay import FONT, PAPER, TEXT

GAP, LINE, SCALE = 6, 15, 0.4
"""Pixels between tiles, pixels of a line of text, and the size of its letters."""


def contact_sheet(pictures: Iterable[tuple[np.ndarray, str, Sequence[str]]], columns: int,
                  width: int = 280) -> np.ndarray:
    """
    Return pictures in rows of `columns` as one (H, W, 3) uint8 RGB.

    Each picture is an array (h, w, 3) uint8, scaled to `width` pixels, a mark in its corner, and
    the parts of its caption, which are wrapped below it. Raises ValueError where there is none.
    """
    tiles = [_tile(picture, mark, caption, width) for picture, mark, caption in pictures]
    if not tiles:
        raise ValueError('expected at least one picture')
    columns = min(columns, len(tiles))
    rows = []
    for start in range(0, len(tiles), columns):
        row = tiles[start:start + columns]
        height = max(len(tile) for tile in row)
        line = np.full((height + GAP, columns * (width + GAP) + GAP, 3), PAPER, np.uint8)
        for i, tile in enumerate(row):
            left = GAP + i * (width + GAP)
            line[GAP:GAP + len(tile), left:left + width] = tile
        rows.append(line)
    return np.vstack(rows)


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of at most `width` pixels, broken at spaces where they allow it."""
    lines = ['']
    for word in text.split():
        longer = f'{lines[-1]} {word}'.strip()
        if lines[-1] and _width(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _width(text: str) -> int:
    return cv2.getTextSize(text, FONT, SCALE, 1)[0][0]


def _tile(picture: np.ndarray, mark: str, caption: Sequence[str], width: int) -> np.ndarray:
    height = max(1, round(width * picture.shape[0] / picture.shape[1]))
    shown = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    box = cv2.getTextSize(mark, FONT, 0.6, 2)[0]
    cv2.rectangle(shown, (0, 0), (box[0] + 8, box[1] + 10), PAPER, cv2.FILLED)
    cv2.putText(shown, mark, (4, box[1] + 4), FONT, 0.6, TEXT, 2, cv2.LINE_AA)
    lines = [line for part in caption for line in wrapped(part, width)]
    text = np.full((LINE * len(lines) + LINE // 2, width, 3), PAPER, np.uint8)
    for i, line in enumerate(lines):
        cv2.putText(text, line, (0, LINE * (i + 1) - 3), FONT, SCALE, TEXT, 1, cv2.LINE_AA)
    return np.vstack([shown, text])
