"""
A mean teacher (Tarvainen and Valpola, NeurIPS 2017), whose answers unlabelled images are held to.

It sees the crops as they are; the network sees them mixed with each other, and is to answer the
same. Each domain's own head answers for its own images, so domains need no classes in common.
What is measured and deployed is the network: as the learning rate goes to 0, both
become the same.
"""

from collections.abc import Mapping
import copy

import torch
from univseg_core.models.universal import UniversalSegmenter

MOMENTUM = 0.99
"""What the teacher keeps of itself at each step."""


class MeanTeacher:
    """The running mean of a network's weights and batch statistics."""

    def __init__(self, network: UniversalSegmenter):
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def probabilities(self, images: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        Return how likely each class is in each cell of the feature map (n, C, h, w), by domain.

        Each domain's images are (n, 3, H, W) with values 0..255, all of one size.
        """
        features = self.network.features(torch.cat(list(images.values())))
        parts = features.split([len(part) for part in images.values()])
        return {name: self.network.logits(part, name).float().softmax(1)
                for name, part in zip(images, parts, strict=True)}

    @torch.no_grad()
    def update(self, network: UniversalSegmenter, step: int) -> None:
        """Draw the teacher towards a network that has made so many steps."""
        momentum = min(MOMENTUM, 1 - 1 / (step + 1))  # soon without the random weights
        its = network.state_dict()
        for key, value in self.network.state_dict().items():
            if value.is_floating_point():
                value.lerp_(its[key], 1 - momentum)
            else:
                value.copy_(its[key])
