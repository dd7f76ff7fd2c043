"""
Label Studio's run lengths of brushes: bits of a picture's RGBA bytes, packed by rle-pack.

The bits, the highest of each byte first: 32 for the number of values, 5 for the bits of a value
less one, four times 4 for the bits of a run's length less one; then runs. A run is 1 bit (1: one
value many times, 0: many values), 2 that choose one of the four sizes, that many for its length
less one, and the value or values.
"""

from dataclasses import dataclass
import math

import numpy as np
from univseg_core.annotations.pngs import COVERED
from univseg_core.annotations.regions import AnnotationError

HEADER_BITS = 32 + 5 + 4 * 4
CHANNELS = 4
VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)
"""What Label Studio itself writes."""


@dataclass(frozen=True)
class Brush:
    """
    What brushes have painted in an image of a size, in packed run lengths.

    Raises AnnotationError where these are of an image of another size, as far as they begin.
    """

    packed: bytes
    height: int
    width: int

    def __post_init__(self) -> None:
        count = _bits(self.packed, 0, 32)
        if count != CHANNELS * self.height * self.width:
            raise AnnotationError(
                f'run lengths of {count / CHANNELS:.15g} pixels, but an image of '
                f'{self.width}×{self.height} has {self.height * self.width}')

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return which pixels it covers, by half or more; see `regions.Shape`."""
        if (height, width) != (self.height, self.width):
            raise AnnotationError(f'a brush in an image of {self.width}×{self.height} pixels, '
                                  f'not {width}×{height}')
        return unpacked(self.packed).reshape(height, width, CHANNELS)[..., 3] >= COVERED


def unpacked(data: bytes) -> np.ndarray:
    """
    Return the values (n,) uint8 of packed run lengths.

    Takes memory for as many as they say. Raises AnnotationError where they end before.
    """
    count, width = _bits(data, 0, 32), _bits(data, 32, 5) + 1
    if width != VALUE_BITS:
        raise AnnotationError(f'run lengths of values of {VALUE_BITS} bits were expected, got '
                              f'{width}')
    sizes = [_bits(data, at, 4) + 1 for at in range(37, HEADER_BITS, 4)]
    values = np.empty(count, np.uint8)
    raw = np.frombuffer(data, np.uint8)
    at, done = HEADER_BITS, 0
    while done < count:
        is_repeated, size = _bits(data, at, 1), sizes[_bits(data, at + 1, 2)]
        end = min(done + _bits(data, at + 3, size) + 1, count)
        at += 3 + size
        if is_repeated:
            values[done:end] = _bits(data, at, VALUE_BITS)
            at += VALUE_BITS
        else:
            values[done:end] = _bytes_at(raw, at, end - done)
            at += VALUE_BITS * (end - done)
        done = end
    return values


def packed(mask: np.ndarray) -> bytes:
    """Return the run lengths of a mask (H, W) bool, which is opaque white on transparent black."""
    flat = mask.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [len(flat)]])
    parts = [f'{CHANNELS * len(flat):032b}', f'{VALUE_BITS - 1:05b}',
             *[f'{size - 1:04b}' for size in LENGTH_BITS]]
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        value = f'{255 if flat[start] else 0:08b}'
        for length in _pieces(CHANNELS * (end - start)):
            choice = next(i for i, bits in enumerate(LENGTH_BITS) if length <= 1 << bits)
            parts.append(f'1{choice:02b}{length - 1:0{LENGTH_BITS[choice]}b}{value}')
    bits = ''.join(parts)
    size = math.ceil(len(bits) / 8)
    return int(bits.ljust(8 * size, '0'), 2).to_bytes(size, 'big')


def _pieces(length: int) -> list[int]:
    """Return a run's length as those of runs that can be written."""
    longest = 1 << LENGTH_BITS[-1]
    whole, rest = divmod(length, longest)
    return [longest] * whole + [rest] * bool(rest)


def _bits(data: bytes, at: int, count: int) -> int:
    """Return up to 32 bits as a number; raise AnnotationError where the data end before."""
    if at + count > 8 * len(data):
        raise AnnotationError('run lengths that are cut off')
    first = at // 8
    window = int.from_bytes(data[first:first + 5].ljust(5, b'\0'), 'big')
    return window >> (40 - at % 8 - count) & ((1 << count) - 1)


def _bytes_at(data: np.ndarray, at: int, count: int) -> np.ndarray:
    """Return bytes (count,) that begin at some bit of other bytes."""
    if at + 8 * count > 8 * len(data):
        raise AnnotationError('run lengths that are cut off')
    first, shift = divmod(at, 8)
    window = data[first:first + count]
    if not shift:
        return window
    return window << shift | data[first + 1:first + 1 + count] >> 8 - shift
