"""
Measure how fast the encoders segment images on this machine, as a Markdown table.

    python benchmarks/encoders.py --size 480x360 --threads 1

A frame is an image in memory → the mask of one domain of 11 classes, through the same Segmenter
as on a robot. The weights are random: speed does not depend on them.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from univseg_core.domains import Domain
from univseg_core.inference import Segmenter
from univseg_core.models.encoders import ENCODERS
from univseg_core.models.model_file import ModelCard
from univseg_core.models.universal import ModelSpec, UniversalSegmenter

NARROW = [('drn_d_22', 0.25), ('drn_d_22', 0.5), ('mobilenet_v3_large', 0.5)]
DOMAIN = Domain.create('place', [f'class {i}' for i in range(11)])


def size(text: str) -> tuple[int, int]:
    """Return the width and height in pixels of a text such as 480x360."""
    width, height = map(int, text.split('x'))
    return width, height


def frames_per_second(model: Segmenter, image: np.ndarray, seconds: float) -> float:
    """Return the inverse of the median time of a frame, over at least three frames."""
    model(image)  # the first is slower: memory is not there yet
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        model(image)
        times.append(time.perf_counter() - start)
    return 1 / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=size, default='480x360', metavar='WIDTHxHEIGHT',
                        help='of the image in pixels (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1, help='(default: %(default)s)')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, … (default: %(default)s)')
    parser.add_argument('--seconds', type=float, default=3,
                        help='how long to measure each encoder (default: %(default)s)')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    width, height = options.size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    print('| encoder | width | parameters (M) | channels | frames/s |\n|---|--:|--:|--:|--:|')
    for name, multiplier in [*((name, 1) for name in ENCODERS), *NARROW]:
        network = UniversalSegmenter(ModelSpec(name, multiplier, embedding_dim=1), [DOMAIN])
        channels = network.encoder.out_channels
        parameters = sum(p.numel() for p in network.encoder.parameters()) / 1e6
        model = Segmenter(network, ModelCard(), device=options.device)
        rate = frames_per_second(model, image, options.seconds)
        print(f'| {name} | {multiplier} | {parameters:.1f} | {channels} | {rate:.2g} |',
              flush=True)


if __name__ == '__main__':
    main()
