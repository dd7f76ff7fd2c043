"""Measure how many training crops a second one CPU core prepares, beside torchvision's way."""

import argparse
from collections.abc import Callable, Sequence
import os
from pathlib import Path
import statistics
import tempfile
import time

import cv2
import numpy as np
from PIL import Image
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from univseg_core.batches.curriculum import Curriculum
from univseg_core.batches.dataset import DomainData
from univseg_core.batches.mixture import MixtureDataset
from univseg_core.batches.stores import ImageStore, prepare_stores
from univseg_core.batches.transforms import Augmentation, PADDING_COLOUR
from univseg_core.datasets.folders import labelled_samples, Sample
from univseg_core.demo.scenes.worlds import render_scene
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.models.normalisation import IMAGENET
from univseg_core.pictures.images import read_image, write_png

CROP, SCALE, COLOUR, BATCH = 256, (0.75, 1.5), 0.3, 8
ANY = Domain.create('any', [f'class {i}' for i in range(IGNORE_INDEX)])
MEAN, STD = (255 * torch.tensor(values).view(3, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))

Prepare = Callable[[int], torch.Tensor]
"""A way to prepare batch number i: normalised crops (B, 3, S, S) float32."""


def main() -> None:
    """Measure all ways and print the table."""
    options = parse()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.images is None:
            options.images, options.labels = make_images(Path(folder), options.count)
        samples = labelled_samples(options.images, options.labels)[:options.count]
        held = prepare_stores({'any': DomainData(ANY, samples, [], [])}, None, progress=False)
        rates = measure({
            'univseg, read from disk': univseg(ImageStore(samples, ANY, None)),
            'univseg, from memory': univseg(held.labelled['any']),
            'PIL and torchvision.transforms.v2': torchvision(samples)}, options)
        height, width = read_image(samples[0].image).shape[:2]
    print(f'{len(samples)} images ({samples[0].image.suffix}, the first {width}×{height}) → crops '
          f'of {CROP}×{CROP}, one CPU core:\n\n| way | images/s | ratio |\n|---|--:|--:|')
    *_, reference = rates.values()
    for name, rate in rates.items():
        print(f'| {name} | {rate:.0f} | {rate / reference:.1f} |')


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=f'{__doc__} Each image and its label map become a normalised float crop of '
                    f'{CROP} pixels: scale {SCALE[0]} to {SCALE[1]}, flip, brightness, contrast, '
                    'saturation.')
    parser.add_argument('--images', type=Path,
                        help='folder of images (default: 480×360 JPEG scenes, made now)')
    parser.add_argument('--labels', type=Path, help='folder of their label maps (PNG)')
    parser.add_argument('--count', type=int, default=64, help='images to use (default: 64)')
    parser.add_argument('--batches', type=int, default=16,
                        help=f'batches of {BATCH} crops in a round (default: 16)')
    parser.add_argument('--rounds', type=int, default=7,
                        help='rounds, of which the median counts (default: 7)')
    options = parser.parse_args()
    if (options.images is None) != (options.labels is None):
        parser.error('--images and --labels go together')
    return options


def make_images(folder: Path, count: int) -> tuple[Path, Path]:
    """Write scenes as JPEG (quality 95) and label maps as PNG; return their folders."""
    images, labels = folder / 'image', folder / 'label'
    images.mkdir()
    for i in range(count):
        image, label = render_scene(('outdoor', 'indoor')[i % 2], i, width=480, height=360)
        Image.fromarray(image).save(images / f'{i:04}.jpg', quality=95)
        write_png(labels / f'{i:04}.png', label)
    return images, labels


def univseg(store: ImageStore) -> Prepare:
    """Return this package's way, from a store of images."""
    crops = Curriculum((Augmentation(CROP, SCALE, True, COLOUR),))
    mixture = MixtureDataset({'any': store}, {}, crops, BATCH, 0, seed=0)

    def prepare(i: int) -> torch.Tensor:
        [batch] = mixture[i]
        return batch.images.float().sub_(MEAN).div_(STD)  # as the network does

    return prepare


def torchvision(samples: Sequence[Sample]) -> Prepare:
    """Return the usual way: PIL decodes, torchvision's transforms follow in their usual order."""
    height, width = read_image(samples[0].image).shape[:2]
    padding = {tv_tensors.Image: PADDING_COLOUR, tv_tensors.Mask: IGNORE_INDEX}
    transform = v2.Compose([
        v2.ScaleJitter((height, width), SCALE),
        v2.RandomCrop(CROP, pad_if_needed=True, fill=padding),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(COLOUR, COLOUR, COLOUR),
        v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.uint8}, scale=True),
        v2.Normalize(IMAGENET.mean, IMAGENET.std),
    ])

    def prepare(i: int) -> torch.Tensor:
        crops = []
        for position in range(i * BATCH, (i + 1) * BATCH):
            sample = samples[position % len(samples)]
            with Image.open(sample.image) as image, Image.open(sample.label) as label:
                pixels = tv_tensors.Image(image.convert('RGB'))
                mask = tv_tensors.Mask(np.array(label)[None])
            crops.append(transform(pixels, mask))
        images, targets = zip(*crops, strict=True)
        torch.stack(targets)
        return torch.stack(images)

    return prepare


def measure(ways: dict[str, Prepare], options: argparse.Namespace) -> dict[str, float]:
    """Return each way's images per second of CPU time; ways take turns, so that all are warm."""
    rates = {name: [] for name in ways}
    for turn in range(-1, options.rounds):  # the first is not counted
        for name, prepare in ways.items():
            started = time.process_time()
            for i in range(options.batches):
                prepare(max(turn, 0) * options.batches + i)
            if turn >= 0:
                rates[name].append(options.batches * BATCH / (time.process_time() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


if __name__ == '__main__':
    main()
