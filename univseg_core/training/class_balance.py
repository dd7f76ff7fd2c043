"""How labelled pixels are weighed, so that a class that is seldom seen is learned, too."""

from collections.abc import Sequence
import logging

import numpy as np
import torch
from univseg_core.batches.labelled_images import class_pixels
from univseg_core.training.run_context import RunContext

log = logging.getLogger(__name__)


def class_weights(context: RunContext, names: Sequence[str], power: float
                  ) -> dict[str, torch.Tensor]:
    """
    Return the weight (C,) float32 of each class of some domains, and log them; none of a power 0.

    A class's weight is its share of the labelled pixels to the power of −`power`, scaled so that
    their mean over these pixels is 1; it is 0 for a class that none of them has.
    """
    if not power:
        return {}
    weights = {}
    for name in names:
        domain = context.config.domain(name)
        pixels = class_pixels(context.stores.labelled[name].samples, domain,
                              progress=context.fabric.is_global_zero)
        weights[name] = balanced(pixels, power).to(context.fabric.device)
        log.info('%s: labelled pixels weigh by class: %s', name, ', '.join(
            f'{label} {weight:.2g}' for label, weight in zip(
                domain.classes, weights[name].tolist(), strict=True)))
    return weights


def balanced(pixels: np.ndarray, power: float) -> torch.Tensor:
    """Return the weights (C,) float32 of classes of which there are so many `pixels` (C,)."""
    shares = pixels / pixels.sum()
    weights = np.zeros(len(pixels))
    weights[shares > 0] = shares[shares > 0] ** -power
    return torch.from_numpy(weights / (weights * shares).sum()).float()
