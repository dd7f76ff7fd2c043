"""
Whether images of several cameras go through the encoder faster at once than one by one.

    python benchmarks/batches.py MODEL --size 480x270 --images 2 3 4 --threads 1 2

Each round encodes the images of noise one by one and at once, in turn; medians of wall and CPU
time, in ms, for all images together, and the shares.
"""

import argparse
import time

import numpy as np
import torch
from univseg_core.commands.options import size
from univseg_core.errors import UnivsegError
from univseg_core.inference.segmenter import load_network
from univseg_core.inference.torch_backend import TorchBackend


def timed(backend: TorchBackend, batches: list[np.ndarray]) -> tuple[float, float]:
    """Return the ms that it takes to encode batches (N, H, W, 3): of the clock, of the CPUs."""
    wall, cpu = time.perf_counter(), time.process_time()
    for images in batches:
        torch.as_tensor(backend.features_of_several(images.copy())[-1][:1, :1, :1]).cpu()
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)


def main() -> None:
    """Measure all precisions, threads and numbers of images, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='a model file')
    parser.add_argument('--size', type=size, default='480x270', metavar='WIDTHxHEIGHT',
                        help='of what the network sees (default: %(default)s)')
    parser.add_argument('--images', type=int, nargs='+', default=[2, 3, 4])
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--precision', nargs='+', default=['fp32', 'bf16'])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=15)
    options = parser.parse_args()
    try:
        network, _ = load_network(options.model)
        backends = [TorchBackend(network, options.device, each) for each in options.precision]
    except UnivsegError as error:
        raise SystemExit(str(error)) from error
    print('| precision | threads | images | one by one, wall | at once, wall | one by one, CPU | '
          'at once, CPU |\n|---|--:|--:|--:|--:|--:|--:|')
    for backend in backends:
        for threads in options.threads:
            torch.set_num_threads(threads)
            for count in options.images:
                images = np.random.default_rng(0).integers(
                    0, 256, (count, *options.size, 3), np.uint8)
                apart = [image[None] for image in images]
                for _ in range(5):
                    timed(backend, [images])
                    timed(backend, apart[:1])
                rounds = [(*timed(backend, apart), *timed(backend, [images]))
                          for _ in range(options.rounds)]
                wall, cpu, wall_at_once, cpu_at_once = np.median(rounds, axis=0)
                print(f'| {backend.precision} | {threads} | {count} | {wall:.1f} '
                      f'| {wall_at_once:.1f} ({wall_at_once / wall:.2f}) | {cpu:.1f} '
                      f'| {cpu_at_once:.1f} ({cpu_at_once / cpu:.2f}) |', flush=True)


if __name__ == '__main__':
    main()
