"""
What a network must beat: guesses from the location alone, and a forest on colour and location.

Both learn from the same labelled images as the network.
"""

import cv2
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from univseg_core.batches.dataset import DomainData
from univseg_core.batches.stores import ImageStore
from univseg_core.domains import IGNORE_INDEX
from univseg_core.measuring.evaluation import DomainResult, measure
from univseg_core.pictures.images import resize_label

PIXELS = 100_000
"""Labelled pixels that the forest learns from."""


def location_prior(data: DomainData, grid: tuple[int, int] = (180, 240)) -> DomainResult:
    """
    Measure the constant mask that has, at each location, the most frequent labelled class.

    Locations are cells of a (height, width) grid laid over images of every size.
    """
    classes = len(data.domain.classes)
    counts = np.zeros((classes, *grid), np.int64)
    for _, label in ImageStore(data.labelled, data.domain, None):
        counts += resize_label(label, *grid) == np.arange(classes)[:, None, None]
    prior = counts.argmax(0).astype(np.uint8)
    return measure(data.domain, ((resize_label(prior, *truth.shape), truth)
                                 for _, truth in ImageStore(data.validation, data.domain, None)))


def random_forest(data: DomainData, image_size: int | None, seed: int = 0,
                  trees: int = 50) -> DomainResult:
    """
    Measure a random forest on each pixel's colour (RGB, HSV) and location (x, y).

    Images are seen at `image_size`, as by the network; masks come back at the labels' size.
    """
    generator = np.random.default_rng(seed)
    share = PIXELS // len(data.labelled)
    inputs, targets = [], []
    for image, label in ImageStore(data.labelled, data.domain, image_size):
        candidates = np.flatnonzero(label.ravel() != IGNORE_INDEX)
        chosen = generator.choice(candidates, min(share, len(candidates)), replace=False)
        inputs.append(pixel_values(image)[chosen])
        targets.append(label.ravel()[chosen])
    forest = RandomForestClassifier(trees, min_samples_leaf=5, n_jobs=-1, random_state=seed)
    forest.fit(np.concatenate(inputs), np.concatenate(targets))
    masks = (forest.predict(pixel_values(image)).reshape(image.shape[:2]).astype(np.uint8)
             for image, _ in ImageStore(data.validation, data.domain, image_size))
    truths = (truth for _, truth in ImageStore(data.validation, data.domain, None))
    return measure(data.domain, ((resize_label(mask, *truth.shape), truth)
                                 for mask, truth in zip(masks, truths, strict=True)))


def pixel_values(image: np.ndarray) -> np.ndarray:
    """Return each pixel's R, G, B, H, S, V, x and y, (H·W, 8) float32, of an image (H, W, 3)."""
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    location = np.stack([x / width, y / height], axis=-1)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    return np.concatenate([image, hsv, location], axis=-1, dtype=np.float32).reshape(-1, 8)
