"""
Compare ways to choose the next frames to label, by a small head on features that stay as they are.

    python benchmarks/ranking_choices.py train/camvid_nyuv2.yaml --seeds 0 1 2 3 4 5

Each domain's training images are encoded once by the pretrained encoder, and never trained. Of
them, some are set aside to measure by, 50 have labels, and 50 more get them: at random, or chosen
by what a head of the first 50 makes of the others. A head of one hidden layer then learns from all
100. It takes seconds where a training takes minutes, and is a stand-in for one: what a training
would make of its features is not seen. A row for each choice: the mIoU that the 50 further labels
add, of the cells of the images set aside, mean and deviation over the seeds, and its difference to
random choice, seed by seed.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn
from univseg_core.batches.parts import samples_of, with_labels
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.labelling.ranking import choose_frames, Frames
from univseg_core.measuring.evaluation import measure
from univseg_core.models.encoders import build_encoder
from univseg_core.models.pretrained import load_imagenet
from univseg_core.pictures.images import fit_size, resize_image
from univseg_core.progress import progress_bar
from univseg_core.settings.config import load_config, RunConfig

HIDDEN, STEPS, BATCH, RATE = 64, 300, 4096, 0.01
"""Of a head: hidden channels, steps, cells in each, and the peak of its learning rate."""

POINTS = 2
"""Points of the label map along each side of a cell."""


@dataclass(frozen=True)
class Encoded:
    """
    A domain's images, encoded.

    `features` (n, cells, d) float16, of mean 0 and deviation 1, and `truth` (n, cells, points)
    uint8, class indices or void.
    """

    domain: Domain
    features: torch.Tensor
    truth: torch.Tensor

    @property
    def amounts(self) -> np.ndarray:
        """Return the share (n, C) of each class in each image."""
        classes = torch.arange(len(self.domain.classes))
        counts = (self.truth.flatten(1)[..., None] == classes).sum(1).double()
        return (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()


def main() -> None:
    """Make all choices of all seeds and domains, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('config', help='a configuration with a pretrained encoder of timm')
    parser.add_argument('overrides', nargs='*', help='settings to change, KEY=VALUE')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--aside', type=float, default=0.25, help='share of the images to measure')
    parser.add_argument('--start', type=int, default=50, help='labels at first')
    parser.add_argument('--more', type=int, default=50, help='labels that follow')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    config = load_config(options.config, options.overrides)
    print('| domain | chosen by | added mIoU, % | above random |\n|---|---|--:|--:|')
    for name in config.domains:
        data = encoded(config, name)
        added = {choice: [] for choice in CHOICES}
        for seed in progress_bar(options.seeds, leave=False):
            for choice, value in compared(data, options, seed).items():
                added[choice].append(value)
        for choice, values in added.items():
            print(f'| {name} | {choice} | {_mean(values)} | '
                  f'{_mean(np.subtract(values, added["random"]), "+")} |', flush=True)


@torch.inference_mode()
def encoded(config: RunConfig, name: str) -> Encoded:
    """Encode a domain's labelled training images: all maps of the backbone, at stride 8."""
    domain = config.domain(name)
    encoder = build_encoder(config.model.encoder, stride=4).eval()
    load_imagenet(encoder, config.model.encoder)
    features, truth = [], []
    for sample in progress_bar(with_labels(samples_of(name, config.domains[name], 'train')),
                               leave=False):
        values, points = _cells(encoder, sample, domain, config.data.image_size)
        features.append(values)
        truth.append(points)
    every = torch.stack(features)
    some = every[::5].flatten(0, 1)
    return Encoded(domain, ((every - some.mean(0)) / (some.std(0) + 1e-3)).half(),
                   torch.stack(truth))


