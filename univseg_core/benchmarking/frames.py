"""Whole frames of one model by one backend: image in, masks out, in the worker's own process."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
import sys
import time
from typing import Any

import cv2
import numpy as np
from univseg_core.errors import UnivsegError
from univseg_core.inference.backends import Array, Backend
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.heads import LinearMap
from univseg_core.pictures.images import resize_image

STATUS = Path('/proc/self/status')

MEGABYTE = 10**6


class TimedBackend:
    """
    A Backend that adds up the seconds that its encoder and its tail take, in `seconds`.

    Where the weights are `random`, its tail is given `typical_logits` in the place of its own: a
    mask of noise has more edges than one of a trained network, and takes longer.
    """

    def __init__(self, backend: Backend):
        self._backend = backend
        self.device, self.precision = backend.device, backend.precision
        self.seconds: dict[str, float] = defaultdict(float)
        self.random = False

    def features(self, image: np.ndarray) -> Array:
        """Return what the backend returns, when it is there."""
        with self._timed('encoder'):
            found = self._backend.features(image)
            if self.device.startswith('cuda') and (torch := sys.modules.get('torch')):
                torch.cuda.synchronize()
        return found

    def linear(self, each: LinearMap) -> LinearMap:
        """Return what the backend returns."""
        return self._backend.linear(each)

    def top_classes(self, logits: Any, *sizes: Any, **options: Any
                    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return what the backend returns."""
        if self.random and isinstance(logits, np.ndarray):
            logits = typical_logits(*logits.shape)
        with self._timed('tail'):
            return self._backend.top_classes(logits, *sizes, **options)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begin


class MeasuredSegmenter(Segmenter):
    """
    A Segmenter whose network sees all images at `seen_at` (height, width), and that is timed.

    Where `has_heads` is false, the features are the logits of one label space already.
    """

    def __init__(self, *network: Any, **options: Any):
        super().__init__(*network, **options)
        self.timed = TimedBackend(self._backend)
        self._backend = self.timed
        self.seen_at = (1, 1)
        self.has_heads = True

    def network_size(self, height: int, width: int, inference_size: int | None = None
                     ) -> tuple[int, int]:
        """Return `seen_at`."""
        return self.seen_at

    def masks(self, image: np.ndarray, domains: list[str]) -> list[np.ndarray]:
        """Return the masks of some domains of an image (H, W, 3) uint8 RGB, at its own size."""
        if self.has_heads:
            return [each.mask for each in self(image, domains).values()]
        encoded = self.encode(image)
        mask, _ = self.timed.top_classes(encoded.features, encoded.network_size, encoded.size,
                                         self.stride)
        return [mask]


class Frames:
    """What a worker says when it is `ready`, and measures in each turn."""

    def __init__(self, segmenter: MeasuredSegmenter, image: np.ndarray, domains: list[str],
                 began: float):
        self._segmenter, self._image, self._domains = segmenter, image, domains
        self._frame()
        self.ready = {'startup_s': time.time() - began, 'device': segmenter.device,
                      'memory_mb': resident_memory() / MEGABYTE}

    def turn(self, seconds: float) -> dict[str, Any]:
        """
        Return frame, encoder and tail of each frame that such a time allows, in milliseconds.

        The first one does not count, as other processes had the caches before. One counts in any
        case. With them, the `memory_mb` that are resident.
        """
        self._frame()
        end = time.monotonic() + seconds
        frames = [self._frame()]
        while time.monotonic() < end:
            frames.append(self._frame())
        return {'frames': frames, 'memory_mb': resident_memory() / MEGABYTE}

    def _frame(self) -> list[float]:
        self._segmenter.timed.seconds.clear()
        begin = time.perf_counter()
        self._segmenter.masks(self._image, self._domains)
        parts = self._segmenter.timed.seconds
        return [1000 * value for value in (time.perf_counter() - begin, parts['encoder'],
                                           parts['tail'])]


def begin(job: dict[str, Any]) -> Frames:
    """
    Load what a job names and see a first image.

    Its keys: `path`, `backend`, `device`, `precision`, as for Segmenter.load; `size` and `image`,
    (height, width) that the network sees and that comes in; `domains`, how many (None: all);
    `has_heads`; `random`, whether its weights are; `began`. Raises as Segmenter.load does.
    """
    segmenter = MeasuredSegmenter.load(job['path'], device=job['device'], backend=job['backend'],
                                       precision=job['precision'])
    assert isinstance(segmenter, MeasuredSegmenter)
    segmenter.seen_at = tuple(job['size'])
    segmenter.has_heads, segmenter.timed.random = job['has_heads'], job['random']
    names = list(segmenter.domains)
    wanted = job['domains'] or len(names)
    if wanted > len(names):
        raise UnivsegError(f'{job["path"]}: {wanted} domains: it has {len(names)}')
    return Frames(segmenter, picture(*job['image']), names[:wanted], job['began'])


def picture(height: int, width: int) -> np.ndarray:
    """
    Return an image (H, W, 3) uint8 RGB like a camera's: some hundred patches that blend.

    Noise would have more edges, and take the tail longer, than what a camera sees.
    """
    patches = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8)
    return np.ascontiguousarray(resize_image(patches, height, width))


@lru_cache(maxsize=4)
def typical_logits(classes: int, height: int, width: int) -> np.ndarray:
    """
    Return logits (C, h, w) float32 whose mask has about as many edges as a street scene's.

    On it the tail takes as long as on what a network learned from CamVid makes of CamVid.
    """
    patches = np.random.default_rng(0).normal(size=(classes, 4, 6)).astype(np.float32)
    return np.stack([cv2.resize(each, (width, height)) for each in patches])


def resident_memory() -> int:
    """Return the bytes of memory that this process has, or has had at most without /proc."""
    if STATUS.exists():
        line, = (line for line in STATUS.read_text(encoding='utf-8').splitlines()
                 if line.startswith('VmRSS:'))
        return 1024 * int(line.split()[1])
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == 'darwin' else 1024)
