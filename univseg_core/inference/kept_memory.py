"""Arrays that are kept from one image to the next."""

import math
import threading

import numpy as np

LINE = 64
"""Bytes of a line of the cache, on nearly all processors."""


class KeptMemory(threading.local):
    """
    Arrays that each thread keeps: new memory costs more than what is computed in it.

    The array of a name is as large as the largest so far, and good until the next of that name.
    """

    def __init__(self) -> None:
        self._kept: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """Return the array of a name, which always has the same dtype, with any content."""
        size = math.prod(shape)
        if name not in self._kept or len(self._kept[name]) < size:
            self._kept[name] = _aligned(size, dtype)
        return self._kept[name][:size].reshape(shape)


def _aligned(size: int, dtype: type) -> np.ndarray:
    """Return an array that begins with a line of the cache: vectors that cross lines are slow."""
    memory = np.empty(size * np.dtype(dtype).itemsize + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start:start + size * np.dtype(dtype).itemsize].view(dtype)


MEMORY = KeptMemory()
"""Of all that computes masks, which ends with one image before it begins with the next."""
