"""
Teachers: networks that learn nothing themselves, and whose answers for crops a network is held to.

Each domain's own head answers for its own images, so domains need no classes in common. A teacher
sees crops as they are; where the network sees them mixed with each other, it is to answer the
same. Teachers differ in whose weights they have: a mean teacher (Tarvainen and Valpola, NeurIPS
2017) those of the network itself, on average (what is measured and deployed is the network; as the
learning rate goes to 0, both become the same), a large model (large_model.py) its own.
"""

from collections.abc import Sequence
import copy

import torch
import torch.nn.functional as F
from univseg_core.batches.mixture import Batch
from univseg_core.method.losses import Answers
from univseg_core.models.universal import UniversalSegmenter, upsample

MOMENTUM = 0.99
"""What a mean teacher keeps of itself at each step."""


class Teacher:
    """
    A network that answers for crops, in evaluation mode and without gradients.

    Its answers are probabilities, at a `temperature`, of the cells of a pupil's features, which
    are at the pupil's `stride`. It answers for unlabelled crops and, where asked, for `labelled`
    ones.
    """

    def __init__(self, network: UniversalSegmenter, stride: int, *, temperature: float = 1.0,
                 labelled: bool = False):
        self.network = network.requires_grad_(False).eval()
        self._stride, self._temperature, self._labelled = stride, temperature, labelled

    @torch.no_grad()
    def answers(self, batch: Batch) -> Answers:
        """Return its answers for a batch: those for unlabelled crops, mixed as the crops are."""
        unmixed = {name: batch.mixes[name].unmixed if name in batch.mixes else batch.images[rows]
                   for name, rows in batch.unlabelled.items()}
        labelled = {name: batch.images[rows] for name, rows in batch.labelled.items()
                    if self._labelled}
        crops = [*unmixed.values(), *labelled.values()]
        parts = iter(self.network.features(torch.cat(crops)).split(list(map(len, crops))))
        cells = [-(-side // self._stride) for side in batch.images.shape[-2:]]
        answers = {name: self._probabilities(next(parts), name, cells) for name in unmixed}
        return Answers({name: batch.mixes[name].of_cells(its) if name in batch.mixes else its
                        for name, its in answers.items()},
                       {name: self._probabilities(next(parts), name, cells) for name in labelled})

    def _probabilities(self, features: torch.Tensor, domain: str,
                       cells: Sequence[int]) -> torch.Tensor:
        """
        Return the probabilities (n, C, h, w) of the pupil's `cells` (h, w).

        Logits of a coarser teacher are upsampled, as they would be for masks; a finer one's
        probabilities are those of a cell's pixels on average.
        """
        logits = self.network.logits(features, domain).float()
        if self.network.stride > self._stride:
            logits = upsample(logits, cells, self.network.stride // self._stride)
        probabilities = (logits / self._temperature).softmax(1)
        if self.network.stride < self._stride:
            probabilities = F.avg_pool2d(probabilities, self._stride // self.network.stride,
                                         ceil_mode=True)
        return probabilities


class MeanTeacher(Teacher):
    """The running mean of a network's weights and batch statistics."""

    def __init__(self, network: UniversalSegmenter):
        super().__init__(copy.deepcopy(network), network.stride)

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
