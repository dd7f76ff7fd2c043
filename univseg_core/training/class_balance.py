"""How labelled pixels are weighed, so that a class that is seldom seen is learned, too."""

from collections.abc import Sequence

import numpy as np
import torch
from univseg_core.domains import IGNORE_INDEX
from univseg_core.training.setup import Setup


def class_weights(setup: Setup, names: Sequence[str], power: float) -> dict[str, torch.Tensor]:
    """
    Return the weight (C,) float32 of each class of some domains; none of a power of 0.

    A class's weight is its frequency among the labelled pixels to the power of −`power`, scaled so
    that their mean over these pixels is 1; it is 0 for a class that none of them has.
    """
    if not power:
        return {}
    weights = {}
    for name in names:
        images = setup.stores.labelled[name]
        labels = [np.bincount(images[i][1].ravel(), minlength=IGNORE_INDEX + 1)
                  for i in range(len(images))]
        classes = len(setup.config.domain(name).classes)
        weights[name] = balanced(sum(labels)[:classes], power).to(setup.fabric.device)
    return weights


def balanced(pixels: np.ndarray, power: float) -> torch.Tensor:
    """Return the weights (C,) float32 of classes of which there are so many `pixels` (C,)."""
    shares = pixels / pixels.sum()
    weights = np.zeros(len(pixels))
    weights[shares > 0] = shares[shares > 0] ** -power
    return torch.from_numpy(weights / (weights * shares).sum()).float()
