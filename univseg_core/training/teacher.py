"""
A mean teacher (Tarvainen and Valpola, NeurIPS 2017), whose labels unlabelled images are held to.

It sees the crops as they are; the network sees them disturbed, and is to answer the same. Each
domain's own head labels its own images, so domains need no classes in common.
"""

from collections.abc import Mapping
import copy

import torch
from univseg_core.models.universal import UniversalSegmenter

MOMENTUM = 0.99
"""What the teacher keeps of itself at each step."""

SURE = 0.95
"""A label of this probability counts, whatever its class is usually given."""


class MeanTeacher:
    """
    The running mean of a network's weights, and how sure it is of each class of each domain.

    `confidence` has, by domain, the running mean (C,) of the probability of those labels that the
    teacher gave of each class: 0 at first.
    """

    def __init__(self, network: UniversalSegmenter):
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.confidence = {name: torch.zeros(len(domain.classes), device=network.mean.device)
                           for name, domain in network.domains.items()}

    @torch.no_grad()
    def labels(self, images: torch.Tensor, domain: str) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return a domain's labels (B, h, w) int64 of images (B, 3, H, W), and their probabilities.

        They are those of the cells of the feature map.
        """
        logits = self.network.logits(self.network.features(images), domain)
        probability, labels = logits.float().softmax(1).max(1)
        return labels, probability

    def counts(self, labels: torch.Tensor, probability: torch.Tensor,
               domain: str) -> torch.Tensor:
        """
        Return which labels are sure enough to learn from, (B, h, w) bool.

        Those are of which the teacher is as sure as it usually is of this class in this domain, or
        surer than SURE: a threshold for all would leave out whole domains, and rare classes.
        """
        return probability >= self.confidence[domain].clamp(max=SURE)[labels]

    @torch.no_grad()
    def update(self, network: UniversalSegmenter, step: int) -> None:
        """Draw the teacher towards a network that has made so many steps."""
        momentum = min(MOMENTUM, 1 - 1 / (step + 1))  # soon without the random weights
        mine, its = self.network.state_dict(), network.state_dict()
        for key, value in mine.items():
            if value.is_floating_point():
                value.lerp_(its[key], 1 - momentum)
            else:
                value.copy_(its[key])

    def update_confidence(self, sums: Mapping[str, torch.Tensor],
                          counts: Mapping[str, torch.Tensor]) -> None:
        """
        Draw the mean confidences towards those of a step.

        `sums` (C,) of the probabilities of the labels of each class, and their `counts` (C,).
        """
        for name, mine in self.confidence.items():
            if name in sums:
                seen = counts[name] > 0
                mean = (sums[name] / counts[name].clamp(min=1)).to(mine)
                mine.copy_(torch.where(seen.to(mine.device),
                                       torch.where(mine > 0, MOMENTUM * mine
                                                   + (1 - MOMENTUM) * mean, mean), mine))

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that a checkpoint must keep, as tensors by name."""
        return {**{f'network.{key}': value for key, value in self.network.state_dict().items()},
                **{f'confidence.{key}': value for key, value in self.confidence.items()}}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take on a state that `state` returned."""
        self.network.load_state_dict({key.removeprefix('network.'): value
                                      for key, value in state.items()
                                      if key.startswith('network.')})
        for name, mine in self.confidence.items():
            mine.copy_(state[f'confidence.{name}'])
