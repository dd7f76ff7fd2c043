"""
Measure how fast the encoders segment images on this machine, as a Markdown table.

    python benchmarks/encoders.py --size 480x360 --threads 1

A frame is an image in memory → the mask of one domain of 11 classes, through the same Segmenter
as on a robot, in float32. The weights are random: speed does not depend on them. The encoders take
turns, so that what else the machine does meets all alike, and of each turn the third frame counts,
when memory and caches are again its own. GFLOP are those of encoder and head, a multiplication and
an addition being two. The last column is the time beside that of `light`.
"""

import argparse
from dataclasses import dataclass, field
import statistics
import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from univseg_core.commands.options import size
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.encoders import ENCODERS
from univseg_core.models.model_file import ModelCard
from univseg_core.models.universal import ModelSpec, UniversalSegmenter

REFERENCE = ('light', 1, 8)
DOMAIN = Domain.create('place', [f'class {i}' for i in range(11)])


@dataclass
class Candidate:
    """An encoder as it is measured: its model, parameters, operations, and times so far."""

    model: Segmenter
    parameters: int
    flop: int
    seconds: list[float] = field(default_factory=list)


def all_candidates() -> list[tuple[str, float, int]]:
    """Return names, widths and strides."""
    own = [(name, 1, stride) for name, encoder in ENCODERS.items() for stride in encoder.strides]
    return [*own, ('drn_d_22', 0.25, 8), ('drn_d_22', 0.5, 8)]


def candidate(name: str, width: float, stride: int, size: tuple[int, int],
              device: str) -> Candidate:
    """Return an encoder that is ready to be measured on images of a size (height, width)."""
    spec = ModelSpec(name, width, embedding_dim=1, stride=stride)
    with torch.device('meta'):
        network = UniversalSegmenter(spec, [DOMAIN]).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.logits(network.features(torch.zeros(1, 3, *size)), DOMAIN.name)
    network = UniversalSegmenter(spec, [DOMAIN])
    return Candidate(Segmenter(network, ModelCard(), device=device, precision='fp32'),
                     sum(p.numel() for p in network.encoder.parameters()),
                     counter.get_total_flops())


def main() -> None:
    """Measure all encoders in turn, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=size, default='480x360', metavar='WIDTHxHEIGHT',
                        help='of the image in pixels (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1, help='(default: %(default)s)')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, … (default: %(default)s)')
    parser.add_argument('--frames', type=int, default=9,
                        help='of which the median counts (default: %(default)s)')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='encoders beside `light`')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    image = np.random.default_rng(0).integers(0, 256, (*options.size, 3), np.uint8)
    chosen = [each for each in all_candidates()
              if each == REFERENCE or not options.only or each[0] in options.only]
    measured = {each: candidate(*each, options.size, options.device) for each in chosen}
    for _ in range(options.frames):
        for each in measured.values():
            each.model(image)
            each.model(image)
            started = time.perf_counter()
            each.model(image)
            each.seconds.append(time.perf_counter() - started)
    times = {key: statistics.median(each.seconds) for key, each in measured.items()}
    print('| encoder | stride | width | parameters (M) | GFLOP | ms a frame | × light |\n'
          '|---|--:|--:|--:|--:|--:|--:|')
    for (name, multiplier, stride), each in measured.items():
        own = times[name, multiplier, stride]
        print(f'| {name} | {stride} | {multiplier} | {each.parameters / 1e6:.1f} | '
              f'{each.flop / 1e9:.1f} | {1000 * own:.0f} | {own / times[REFERENCE]:.2f} |')


if __name__ == '__main__':
    main()
