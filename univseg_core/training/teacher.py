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
from univseg_core.batches.cut_mix import CutMix
from univseg_core.models.universal import UniversalSegmenter

MOMENTUM = 0.99
"""What the teacher keeps of itself at each step."""


class MeanTeacher:
    """The running mean of a network's weights and batch statistics."""

    def __init__(self, network: UniversalSegmenter):
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def answers(self, mixes: Mapping[str, CutMix]) -> dict[str, torch.Tensor]:
        """
        Return how likely each class is in each cell (n, C, h, w) of mixed crops, by domain.

        They are its answers for the unmixed crops, all of one size, mixed as the crops are.
        """
        features = self.network.features(torch.cat([mix.unmixed for mix in mixes.values()]))
        parts = features.split([len(mix.unmixed) for mix in mixes.values()])
        return {name: mix.of_cells(self.network.logits(part, name).float().softmax(1))
                for (name, mix), part in zip(mixes.items(), parts, strict=True)}

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
