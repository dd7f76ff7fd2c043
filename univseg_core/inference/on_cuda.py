"""What is of CUDA alone: pinned memory, and passes that are recorded once as CUDA graphs."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
import logging
import threading
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

KEPT_SIZES = 3
"""Sizes of images for which buffers and graphs are kept, the latest ones of each batch size."""

EAGER_FRAMES = 3
"""
Frames of a size before its pass is recorded.

Recording tries the algorithms of cuDNN, which takes the time of many frames: a size that comes
once or twice, as in a folder of photographs, is not worth it.
"""

COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
"""What may bring a tensor to another device."""

Pass = Callable[[torch.Tensor], torch.Tensor]
"""From images (N, H, W, 3) uint8 on the device to what a network makes of them there."""

log = logging.getLogger(__name__)

_recording = threading.Lock()  # PyTorch records one graph at a time in a process


class GraphedPass:
    """
    A pass on a CUDA device that is recorded as a graph for each size that comes often.

    A narrow network at a small size is a hundred short kernels, and the CPU takes longer to start
    each than the GPU to run it; a graph starts them all at once. What a pass returns is good until
    the next one. Where a pass cannot be recorded (a layer waits for the GPU, say), all run as they
    are; a line in the log says so.

    Raises what PyTorch does of the pass itself.
    """

    def __init__(self, run: Pass, device: torch.device):
        self._run = run
        # Of each batch size its own, or those of several cameras would push each other out.
        self._sizes = defaultdict(lambda: lru_cache(KEPT_SIZES)(partial(_Size, device)))
        self._is_recorded = True

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return what becomes of images (N, H, W, 3) uint8 on the CPU, which it copies at once."""
        size = self.size(*images.shape[:3])
        size.take(images)
        if self._is_recorded and size.replay is None and size.passes > EAGER_FRAMES:
            self._record(size)
        return self._run(size.images) if size.replay is None else size.replay()

    def size(self, count: int, height: int, width: int) -> '_Size':
        """Return what is kept for passes of so many images of a size; new where nothing is."""
        return self._sizes[count](count, height, width)

    def _record(self, size: '_Size') -> None:
        try:
            with _recording:
                size.replay = record(self._run, size.images)
        except RuntimeError as error:
            self._is_recorded = False  # also where memory ran out: as it is, the pass had enough
            log.warning('the encoder cannot be recorded as a CUDA graph, and runs without, more '
                        'slowly: %s', str(error).splitlines()[0])


class _Size:
    """The buffers of images of one size, and how their pass is replayed once it is recorded."""

    def __init__(self, device: torch.device, count: int, height: int, width: int):
        self._pinned = pinned(torch.empty(count, height, width, 3, dtype=torch.uint8,
                                          device='meta'))
        self._copied = torch.cuda.Event()
        self.images = torch.empty_like(self._pinned, device=device)
        self.replay: Callable[[], torch.Tensor] | None = None
        self.passes = 0

    def take(self, images: torch.Tensor) -> None:
        self._copied.synchronize()  # or the last images would change on their way
        self._pinned.copy_(images)
        self.images.copy_(self._pinned, non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self.images.device))
        self.passes += 1


def record(run: Pass, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    """
    Return what replays a pass with whatever then lies in `images`, into the same tensor each time.

    Raises RuntimeError where it cannot be recorded; that memory ran out may stand in the errors
    that led to it.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(images.device)
    stream.wait_stream(torch.cuda.current_stream(images.device))
    # The outer block also leaves the stream where recording fails, as torch.cuda.graph does not.
    with torch.cuda.stream(stream), fastest_algorithms():
        check(run, images)  # as a recording that fails leaves PyTorch's memory in disorder
        run(images)  # libraries set themselves up, and cuDNN tries its algorithms
        # Other threads may go on, such as one that loads the next model.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
            result = run(images)

    def replay() -> torch.Tensor:
        graph.replay()
        return result
    return replay


def check(run: Pass, images: torch.Tensor) -> None:
    """Raise RuntimeError where a pass waits for the device of its images."""
    # In inference mode, functions of several steps would not show these.
    with torch.inference_mode(False), torch.no_grad(), NoWaiting(images.device):
        run(images)


class NoWaiting(TorchDispatchMode):
    """Raise RuntimeError where the block reads a value of a device back, and so waits for it."""

    def __init__(self, device: torch.device):
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (),
                           kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        reads = func is torch.ops.aten._local_scalar_dense.default or (
            func in COPIES and result.device != self._device)
        if reads and args[0].device == self._device:
            raise RuntimeError(f'{func} waits for {self._device}')
        return result


@contextmanager
def fastest_algorithms() -> Iterator[None]:
    """Let cuDNN time its algorithms for each new size in the block, and take the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def to_host(values: torch.Tensor) -> np.ndarray:
    """Return a tensor as an array: from a CUDA device in one copy, to pinned memory."""
    if values.device.type != 'cuda':
        return values.cpu().numpy()
    copied = pinned(values).copy_(values, non_blocking=True)
    torch.cuda.current_stream(values.device).synchronize()
    return copied.numpy()


def pinned(like: torch.Tensor) -> torch.Tensor:
    """Return an empty tensor of a shape and dtype in memory that a GPU copies from directly."""
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
