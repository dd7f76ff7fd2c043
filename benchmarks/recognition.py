"""
Measure how a model recognises its domains, places that it never saw, and what that costs.

    UNIVSEG_DATA=/data python benchmarks/recognition.py runs/first --config train/camvid_nyuv2.yaml

Each validation image of the configuration is recognised, and so are images of no domain: of the
two synthetic worlds (which no model that is measured here should have learned from), of noise,
black ones, and a lens cap's; with --sizes, in each of several inference sizes. The last table is
of an encoder pass and of recognising, in turn, on the same validation images: medians in ms.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
import statistics
import time

import numpy as np
from univseg_core.batches.dataset import load_validation
from univseg_core.commands.options import model_file
from univseg_core.datasets.folders import spread
from univseg_core.demo.scenes.worlds import render_scene, WORLDS
from univseg_core.inference.segmenter import Segmenter
from univseg_core.measuring.recognition import (
    compare_unknown,
    Recognised,
    recognised,
    recognition_table,
    unknown_table,
)
from univseg_core.pictures.images import read_image
from univseg_core.progress import progress_bar
from univseg_core.settings.config import load_config

HEIGHT, WIDTH = 360, 480
TURNS = 100
"""Encoder passes that are timed, of as many images."""


def of_no_domain(count: int) -> Iterator[tuple[str, list[Callable[[], np.ndarray]]]]:
    """Yield what images of none of the domains show, and functions that make so many of them."""
    for world in WORLDS:
        yield f'synthetic {world}', [
            lambda world=world, seed=seed: render_scene(world, seed, WIDTH, HEIGHT)[0]
            for seed in range(count)]
    generator, shape = np.random.default_rng(5), (HEIGHT, WIDTH, 3)

    def lens_cap() -> np.ndarray:
        level, noise = generator.uniform(2, 12), generator.uniform(1, 5)
        return np.clip(generator.normal(level, noise, shape), 0, 255).astype(np.uint8)
    yield 'noise', [lambda: generator.integers(0, 256, shape, np.uint8)] * count
    yield 'black', [lambda: np.full(shape, generator.integers(0, 6), np.uint8)] * count
    yield 'lens cap', [lens_cap] * count


def cost(segmenter: Segmenter, images: list[np.ndarray]) -> tuple[float, float]:
    """Return the median ms of an encoder pass, and of recognising what it has encoded."""
    passes, recognitions = [], []
    for image in progress_bar(images, 'cost'):
        begin = time.perf_counter()
        encoded = segmenter.encode(image)
        between = time.perf_counter()
        segmenter.recognise(encoded)
        recognitions.append(time.perf_counter() - between)
        passes.append(between - begin)
    return 1e3 * statistics.median(passes), 1e3 * statistics.median(recognitions)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', type=Path, help='a model file, an exported one, or a run folder')
    parser.add_argument('--config', required=True, help='whose validation images are of the '
                        'domains')
    parser.add_argument('--unknown', type=int, default=60, metavar='N',
                        help='images of each kind that is of no domain (default: 60)')
    parser.add_argument('--sizes', type=int, nargs='+', default=[None], metavar='PIXELS',
                        help="inference sizes (default: the model's own)")
    parser.add_argument('--known', type=int, default=1000, metavar='N',
                        help='validation images of each domain, at most, evenly (default: 1000)')
    parser.add_argument('--precision', default='auto', help='(default: auto)')
    options = parser.parse_args()
    segmenter = Segmenter.load(model_file(options.model), precision=options.precision)
    segmenter.check_evidence()
    samples = load_validation(load_config(options.config, files_needed=False), segmenter.domains)
    samples = {name: spread(files, options.known) for name, files in samples.items()}
    for size in options.sizes:
        segmenter.inference_size = size
        known: dict[str, Recognised] = {
            name: recognised(segmenter, (read_image(sample.image)
                                         for sample in progress_bar(files, name)))
            for name, files in samples.items()}
        print(f'{options.model} by {segmenter.backend} in {segmenter.precision}, at '
              f'{segmenter.inference_size} pixels\n\n{recognition_table(known)}\n')
        unknown = {
            shown: recognised(segmenter, (make() for make in progress_bar(images, shown)))
            for shown, images in of_no_domain(options.unknown)}
        print(unknown_table({shown: compare_unknown(list(known.values()), each)
                             for shown, each in unknown.items()}), end='\n\n')
    segmenter.inference_size = None
    files = [sample.image for each in samples.values() for sample in each]
    images = [read_image(files[i * len(files) // TURNS]) for i in range(TURNS)]
    encoder, recognising = cost(segmenter, images)
    print(f'| encoder ms | recognising ms | share % |\n|--:|--:|--:|\n| {encoder:.1f} | '
          f'{recognising:.2f} | {100 * recognising / encoder:.1f} |')


if __name__ == '__main__':
    main()
