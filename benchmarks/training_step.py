"""
Measure where the time of a training step goes, on the CPU in float32.

    python benchmarks/training_step.py                         DRN-D-22 at a quarter of its width
    python benchmarks/training_step.py --width 1.0 --crop 256
    python benchmarks/training_step.py --model runs/first/model.univseg

It prints three tables, measured on synthetic worlds:

1. The parts of a step: the encoder; the supervised part (heads, upsampling, cross-entropy); the
   unsupervised terms (embedding, similarities, entropies) at stride 8, and by the alternative that
   brings the embeddings to the images' resolution first. Each is timed alone, forward and
   backward, all but the encoder on given features. Whole steps with and without the unsupervised
   terms, on the same crops through the encoder, are a check. All take turns; medians count, of
   the CPU time, which other programs disturb less.
   A good figure: the unsupervised terms at stride 8 take at most 3 % of a step.
2. The wait for data of trainings by `univseg train`: images held in memory, and read from disk by
   no worker or by one, which wants a CPU core of its own.
   A good figure: at most 5 % of a step, by the workers that a training on the CPU chooses itself:
   0 where the images are in memory, 1 where they are on disk.
3. The entropy at stride 8 and at full resolution, in nats, as the mean over the label spaces: of
   embeddings that are random in each cell, the worst case, and of those of a trained model
   (--model). There is no bar: the first is what training uses, the second what it stands for.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
import os
from pathlib import Path
import statistics
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from univseg_core.batches import stores
from univseg_core.batches.curriculum import Curriculum
from univseg_core.batches.dataset import load_data
from univseg_core.batches.mixture import Batch, MixtureDataset
from univseg_core.batches.stores import ImageStore
from univseg_core.batches.transforms import Augmentation
from univseg_core.datasets.folders import list_images
from univseg_core.demo.scenes.worlds import WORLDS, write_worlds
from univseg_core.domains import IGNORE_INDEX
from univseg_core.errors import UnivsegError
from univseg_core.method.objectives import (
    entropy,
    masked_cross_entropy,
    similarities,
    valid_cells,
)
from univseg_core.models.encoders import encoder_channels
from univseg_core.models.model_file import load_model, ModelCard
from univseg_core.models.tensor_files import save_tensors
from univseg_core.models.universal import ModelSpec, UniversalSegmenter, upsample
from univseg_core.pictures.images import fit_size, read_image, resize_image
from univseg_core.progress import progress_bar
from univseg_core.reporting.run_tables import read_losses
from univseg_core.settings.config import load_config, RunConfig
from univseg_core.training.optimisation import new_optimizer
from univseg_core.training.processes import new_fabric
from univseg_core.training.run import train
from univseg_core.training.safety import gradient_norm
from univseg_core.training.step import forward_and_backward

STRIDE = 8

WHOLE, WITHOUT = 'whole step', 'whole step without unsupervised terms'
ENCODER, SUPERVISED = 'encoder', 'supervised part'
STRIDE_8, FULL = 'unsupervised terms, stride 8', 'unsupervised terms, full resolution'

Embeddings = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Wait:
    """What a training's log says of one way to its images: means over its steps, in seconds."""

    images: str
    workers: int
    step: float
    wait: float


