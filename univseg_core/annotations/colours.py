"""Pictures whose exact colours stand for something → what each pixel stands for."""

from collections.abc import Callable, Mapping

import numpy as np

Colour = tuple[int, int, int]
"""Red, green and blue, 0..255."""

ALL = 256**3

SHOWN = 5

AT_A_TIME = 1 << 22
"""Pixels that are looked up at a time: some bytes are taken for each."""


class ForeignColoursError(ValueError):
    """
    Colours that stand for nothing.

    `often` are the most frequent ones with how many pixels each has, `others` how many more
    colours there are.
    """

    def __init__(self, codes: np.ndarray, counts: np.ndarray):
        least = np.partition(counts, -min(SHOWN, len(counts)))[-SHOWN:].min()
        often = np.flatnonzero(counts >= least)
        first = often[np.argsort(-counts[often], kind='stable')[:SHOWN]]
        self.often = {_colour(code): count for code, count in zip(
            codes[first].tolist(), counts[first].tolist(), strict=True)}
        self.others = len(codes) - len(first)
        super().__init__(self.text())

    def text(self, named: Callable[[Colour], str] = lambda colour: '') -> str:
        """Return the colours in words, each followed by what `named` says of it."""
        texts = [f'{colour}{named(colour)} in {count} pixels'
                 for colour, count in self.often.items()]
        return ', '.join(texts + [f'and {self.others} more colours'] * bool(self.others))


def colour_table(numbers: Mapping[Colour, int]) -> np.ndarray:
    """Return the number, 0 or more, of each of all colours (ALL,) int16, -1 of those without."""
    table = np.full(ALL, -1, np.int16)
    for (red, green, blue), number in numbers.items():
        table[red << 16 | green << 8 | blue] = number
    return table


def numbers_by_colour(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """
    Return the number (H, W) int16 of each pixel's colour in an image (H, W, 3) uint8 RGB.

    `table` is one of `colour_table`. Raises ForeignColoursError for colours without a number.
    """
    found, unknown = np.empty(image.shape[:2], np.int16), []
    rows = max(1, AT_A_TIME // max(1, image.shape[1]))
    for top in range(0, len(image), rows):
        red, green, blue = np.moveaxis(image[top:top + rows].astype(np.int32), -1, 0)
        codes = red << 16 | green << 8 | blue
        part = found[top:top + rows] = table[codes]
        unknown.append(codes[part < 0])
    if any(map(len, unknown)):
        raise ForeignColoursError(*_counted(unknown))
    return found


def _counted(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return which codes, red·65536 + green·256 + blue, there are, and how often each."""
    if len(parts) == 1:
        return np.unique(parts[0], return_counts=True)
    counts = np.zeros(ALL, np.int64)  # of many pixels, faster and in less memory than by sorting
    for part in filter(len, parts):
        counts += np.bincount(part, minlength=ALL)
    codes = np.flatnonzero(counts)
    return codes, counts[codes]


def _colour(code: int) -> Colour:
    return code >> 16, code >> 8 & 255, code & 255
