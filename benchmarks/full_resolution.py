"""
Measure the last stage of inference, logits at stride 8 → masks, as a Markdown table.

    python benchmarks/full_resolution.py --threads 1

Of images of several sizes, scaled so that the network sees them with a longest side of --network
pixels, and of one or two domains. `a → b`: a upsamples all logits by F.interpolate, then takes
the largest; b is what the robot runs, which does so tile by tile. Times are medians in
milliseconds; memory is the most that PyTorch held at once beyond the logits, results included.
A good figure: at most half of the time, and memory beyond the results that is the same for
images of any size. The logits are random: neither depends on them.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch.profiler import profile, ProfilerActivity
from univseg_core.inference.full_resolution import top_classes
from univseg_core.models.universal import upsample
from univseg_core.pictures.images import fit_size

STRIDE = 8
SIZES = ((360, 480), (720, 1280), (1080, 1920), (4320, 7680))
DOMAINS = ((11,), (13,), (11, 13))
"""Numbers of classes."""


def by_interpolate(logits: torch.Tensor, network_size: tuple[int, int], size: tuple[int, int],
                   stride: int, *, confidence: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return what `top_classes` does, with all logits at the image's size at once."""
    full = upsample(logits[None], network_size, stride)
    if network_size != size:
        full = F.interpolate(full, size=size, mode='bilinear', align_corners=False)
    top, index = full[0].max(0)
    mask = index.to(torch.uint8)
    if not confidence:
        return mask, None
    probability = (top - full[0].logsumexp(0)).exp()
    return mask, (255 * probability).round().to(torch.uint8)


def masks(stage: Callable, logits: Sequence[torch.Tensor], network_size: tuple[int, int],
          size: tuple[int, int], confidence: bool) -> list:
    """Return what one of the two ways finds in each domain."""
    return [stage(x, network_size, size, STRIDE, confidence=confidence) for x in logits]


def milliseconds(function: Callable[[], None], seconds: float, device: torch.device) -> float:
    """Return the median time of a call, over at least three calls."""
    def timed() -> float:
        start = time.perf_counter()
        function()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return 1000 * (time.perf_counter() - start)

    timed()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        times.append(timed())
    return statistics.median(times)


def megabytes(function: Callable[[], None], device: torch.device) -> float:
    """Return how much memory more than before PyTorch held at most during a call."""
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == '[memory]']
    held = np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())])
    return held.max() / 1e6


@torch.inference_mode()
def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--network', type=int, default=480,
                        help='longest side in pixels that the network sees (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1, help='(default: %(default)s)')
    parser.add_argument('--device', type=torch.device, default='cpu',
                        help='cpu, cuda, … (default: %(default)s)')
    parser.add_argument('--seconds', type=float, default=0.5,
                        help='how long to measure each at least (default: %(default)s)')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print('| image | classes | mask, ms | MB | mask and confidence, ms | MB |\n'
          '|---|---|--:|--:|--:|--:|')
    for size in SIZES:
        network_size = fit_size(*size, options.network)
        cells = [-(-side // STRIDE) for side in network_size]
        for domains in DOMAINS:
            logits = [5 * torch.randn(classes, *cells, device=options.device)
                      for classes in domains]
            row = []
            for confidence in (False, True):
                times, peaks = [], []
                for stage in (by_interpolate, top_classes):
                    call = partial(masks, stage, logits, network_size, size, confidence)
                    times.append(f'{milliseconds(call, options.seconds, options.device):.1f}')
                    peaks.append(f'{megabytes(call, options.device):.1f}')
                row += [' → '.join(times), ' → '.join(peaks)]
            print(f'| {size[1]}×{size[0]} | {" + ".join(map(str, domains))} | '
                  f'{" | ".join(row)} |', flush=True)


if __name__ == '__main__':
    main()
