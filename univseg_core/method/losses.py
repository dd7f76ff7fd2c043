"""
The loss (Eq 5, and ours), term by term.

Each entry of LOSSES is all that there is of a term: how it is computed, the setting that weighs
it, its column in log.csv and its curve. A training step walks through them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

import torch
from univseg_core.domains import IGNORE_INDEX
from univseg_core.method.objectives import (
    cell_targets,
    class_scores,
    consistency_loss,
    distillation_loss,
    entropy,
    masked_cross_entropy,
    similarities,
    similarity,
    valid_cells,
)
from univseg_core.models.universal import upsample

MEAN, LARGE = 'mean', 'large'
"""Teachers: the running mean of the network itself, and a model that was trained before."""


class Distillation(Protocol):
    """The settings that shape what a large model teaches."""

    @property
    def teacher(self) -> Path | None:
        """Return its file; None where there is none."""

    @property
    def temperature(self) -> float:
        """Return what the logits of both are divided by."""


class Form(Protocol):
    """The settings that shape the terms, of the section `objective`."""

    @property
    def similarity(self) -> str:
        """Return what similarities are: dot_product or cosine."""

    @property
    def temperature(self) -> float:
        """Return what they are divided by."""

    @property
    def full_resolution(self) -> bool:
        """Say whether the entropy is that of each pixel, not of each cell."""

    @property
    def warmup_steps(self) -> int:
        """Return the steps over which weights rise."""

    @property
    def distillation(self) -> Distillation:
        """Return how a large model teaches, if there is one."""


@dataclass(frozen=True)
class Counts:
    """
    What the sums of a step are divided by: its counts over all pieces in all processes.

    Scalars: of each domain, the labelled images that are not void throughout, the unlabelled
    pixels or cells of which there is an entropy, the unlabelled cells that a teacher answers for,
    and the labelled cells; and the crops of the step.
    """

    images: Mapping[str, torch.Tensor]
    cells: Mapping[str, torch.Tensor]
    taught_cells: Mapping[str, torch.Tensor]
    labelled_cells: Mapping[str, torch.Tensor]
    crops: torch.Tensor


@dataclass(frozen=True)
class Answers:
    """
    How likely each class is in each cell, (n, C, h, w), to a teacher, of some crops by domain.

    Of `unlabelled` crops and, where it answers for them, of `labelled` ones.
    """

    unlabelled: Mapping[str, torch.Tensor]
    labelled: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class StepTensors:
    """
    What the terms are computed from: a step's batch, or a piece of it, by domain.

    Of labelled crops, `logits` (n, C, H, W), the same at the cells, `cell_logits` (n, C, h, w),
    and `targets` (n, H, W); of unlabelled ones, `unlabelled_logits` (n, C, h, w) and
    `unlabelled_targets` (n, H, W) that tell padding. The `answers` of teachers, by MEAN or LARGE,
    where there are any. `embeddings` of unlabelled and `labelled_embeddings` of labelled crops
    (n, D, h, w), and `label_embeddings` (C·K, D) where something learns by these. `class_weights`
    (C,) of domains whose classes weigh differently.
    """

    logits: Mapping[str, torch.Tensor]
    cell_logits: Mapping[str, torch.Tensor]
    targets: Mapping[str, torch.Tensor]
    unlabelled_logits: Mapping[str, torch.Tensor]
    unlabelled_targets: Mapping[str, torch.Tensor]
    answers: Mapping[str, Answers]
    embeddings: Mapping[str, torch.Tensor]
    labelled_embeddings: Mapping[str, torch.Tensor]
    label_embeddings: Mapping[str, torch.Tensor]
    class_weights: Mapping[str, torch.Tensor]
    counts: Counts
    form: Form
    stride: int

    @property
    def zero(self) -> torch.Tensor:
        """Return the term, a scalar, of a step that has nothing of it."""
        return torch.zeros((), device=next(iter(self.logits.values())).device)

    @cached_property
    def scores(self) -> dict[tuple[str, str], torch.Tensor]:
        """
        Return v_ij (n, P, …) by (i, j): of domain i's unlabelled pixels with j's labels.

        They are kept for the step: at full resolution, that is much.
        """
        if not self.label_embeddings:
            return {}
        found = similarities(self.embeddings, self.label_embeddings, **self._options)
        if not self.form.full_resolution:
            return found
        return {(i, j): upsample(scores, self.unlabelled_targets[i].shape[1:], self.stride)
                for (i, j), scores in found.items()}

    @cached_property
    def counted(self) -> dict[str, torch.Tensor]:
        """Return which pixels or cells of the unlabelled crops have an entropy, bool."""
        return {name: entropy_pixels(targets, self.form, self.stride)
                for name, targets in self.unlabelled_targets.items()}

    @cached_property
    def entropies(self) -> dict[tuple[str, str], torch.Tensor]:
        """Return the scalars H(σ(v_ij)) by (i, j): within-domain where i = j, else cross."""
        return {(i, j): entropy(scores, self.counted[i], self.counts.cells[i])
                for (i, j), scores in self.scores.items()}

    @cached_property
    def labelled_scores(self) -> dict[str, torch.Tensor]:
        """Return the similarities (n, P, h, w) of labelled cells with their domain's labels."""
        if not self.label_embeddings:
            return {}
        return {name: similarity(pixels, self.label_embeddings[name], **self._options)
                for name, pixels in self.labelled_embeddings.items()}

    @property
    def _options(self) -> dict[str, Any]:
        """Return the keywords of `similarity`."""
        return {'cosine': self.form.similarity == 'cosine', 'temperature': self.form.temperature}


