"""Whether an encoder is faster with several images at once: measured, as machines differ."""

from collections.abc import Callable
from dataclasses import dataclass
import logging
import time

import numpy as np
from univseg_core.machine.memory import is_out_of_memory, release_gpu_memory

FASTER = 0.95
"""The largest share of their time one after another that images at once may take."""

ROUNDS = 7
"""Measurements, whose median counts; fewer where they take longer than SECONDS."""

SECONDS = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchTimes:
    """
    The milliseconds of an encoder with `images` at once and with as many one after another.

    Both are 0 where nothing was measured, as there is no choice.
    """

    images: int = 1
    at_once: float = 0.0
    one_by_one: float = 0.0

    @property
    def largest(self) -> int:
        """Return how many images are to go through the encoder at once, at most."""
        return self.images if self.at_once <= FASTER * self.one_by_one else 1

    def __str__(self) -> str:
        if not self.one_by_one:
            return 'one by one'
        chosen = 'one by one' if self.largest == 1 else f'{self.largest} at once'
        return (f'{chosen} (the encoder took {self.at_once:.1f} ms for {self.images} at once, '
                f'{self.one_by_one:.1f} ms one by one)')


def measure_batches(encode: Callable[[np.ndarray], None], most: int, size: tuple[int, int], *,
                    first: int = 1) -> BatchTimes:
    """
    Return the times of the largest batch that is faster, of `most` images, half of them and so on.

    Where none is faster, they are the last that were measured. `encode` takes images (N, H, W, 3)
    uint8, here of noise and a `size` (height, width), and returns when they are encoded; the
    `first` passes of each batch size do not count. A batch too large for the memory is left out.
    """
    found = BatchTimes()
    while most > 1:
        images = np.random.default_rng(0).integers(0, 256, (most, *size, 3), np.uint8)
        try:
            found = _measure(encode, images, first)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.info('memory does not suffice for %d images at once: %s', most, error)
        if found.largest > 1:
            return found
        release_gpu_memory()
        most //= 2
    return found


def _measure(encode: Callable[[np.ndarray], None], images: np.ndarray, first: int) -> BatchTimes:
    for _ in range(first):
        encode(images)
        encode(images[:1])
    ways = [images], [image[None] for image in images]
    end = time.perf_counter() + SECONDS
    times: list[list[float]] = []
    while not times or (len(times) < ROUNDS and time.perf_counter() < end):
        times.append([])
        for way in ways:
            begin = time.perf_counter()
            for each in way:
                encode(each)
            times[-1].append(time.perf_counter() - begin)
    return BatchTimes(len(images), *(round(1000 * float(each), 2)
                                     for each in np.median(times, axis=0)))