def main() -> None:
    """Measure everything and print the tables."""
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    trained = load_trained(options.model) if options.model else None
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        write_worlds(top, train=24, labelled=12, validation=2, width=480, height=360)
        os.environ['UNIVSEG_DATA'] = folder
        settings = settings_of(options)
        labels = {name: F.normalize(torch.randn(len(domain.classes), options.dim))
                  for name, domain in WORLDS.items()}
        save_tensors(top / 'labels.safetensors', labels)
        settings.append(f'label_embeddings.file={top / "labels.safetensors"}')
        folders = [options.images] if options.images else [
            top / name / 'validation' / 'image' for name in WORLDS]
        images = [file for folder in folders for file in list_images(folder)][:20]
        # First, as workers are forked: before the threads of PyTorch are there.
        waits = list(measured_waits(settings, top / 'runs')) if options.steps else []
        config = load_config('train/scenes.yaml', settings)
        batch = first_batch(config)
        times = measured(parts(config, batch, labels), options.rounds)
        cells = -(-options.crop // STRIDE)
        random = torch.randn(4, options.dim, cells, cells)
        entropies = {'random in each cell': mean_entropies(
            random, labels, (options.crop, options.crop))}
        if trained:
            entropies[options.model.name] = entropies_of_model(*trained, images)
    print_parts(times, f'DRN-D-22 × {options.width:g}, {len(batch.images)} crops of '
                       f'{options.crop} pixels, threads: {options.threads}')
    if waits:
        print_waits(waits)
    print_entropies(entropies)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--width', type=float, default=0.25,
                        help="multiplier of the encoder's channels (default: %(default)s)")
    parser.add_argument('--crop', type=int, default=160,
                        help='side of the crops in pixels, of images with 1.5 times as long a '
                             'side, scaled from 480×360 (default: %(default)s)')
    parser.add_argument('--labelled', type=int, default=4,
                        help='labelled crops of each of two domains (default: %(default)s)')
    parser.add_argument('--unlabelled', type=int, default=4,
                        help='unlabelled ones (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1, help='(default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=30,
                        help='timings of each part (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=60,
                        help='of each training whose wait for data is measured, 20 or more; the '
                             'first 10 are not counted; 0 leaves this out (default: %(default)s)')
    parser.add_argument('--model', type=Path, help='a trained model file for the third table')
    parser.add_argument('--images', type=Path,
                        help="a folder of images for it (default: synthetic worlds'), of which "
                             'it takes the first 20')
    options = parser.parse_args()
    if options.steps and options.steps < 20:
        parser.error('--steps: expected 0, or 20 or more')
    options.dim = min(128, encoder_channels('drn_d_22', options.width))
    return options


def settings_of(options: argparse.Namespace) -> list[str]:
    """Return the settings of all trainings, to be put upon train/scenes.yaml."""
    return ['model.encoder=drn_d_22', 'model.stride=8', f'model.width={options.width}',
            f'model.embedding_dim={options.dim}',
            f'data.image_size={options.crop * 3 // 2}', f'data.crop_size={options.crop}',
            f'data.labelled_per_domain={options.labelled}',
            f'data.unlabelled_per_domain={options.unlabelled}',
            'objective.alpha=0.1', 'objective.beta=0.1', 'objective.warmup_steps=0',
            'objective.consistency=0', 'objective.class_balance=0',
            'training.accelerator=cpu', f'training.steps={options.steps or 1}']


def measured_waits(settings: list[str], folder: Path) -> Iterator[Wait]:
    """Yield the wait for data of real trainings; their progress goes to stderr."""
    share = stores.MEMORY_SHARE
    for images, workers in (('on disk', 1), ('on disk', 0), ('in memory', 0)):
        config = load_config('train/scenes.yaml', [*settings, f'training.workers={workers}'])
        # As if the images were more than the memory can take.
        stores.MEMORY_SHARE = 0 if images == 'on disk' else share
        run = folder / f'{images}, {workers} workers'
        train(config, run)
        losses = read_losses(run)
        yield Wait(images, workers, losses['seconds_per_step'][1:].mean(),
                   losses['data_wait'][1:].mean())


def first_batch(config: RunConfig) -> Batch:
    """Return the batch of a training's first step."""
    data, options = load_data(config), config.data
    labelled = {name: ImageStore(d.labelled, d.domain, options.image_size)
                for name, d in data.items()}
    unlabelled = {name: ImageStore(d.unlabelled, d.domain, options.image_size)
                  for name, d in data.items()}
    mixture = MixtureDataset(
        labelled, unlabelled,
        Curriculum((Augmentation(options.crop_size, options.scale, options.flip,
                                 options.colour),)),
        options.labelled_per_domain, options.unlabelled_per_domain, config.training.seed)
    [batch] = mixture[0]
    return batch


def parts(config: RunConfig, batch: Batch,
          labels: Embeddings) -> dict[str, Callable[[], None]]:
    """Return what is to be timed, by name; each call does it once."""
    network = UniversalSegmenter(
        ModelSpec(config.model.encoder, config.model.width, config.model.embedding_dim),
        list(WORLDS.values()))
    for name, vectors in labels.items():
        network.set_label_embeddings(name, vectors)
    fabric = new_fabric(config.training)
    fabric.launch()
    model, optimizer = fabric.setup(network, new_optimizer(config.training, network))
    features = network.features(batch.images).detach().requires_grad_()
    gradient = torch.randn_like(features) / features.numel()
    size = batch.images.shape[-2:]
    targets = {name: batch.targets[rows] for name, rows in batch.labelled.items()}

    def whole(step: Batch) -> None:
        optimizer.zero_grad()
        forward_and_backward(fabric, model, [step], config.objective, 1)
        gradient_norm(network, None)
        optimizer.step()

    def encoder() -> None:
        network.zero_grad()
        network.features(batch.images).backward(gradient)

    def supervised() -> None:
        logits = {name: upsample(network.logits(features[rows], name), size, STRIDE)
                  for name, rows in batch.labelled.items()}
        sum(masked_cross_entropy(logits[name], targets[name]) for name in logits).backward()

    def unsupervised(full: bool) -> None:
        embeddings = {name: network.embed(features[rows])
                      for name, rows in batch.unlabelled.items()}
        if full:
            embeddings = {name: upsample(value, size, STRIDE)
                          for name, value in embeddings.items()}
        cells = batch.targets != IGNORE_INDEX if full else valid_cells(batch.targets, STRIDE)
        entropies = [entropy(scores, cells[batch.unlabelled[i]])
                     for (i, _), scores in similarities(embeddings, labels).items()]
        (0.1 * sum(entropies)).backward()

    return {WHOLE: lambda: whole(batch),
            WITHOUT: lambda: whole(replace(batch, unlabelled={})),
            ENCODER: encoder, SUPERVISED: supervised,
            STRIDE_8: lambda: unsupervised(False), FULL: lambda: unsupervised(True)}


def measured(ways: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return each part's seconds of CPU time in every round; a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in progress_bar(range(rounds + 1), 'parts', unit='round'):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if turn:
                times[name].append(time.process_time() - start)
    return times


def load_trained(path: Path) -> tuple[UniversalSegmenter, ModelCard]:
    """Return a model that was trained with unsupervised terms, and its card."""
    network, card = load_model(path)
    if not all(network.label_embeddings(name).any() for name in network.domains):
        raise UnivsegError(f'{path}: has no label embeddings: it was trained without them')
    return network, card


def entropies_of_model(network: UniversalSegmenter, card: ModelCard,
                       images: Sequence[Path]) -> tuple[float, float]:
    """Return what `mean_entropies` does, as the mean over images, by a trained model."""
    labels = {name: network.label_embeddings(name) for name in network.domains}
    found = []
    for image in progress_bar(images, 'model'):
        pixels = read_image(image)
        pixels = resize_image(pixels, *fit_size(*pixels.shape[:2], card.image_size))
        with torch.inference_mode():
            embeddings = network.embed(network.features(
                torch.from_numpy(pixels).permute(2, 0, 1)[None]))
            found.append(mean_entropies(embeddings, labels, pixels.shape[:2]))
    coarse, full = zip(*found, strict=True)
    return statistics.mean(coarse), statistics.mean(full)


def mean_entropies(embeddings: torch.Tensor, labels: Embeddings,
                   size: tuple[int, int]) -> tuple[float, float]:
    """Return the entropy at stride 8 and at full resolution `size`, the mean of label spaces."""
    means = []
    for values in (embeddings, upsample(embeddings, size, STRIDE)):
        valid = torch.ones(len(values), *values.shape[-2:], dtype=torch.bool)
        means.append(statistics.mean(entropy(scores, valid).item() for scores in similarities(
            {'': values}, labels).values()))
    return means[0], means[1]


def print_parts(times: Mapping[str, list[float]], title: str) -> None:
    """Print the first table."""
    seconds = {name: statistics.median(values) for name, values in times.items()}
    rest = seconds[WHOLE] - sum(seconds[name] for name in (ENCODER, SUPERVISED, STRIDE_8))
    difference = statistics.median(
        one - other for one, other in zip(times[WHOLE], times[WITHOUT], strict=True))
    rows = {**seconds, 'the rest of a whole step: optimiser, checks, statistics': rest,
            'whole step − whole step without unsupervised terms': difference}
    print(f'{title}:\n\n| what | CPU ms | % of a step |\n|---|--:|--:|')
    for name, value in rows.items():
        print(f'| {name} | {1000 * value:.1f} | {100 * value / seconds[WHOLE]:.1f} |')


def print_waits(waits: list[Wait]) -> None:
    """Print the second table."""
    print('\n| images | workers | step, ms | wait for data, ms | % of a step |\n'
          '|---|--:|--:|--:|--:|')
    for found in waits:
        print(f'| {found.images} | {found.workers} | {1000 * found.step:.0f} '
              f'| {1000 * found.wait:.2f} | {100 * found.wait / found.step:.1f} |')


def print_entropies(entropies: Mapping[str, tuple[float, float]]) -> None:
    """Print the third table."""
    print('\n| embeddings | entropy, stride 8 | full resolution | difference |\n|---|--:|--:|--:|')
    for name, (coarse, full) in entropies.items():
        print(f'| {name} | {coarse:.4f} | {full:.4f} | {full - coarse:+.4f} |')


if __name__ == '__main__':
    try:
        main()
    except UnivsegError as error:
        sys.exit(f'{Path(__file__).name}: {error}')