def entropy_pixels(targets: torch.Tensor, form: Form, stride: int) -> torch.Tensor:
    """Return which pixels (B, H, W), or cells (B, h, w), the entropy is the mean of, bool."""
    if form.full_resolution:
        return targets != IGNORE_INDEX
    return valid_cells(targets, stride)


def supervised(step: StepTensors) -> torch.Tensor:
    """Return L_S (Eq 1), summed over domains."""
    return sum((masked_cross_entropy(logits, step.targets[name], step.counts.images[name],
                                     step.class_weights.get(name))
                for name, logits in step.logits.items()), step.zero)


def cross_domain_entropy(step: StepTensors) -> torch.Tensor:
    """Return L_cross (Eq 3): for each domain the mean over the others, summed."""
    others = max(1, len({j for _, j in step.entropies}) - 1)
    return sum((value for (i, j), value in step.entropies.items() if i != j), step.zero) / others


def within_domain_entropy(step: StepTensors) -> torch.Tensor:
    """Return L_within (Eq 4), summed over domains."""
    return sum((value for (i, j), value in step.entropies.items() if i == j), step.zero)


def anchor(step: StepTensors) -> torch.Tensor:
    """Return the cross-entropy of labelled cells against their domain's label embeddings."""
    total = step.zero
    for name, scores in step.labelled_scores.items():
        labels, classes = step.label_embeddings[name], step.logits[name].shape[1]
        has_none = ~labels.view(classes, -1).any(1)
        cells = cell_targets(step.targets[name], step.stride)
        cells = cells.masked_fill(torch.isin(cells, has_none.nonzero()), IGNORE_INDEX)
        total = total + masked_cross_entropy(class_scores(scores, labels, classes), cells,
                                             step.counts.images[name])
    return total


def consistency(step: StepTensors) -> torch.Tensor:
    """Return the cross-entropy of mixed unlabelled crops against the mean teacher's answers."""
    return sum((consistency_loss(step.unlabelled_logits[name], answers,
                                 valid_cells(step.unlabelled_targets[name], step.stride),
                                 step.counts.taught_cells[name])
                for name, answers in step.answers[MEAN].unlabelled.items()), step.zero)