def _cells(encoder: nn.Module, sample: Sample, domain: Domain,
           size: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    image, label = read_sample(sample, domain)
    pixels = torch.from_numpy(resize_image(image, *fit_size(*image.shape[:2], size)))
    pixels = pixels.permute(2, 0, 1)[None] / 255
    maps = encoder.maps((pixels - 0.5) / 0.5)  # as these weights want them
    height, width = maps[1].shape[-2:]
    together = torch.cat([
        nn.functional.adaptive_avg_pool2d(each, (height, width)) if each.shape[-1] > width
        else nn.functional.interpolate(each, (height, width), mode='bilinear') for each in maps],
        1)
    points = cv2.resize(label, (POINTS * width, POINTS * height), interpolation=cv2.INTER_NEAREST)
    cells = points.reshape(height, POINTS, width, POINTS).swapaxes(1, 2)
    return together[0].flatten(1).T, torch.from_numpy(cells.reshape(height * width, -1).copy())


def compared(data: Encoded, options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Return what further labels add, in points of mIoU, by who chooses them."""
    order = np.random.default_rng(seed).permutation(len(data.features))
    aside, first, others = np.split(order, [round(options.aside * len(order)),
                                            round(options.aside * len(order)) + options.start])
    head = fitted(data, first, seed)
    before = miou(data, head, aside)
    found = {}
    for name, choice in CHOICES.items():
        chosen = choice(data, head, first, others)[:options.more]
        head_of_all = fitted(data, np.concatenate([first, chosen]), seed)
        found[name] = miou(data, head_of_all, aside) - before
    return found


def fitted(data: Encoded, images: np.ndarray, seed: int) -> nn.Sequential:
    """Return a head that has learned from some images; rare classes weigh more, as in a run."""
    torch.manual_seed(seed)
    classes = len(data.domain.classes)
    features, truth = data.features[images].flatten(0, 1), data.truth[images].flatten(0, 1).long()
    counts = torch.bincount(truth.flatten(), minlength=IGNORE_INDEX + 1)[:classes].float()
    shares = counts / counts.sum()
    weights = torch.where(counts > 0, shares.clamp(min=1e-4) ** -0.5, 0)
    loss_of = nn.CrossEntropyLoss(weights / (weights * shares).sum(), ignore_index=IGNORE_INDEX)
    head = nn.Sequential(nn.Linear(features.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(0.2),
                         nn.Linear(HIDDEN, classes))
    optimizer = torch.optim.AdamW(head.parameters(), RATE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        batch = torch.randint(len(features), (BATCH,))
        logits = head(features[batch].float())
        loss = loss_of(logits[..., None].expand(-1, -1, truth.shape[1]), truth[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return head.eval()


@torch.inference_mode()
def miou(data: Encoded, head: nn.Module, images: np.ndarray) -> float:
    """Return the mIoU, in percent, of the cells of some images."""
    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for features, truth in zip(data.features[images], data.truth[images], strict=True):
            mask = head(features.float()).argmax(1).byte()
            yield mask[:, None].expand(truth.shape).numpy(), truth.numpy()

    return 100 * measure(data.domain, pairs()).miou


def at_random(data: Encoded, head: nn.Sequential, first: np.ndarray,
              others: np.ndarray) -> np.ndarray:
    """Return the others in the order that they have, which is random."""
    return others


def shown(data: Encoded, head: nn.Sequential, first: np.ndarray,
          others: np.ndarray) -> np.ndarray:
    """Choose as `univseg rank` does: by what the head sees of each class."""
    with torch.inference_mode():
        amounts = np.stack([head(image.float()).softmax(1).mean(0).double().numpy()
                            for image in data.features])
    return _ranked(amounts, data, head, first, others)


def by_truth(data: Encoded, head: nn.Sequential, first: np.ndarray,
             others: np.ndarray) -> np.ndarray:
    """Choose as `univseg rank` would if it knew what there is of each class."""
    return _ranked(data.amounts, data, head, first, others)


def covering(data: Encoded, head: nn.Sequential, first: np.ndarray,
             others: np.ndarray) -> np.ndarray:
    """
    Choose typical frames: those that all others lie nearest to (facility location).

    Alike is exp(−(distance over half of the median)²) of mean features, in 32 directions.
    """
    means = data.features.float().mean(1)
    u, s, _ = torch.linalg.svd(means - means.mean(0), full_matrices=False)
    places = u[:, :32] * s[:32]
    distances = torch.cdist(places, places).numpy()
    alike = np.exp(-(2 * distances / np.median(distances[np.ix_(others, others)])) ** 2)[others]
    best, chosen = alike[:, first].max(1), []
    for _ in range(len(others)):
        gains = np.maximum(alike[:, others] - best[:, None], 0).sum(0)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        best = np.maximum(best, alike[:, others[chosen[-1]]])
    return others[chosen]


def _ranked(amounts: np.ndarray, data: Encoded, head: nn.Sequential, first: np.ndarray,
            others: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        vectors = np.stack([head[:2](image.float()).mean(0).double().numpy()
                            for image in data.features])
    pictures = np.random.default_rng(0).integers(2 ** 63, size=len(amounts)).astype(np.uint64)

    def of(images: np.ndarray) -> Frames:
        return Frames(amounts[images], vectors[images], pictures[images], np.ones(len(images)))

    return others[[choice.index for choice in choose_frames(of(others), of(first), len(others))]]


CHOICES: dict[str, Callable[[Encoded, nn.Sequential, np.ndarray, np.ndarray], np.ndarray]] = {
    'random': at_random, 'what is shown': shown, 'what is there, by the labels': by_truth,
    'what others lie nearest to': covering}


def _mean(values: Sequence[float] | np.ndarray, sign: str = '') -> str:
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f'{np.mean(values):{sign}.2f} ± {deviation:.2f}'


if __name__ == '__main__':
    main()
