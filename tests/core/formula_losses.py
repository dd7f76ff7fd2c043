"""The losses as loops written straight from the paper's equations, in float64."""

import math

import numpy as np
import pytest
import torch

VOID = 255
CLASSES = {'a': 3, 'b': 5, 'c': 2}
DIM = 4


def close(value):
    """Equal to 1e-5 of the value, or to 1e-6."""
    return pytest.approx(value, rel=1e-5, abs=1e-6)


def log_softmax(scores):
    top = max(scores)
    total = math.log(sum(math.exp(s - top) for s in scores))
    return [s - top - total for s in scores]


def supervised_loop(logits, target):
    """Eq 1: the mean over an image's valid pixels, then over images that have any."""
    images = []
    for scores, label in zip(logits.tolist(), target.tolist(), strict=True):
        pixels = [-log_softmax([channel[y][x] for channel in scores])[label[y][x]]
                  for y in range(len(label)) for x in range(len(label[0]))
                  if label[y][x] != VOID]
        if pixels:
            images.append(sum(pixels) / len(pixels))
    return sum(images) / len(images) if images else 0.0


def entropy_loop(embeddings, label_embeddings, valid):
    """Eq 2, then 3 or 4: dot products, softmax, entropy, mean over the valid pixels."""
    labels = [row for row in label_embeddings.tolist() if any(row)]
    pixels = []
    for image, mask in zip(embeddings.tolist(), valid.tolist(), strict=True):
        for y in range(len(mask)):
            for x in range(len(mask[0])):
                if mask[y][x]:
                    pixel = [channel[y][x] for channel in image]
                    scores = [sum(p * c for p, c in zip(pixel, row, strict=True))
                              for row in labels]
                    pixels.append(-sum(math.exp(v) * v for v in log_softmax(scores)))
    return sum(pixels) / len(pixels) if pixels else 0.0


def random_target(generator, classes, shape=(4, 6, 7)):
    """Return labels with void pixels, a padded image, one of void alone, and one without any."""
    target = generator.integers(0, classes, shape)
    target[0][generator.random(shape[1:]) < 0.3] = VOID
    target[1, 4:], target[1, :, 3:] = VOID, VOID
    target[2] = VOID
    return torch.from_numpy(target.astype(np.uint8))


def random_batch(domains, seed=0):
    """Return the logits, targets, embeddings, label embeddings and valid cells of domains."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    return (
        {d: 4 * torch.randn(4, CLASSES[d], 6, 7) for d in domains},
        {d: random_target(generator, CLASSES[d]) for d in domains},
        {d: 3 * torch.randn(3, DIM, 2, 5) for d in domains},
        {d: torch.nn.functional.normalize(torch.randn(CLASSES[d], DIM)) for d in domains},
        {d: torch.from_numpy(generator.random((3, 2, 5)) < 0.7) for d in domains},
    )
