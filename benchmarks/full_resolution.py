"""
Measure the last stage of inference, logits of cells → masks, as a Markdown table.

    python benchmarks/full_resolution.py --threads 1

Of images of several sizes, scaled so that the network sees them with a longest side of --network
pixels, and of several numbers of classes. `a → b → c`: a upsamples all logits by F.interpolate,
then takes the largest; b does so tile by tile in PyTorch, as is done on GPUs; c is what a robot's
CPU runs. Times are in milliseconds, of `smooth` logits, in areas like those of a trained network,
and of `noise`, where every pixel is near a border. Memory is the most that c held at once
beyond the logits and what its thread keeps, results included: it grows with these alone.

The times of the three are interleaved, and each is the median; --cpu gives the least time of a
CPU instead, on one thread, for machines that others use, too.
"""

import argparse
from collections.abc import Callable
from functools import partial
import statistics
import time
import tracemalloc

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from univseg_core.inference import full_resolution, full_resolution_torch
from univseg_core.pictures.images import fit_size

SIZES = ((360, 480), (720, 1280), (1080, 1920), (4320, 7680))
CLASSES = (2, 13, 40, 150)
MOST_PIXELS = 2 ** 28
"""Logits at an image's size, 1 GB, beyond which a is left out."""


def by_interpolate(logits: torch.Tensor, network_size: tuple[int, int], size: tuple[int, int],
                   stride: int, *, confidence: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return what `top_classes` does, with all logits at the image's size at once."""
    full = F.interpolate(logits[None], scale_factor=stride, mode='bilinear', align_corners=False)
    full = full[..., :network_size[0], :network_size[1]]
    if network_size != size:
        full = F.interpolate(full, size=size, mode='bilinear', align_corners=False)
    top, index = full[0].max(0)
    mask = index.to(torch.uint8)
    if not confidence:
        return mask, None
    probability = (top - full[0].logsumexp(0)).exp()
    return mask, (255 * probability).round().to(torch.uint8)


def make_logits(classes: int, cells: tuple[int, int], smooth: bool) -> np.ndarray:
    """Return random logits (C, h, w) float32, whose standard deviation is 5."""
    logits = np.random.default_rng(0).standard_normal((classes, *cells)).astype(np.float32)
    if smooth:
        blurred = np.stack([cv2.GaussianBlur(plane, (0, 0), cells[1] / 16) for plane in logits])
        logits = blurred / blurred.std()
    return 5 * logits


def ways(logits: np.ndarray, network_size: tuple[int, int], size: tuple[int, int], stride: int,
         confidence: bool) -> list[Callable[[], object]]:
    """Return the calls a, b and c of some logits, without a where it takes too much memory."""
    tensor = torch.from_numpy(logits)
    calls = [partial(way, each, network_size, size, stride, confidence=confidence)
             for way, each in ((by_interpolate, tensor),
                               (full_resolution_torch.top_classes, tensor),
                               (full_resolution.top_classes, logits))]
    return calls if len(logits) * size[0] * size[1] <= MOST_PIXELS else calls[1:]


def milliseconds(calls: list[Callable[[], object]], seconds: float, cpu: bool) -> list[float]:
    """Return the times of calls in turns, at least three each."""
    clock = time.thread_time if cpu else time.perf_counter
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds * len(calls)
    while len(times[0]) < 4 or time.perf_counter() < end:
        for call, taken in zip(calls, times, strict=True):
            start = clock()
            call()
            taken.append(1000 * (clock() - start))
    return [min(taken) if cpu else statistics.median(taken[1:]) for taken in times]


def megabytes(call: Callable[[], object]) -> float:
    """Return how much memory more than before NumPy held at most during a call."""
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


@torch.inference_mode()
def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--network', type=int, default=480,
                        help='longest side in pixels that the network sees (default: %(default)s)')
    parser.add_argument('--stride', type=int, default=4, choices=(4, 8),
                        help='(default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1,
                        help="PyTorch's (default: %(default)s); the robot's way has one")
    parser.add_argument('--seconds', type=float, default=0.5,
                        help='how long to measure each at least (default: %(default)s)')
    parser.add_argument('--cpu', action='store_true', help='the least time of a CPU')
    options = parser.parse_args()
    if options.cpu and options.threads != 1:
        parser.error('--cpu: expected --threads 1')
    torch.set_num_threads(options.threads)
    print('| image | classes | logits | mask, ms | MB | mask and confidence, ms | MB |\n'
          '|---|--:|---|--:|--:|--:|--:|')
    for size in SIZES:
        network_size = fit_size(*size, options.network)
        cells = tuple(-(-side // options.stride) for side in network_size)
        for classes in CLASSES:
            for smooth in (True, False):
                logits = make_logits(classes, cells, smooth)
                row = []
                for confidence in (False, True):
                    calls = ways(logits, network_size, size, options.stride, confidence)
                    times = [f'{t:.1f}' for t in milliseconds(calls, options.seconds, options.cpu)]
                    row += [' → '.join(['–'] * (3 - len(times)) + times),
                            f'{megabytes(calls[-1]):.1f}']
                print(f'| {size[1]}×{size[0]} | {classes} | {"smooth" if smooth else "noise"} | '
                      f'{" | ".join(row)} |', flush=True)


if __name__ == '__main__':
    main()