def distillation(step: StepTensors) -> torch.Tensor:
    """Return the divergence from a large model's answers: for each domain of all its crops."""
    answers, total = step.answers[LARGE], step.zero
    for its, logits, targets in (
            (answers.unlabelled, step.unlabelled_logits, step.unlabelled_targets),
            (answers.labelled, step.cell_logits, step.targets)):
        for name, probabilities in its.items():
            cells = step.counts.taught_cells.get(name, step.zero)
            if answers.labelled:
                cells = cells + step.counts.labelled_cells[name]
            total = total + distillation_loss(
                logits[name], probabilities, valid_cells(targets[name], step.stride),
                step.form.distillation.temperature, cells)
    return total


@dataclass(frozen=True)
class Loss:
    """
    A term of the loss.

    `of` computes it, a scalar in nats that adds up over the pieces of a step. `name` is its column
    in log.csv, `title` that of its curve, `short` what stands beside the progress bar. `setting`
    is the key of its weight in the section `objective` (with a dot, in a section in there), with
    the `default` and the `meaning`; without one it weighs 1. A weight that `rises` does so from 0,
    over `warmup_steps`.

    What it takes: `unlabelled` images, `label_embeddings`, the answers of a `teacher`, MEAN or
    LARGE. An `entropy` is drawn on the axis of these. One that is not `always` logged is computed
    only where it has a weight.
    """

    of: Callable[[StepTensors], torch.Tensor]
    name: str
    title: str
    short: str
    setting: str | None = None
    default: float = 0.0
    meaning: str = ''
    rises: bool = False
    unlabelled: bool = False
    label_embeddings: bool = False
    teacher: str | None = None
    entropy: bool = False
    always: bool = False

    def weight(self, objective: Form, step: int | None = None) -> float:
        """Return its weight in a step, or at last, by the section `objective`."""
        if self.setting is None:
            return 1.0
        if self.teacher == LARGE and objective.distillation.teacher is None:
            return 0.0
        weight = attrgetter(self.setting)(objective)
        if self.rises and step is not None and objective.warmup_steps:
            weight *= min(1.0, step / objective.warmup_steps)
        return weight


LOSSES = (
    Loss(supervised, 'supervised', 'Supervised loss', 'supervised', always=True),
    Loss(cross_domain_entropy, 'cross_entropy', 'Cross-domain entropy', 'cross', 'alpha',
         meaning='weight of the cross-domain entropy (1 in the paper)', rises=True,
         unlabelled=True, label_embeddings=True, entropy=True, always=True),
    Loss(within_domain_entropy, 'within_entropy', 'Within-domain entropy', 'within', 'beta',
         meaning='weight of the within-domain entropy (1 in the paper)', rises=True,
         unlabelled=True, label_embeddings=True, entropy=True, always=True),
    Loss(anchor, 'anchor', "Anchor's loss", 'anchor', 'anchor',
         meaning='weight of the cross-entropy of labelled pixels against the label embeddings of '
                 'their domain, which ties the embedding to them', label_embeddings=True),
    Loss(consistency, 'consistency', 'Consistency loss', 'consistency',
         'consistency', default=1.0,
         meaning='weight of the cross-entropy of mixed unlabelled crops against what a mean '
                 'teacher, the running mean of the network, makes of them unmixed', rises=True,
         unlabelled=True, teacher=MEAN),
    Loss(distillation, 'distillation', "Divergence from the large model's answers",
         'distillation', 'distillation.weight', default=1.0,
         meaning='weight of the divergence of its answers for crops from those of the large model',
         unlabelled=True, teacher=LARGE),
)
"""All terms, in the order in which they are added."""


def total_loss(tensors: StepTensors, objective: Form, step: int
               ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """
    Return the weighted sum (Eq 5) in a step, a scalar in nats, and its terms by name, unweighted.

    `objective` is the section of that name: the form of the terms, and their weights.
    """
    total, terms = tensors.zero, {}
    for loss in LOSSES:
        if loss.always or (loss.weight(objective)
                           and loss.teacher in (None, *tensors.answers)):
            terms[loss.name] = loss.of(tensors)
            total = total + loss.weight(objective, step) * terms[loss.name]
    return total, terms
