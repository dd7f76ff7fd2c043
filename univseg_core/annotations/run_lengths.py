"""
Masks as lengths of runs, of pixels outside and inside in turn: COCO's and CVAT's.

pycocotools decodes such lengths, too, but trusts them: of some that do not sum up it returns
memory that was never written, and a text that is cut off is read beyond its end. Hence they are
decoded here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from univseg_core.annotations.regions import AnnotationError, Bits
from univseg_core.errors import shortened

Lengths = Sequence[int]
"""How many pixels are outside, then how many inside, and so on; the first may be 0."""


@dataclass(frozen=True)
class ColumnRuns:
    """
    COCO's mask of a whole image, whose pixels are counted down its columns from the left.

    `counts` are lengths, or the text that COCO packs them into.
    """

    counts: Lengths | str
    height: int
    width: int

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return which pixels it covers; see `regions.Shape`."""
        self.check(height, width)
        counts = unpacked(self.counts) if isinstance(self.counts, str) else self.counts
        return bits_of(counts, width * height).reshape(width, height).T

    def check(self, height: int, width: int) -> None:
        """Raise AnnotationError where it is not of an image of that size."""
        if (height, width) != (self.height, self.width):
            raise AnnotationError(f'run lengths of an image of {self.width}×{self.height}, not of '
                                  f'{width}×{height}')


@dataclass(frozen=True)
class RowRuns:
    """
    CVAT's mask of a rectangle, whose pixels are counted along its rows from the top.

    `counts` is the text in which CVAT lists the lengths, 3, 1, 4; `left` and `top` are the
    rectangle's first column and row.
    """

    counts: str
    height: int
    width: int
    left: int
    top: int

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return which pixels it covers; see `regions.Shape`."""
        try:
            counts = [int(count) for count in self.counts.split(',')]
        except ValueError:
            raise AnnotationError('expected run lengths such as 3, 1, 4, got '
                                  f'{shortened(self.counts, 40)!r}') from None
        bits = bits_of(counts, self.height * self.width).reshape(self.height, self.width)
        return Bits(bits, self.left, self.top).mask(height, width)


def bits_of(counts: Lengths, size: int) -> np.ndarray:
    """
    Return the `size` pixels, bool, of which some run lengths tell.

    Raises AnnotationError where they are no numbers, or do not sum up to `size`.
    """
    try:
        # Of numbers of any size: their sum is judged before a pixel is made.
        total = sum(counts) if all(type(count) is int and count >= 0 for count in counts) else None
    except TypeError:
        total = None
    if total is None:
        raise AnnotationError('expected run lengths, whole numbers of 0 or more')
    if total != size:
        raise AnnotationError(f'run lengths of {total} pixels together, expected {size}')
    inside = np.zeros(len(counts), bool)
    inside[1::2] = True
    return np.repeat(inside, counts)


def lengths_of(bits: np.ndarray) -> list[int]:
    """Return the run lengths of some pixels (N,) bool."""
    ends = np.flatnonzero(np.diff(bits, append=~bits[-1:])) + 1
    lengths = np.diff(ends, prepend=0).tolist()
    return [0, *lengths] if len(bits) and bits[0] else lengths


def unpacked(text: str) -> list[int]:
    """
    Return the run lengths that COCO packed into a text.

    Each character has 5 bits of a number, the lowest first, and says whether more follow; a
    number beyond the third is the difference to the one before the last. Raises AnnotationError
    for another text.
    """
    counts: list[int] = []
    number, shift = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise AnnotationError(f'not run lengths as COCO packs them: {shortened(text, 40)!r}')
        number |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number, shift = 0, 0
    if shift:
        raise AnnotationError(f'run lengths are cut off: {shortened(text, 40)!r}')
    return counts
