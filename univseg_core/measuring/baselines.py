"""
What a network must beat: guesses from the location alone, and a forest on colour and location.

Both learn from the same labelled images as the network.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from univseg_core.batches.dataset import DomainData
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.measuring.evaluation import DomainResult, measure
from univseg_core.pictures.images import fit_size, resize_image, resize_label

PIXELS = 100_000
"""Labelled pixels that the forest learns from."""


def location_prior(data: DomainData, grid: tuple[int, int] = (180, 240)) -> DomainResult:
    """
    Measure the constant mask that has, at each location, the most frequent labelled class.

    Locations are cells of a (height, width) grid laid over images of every size.
    """
    classes = len(data.domain.classes)
    counts = np.zeros((classes, *grid), np.int64)
    for sample in data.labelled:
        label = resize_label(read_sample(sample, data.domain)[1], *grid)
        counts += label == np.arange(classes)[:, None, None]
    prior = counts.argmax(0).astype(np.uint8)
    truths = (read_sample(sample, data.domain)[1] for sample in data.validation)
    return measure(data.domain, ((resize_label(prior, *truth.shape), truth) for truth in truths))


def random_forest(data: DomainData, image_size: int | None, seed: int = 0,
                  trees: int = 50) -> DomainResult:
    """
    Measure a random forest on each pixel's colour (RGB, HSV) and location (x, y).

    Images are seen at `image_size`, as by the network; masks come back at the labels' size.
    """
    generator = np.random.default_rng(seed)
    share = PIXELS // len(data.labelled)
    inputs, targets = [], []
    for sample in data.labelled:
        image, label = _scaled(sample, data.domain, image_size)
        candidates = np.flatnonzero(label.ravel() != IGNORE_INDEX)
        chosen = generator.choice(candidates, min(share, len(candidates)), replace=False)
        inputs.append(pixel_values(image)[chosen])
        targets.append(label.ravel()[chosen])
    forest = RandomForestClassifier(trees, min_samples_leaf=5, n_jobs=-1, random_state=seed)
    forest.fit(np.concatenate(inputs), np.concatenate(targets))
    return measure(data.domain, _forest_masks(forest, data.validation, data.domain, image_size))


def _forest_masks(forest: RandomForestClassifier, samples: Sequence[Sample], domain: Domain,
                  image_size: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for sample in samples:
        image, _ = _scaled(sample, domain, image_size)
        mask = forest.predict(pixel_values(image)).reshape(image.shape[:2])
        truth = read_sample(sample, domain)[1]
        yield resize_label(mask.astype(np.uint8), *truth.shape), truth


def pixel_values(image: np.ndarray) -> np.ndarray:
    """Return each pixel's R, G, B, H, S, V, x and y, (H·W, 8) float32, of an image (H, W, 3)."""
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    location = np.stack([x / width, y / height], axis=-1)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    return np.concatenate([image, hsv, location], axis=-1, dtype=np.float32).reshape(-1, 8)


def _scaled(sample: Sample, domain: Domain,
            image_size: int | None) -> tuple[np.ndarray, np.ndarray]:
    image, label = read_sample(sample, domain)
    height, width = label.shape
    size = fit_size(height, width, image_size)
    return resize_image(image, *size), resize_label(label, *size)
