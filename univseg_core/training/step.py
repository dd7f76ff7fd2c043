"""One training step: a batch, in one or more pieces → losses → gradients."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_fabric import Fabric
import torch
from univseg_core.batches.mixture import Batch
from univseg_core.method.collapse import perplexities
from univseg_core.method.losses import (
    Answers,
    Counts,
    entropy_pixels,
    MEAN,
    StepTensors,
    total_loss,
)
from univseg_core.method.objectives import (
    cell_targets,
    counted_images,
    mean_assignment,
    mean_shares,
    nearest_class,
    valid_cells,
)
from univseg_core.models.universal import TrainingOutputs, UniversalSegmenter
from univseg_core.settings.objective import ObjectiveSection
from univseg_core.training.processes import summed
from univseg_core.training.teacher import Teacher


def step_counts(fabric: Fabric, pieces: Sequence[Batch], objective: ObjectiveSection,
                stride: int) -> Counts:
    """Return the counts of a step, of which `pieces` are this process's share."""
    counts: dict[tuple[str, str], torch.Tensor] = defaultdict(lambda: torch.tensor(0))
    for batch in pieces:
        cells = valid_cells(batch.targets, stride)
        counted = entropy_pixels(batch.targets, objective, stride)
        counts['crops', ''] = counts['crops', ''] + len(batch.images)
        for name, rows in batch.labelled.items():
            counts['images', name] = counts['images', name] + counted_images(batch.targets[rows])
            counts['labelled', name] = counts['labelled', name] + cells[rows].sum()
        for name, rows in batch.unlabelled.items():
            counts['cells', name] = counts['cells', name] + counted[rows].sum()
            counts['taught', name] = counts['taught', name] + cells[rows].sum()
    totals = {key: value.float() for key, value in summed(fabric, counts).items()}

    def of_domains(kind: str) -> dict[str, torch.Tensor]:
        return {name: value for (key, name), value in totals.items() if key == kind}

    return Counts(of_domains('images'), of_domains('cells'), of_domains('taught'),
                  of_domains('labelled'), totals['crops', ''])


@dataclass(frozen=True)
class Supervision:
    """
    What a step learns by besides its labels.

    The weight (C,) of each class by domain, where they are not all alike, and the teachers, by
    MEAN or LARGE. With a mean teacher, batches tell how their unlabelled crops are mixed.
    """

    class_weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    teachers: Mapping[str, Teacher] = field(default_factory=dict)


def forward_and_backward(fabric: Fabric, model: UniversalSegmenter, pieces: Sequence[Batch],
                         objective: ObjectiveSection, step: int,
                         supervision: Supervision = Supervision()) -> dict[str, torch.Tensor]:
    """
    Add the gradients of a step to a model's parameters; return this process's share of its values.

    Summed over the processes, the values are those of the whole batch: the scalars `loss` and its
    terms, the entropy of each pair of domains, `feature_norm`, `embedding_norm`, how often the
    nearest label embedding is right, `prototype_accuracy`, of each domain and `images` (crops);
    and vectors of shares: how much domain i's pixels use the label embeddings of j,
    `assignment/i/j` (P,), how many are nearest to those of i, `nearest/i` (P,), how many labelled
    ones have each class, `labels/i` (C,), and what a mean teacher takes the unlabelled ones for,
    `taught/i` (C,).
    """
    counts = step_counts(fabric, pieces, objective, model.stride)
    values: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros((), device=fabric.device))
    wrapped: Any = model  # by Fabric, in a class whose name is private
    for i, batch in enumerate(pieces):
        batch = batch.to(fabric.device)
        with fabric.no_backward_sync(wrapped, enabled=i < len(pieces) - 1):
            with fabric.autocast():
                answers = {kind: teacher.answers(batch)
                           for kind, teacher in supervision.teachers.items()}
            loss, share = batch_losses(model, batch, counts, objective, step,
                                       supervision.class_weights, answers)
            # Gradients are averaged over the processes; the losses are to be added up.
            fabric.backward(loss * fabric.world_size)
        for key, value in share.items():
            values[key] = values[key] + value
    return dict(values)


@dataclass(frozen=True)
class StepTotals:
    """
    What all processes have of a step together.

    Its values that are logged, `scalars`, and `vectors` of shares; whether one is asked to `stop`;
    and how many images could not be read.
    """

    scalars: dict[str, float]
    vectors: dict[str, torch.Tensor]
    stop: bool
    unreadable: int


def step_totals(fabric: Fabric, values: Mapping[str, torch.Tensor], stop: bool,
                unreadable: int) -> StepTotals:
    """Return the sums of the processes' shares of a step, by one exchange among them."""
    asked, lost = ('', 'stop'), ('', 'unreadable')
    totals = summed(fabric, {('value', key): value for key, value in values.items()} | {
        asked: torch.tensor(stop), lost: torch.tensor(unreadable)})
    stop, unreadable = bool(totals.pop(asked) > 0), int(totals.pop(lost).item())
    scalars = {key: value.item() for (_, key), value in totals.items() if not value.ndim}
    vectors = {key: value for (_, key), value in totals.items() if value.ndim}
    return StepTotals(scalars | perplexities(vectors), vectors, stop, unreadable)


def batch_losses(model: UniversalSegmenter, batch: Batch, counts: Counts,
                 objective: ObjectiveSection, step: int,
                 class_weights: Mapping[str, torch.Tensor] | None = None,
                 answers: Mapping[str, Answers] | None = None
                 ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """
    Return a batch's share of a step's loss, a scalar, and of the values that are logged.

    `answers` are those of teachers, by MEAN or LARGE.
    """
    outputs: TrainingOutputs = model(batch.images, batch.labelled, batch.unlabelled)
    labels = ({name: model.label_embeddings(name) for name in batch.labelled}
              if objective.needs_label_embeddings else {})
    tensors = StepTensors(
        outputs.logits, outputs.cell_logits,
        {name: batch.targets[rows] for name, rows in batch.labelled.items()},
        outputs.unlabelled_logits,
        {name: batch.targets[rows] for name, rows in batch.unlabelled.items()}, answers or {},
        outputs.embeddings, outputs.labelled_embeddings, labels, class_weights or {}, counts,
        objective, model.stride)
    total, terms = total_loss(tensors, objective, step)
    values = {'images': torch.tensor(float(len(outputs.features))),
              'feature_norm': _norms(outputs.features) / counts.crops,
              'embedding_norm': torch.zeros(())}
    if labels:
        values['embedding_norm'] = sum(map(_norms, [
            *outputs.embeddings.values(), *outputs.labelled_embeddings.values()])) / counts.crops
        values |= label_use(tensors)
    taught = tensors.answers[MEAN].unlabelled if MEAN in tensors.answers else {}
    values |= {f'taught/{name}': mean_shares(
        each, valid_cells(tensors.unlabelled_targets[name], model.stride),
        counts.taught_cells[name]) for name, each in taught.items()}
    if taught or labels:  # what collapses are judged by
        values |= {f'labels/{name}': label_shares(cell_targets(target, model.stride),
                                                  tensors.logits[name].shape[1],
                                                  counts.labelled_cells[name])
                   for name, target in tensors.targets.items()}
    values |= {'loss': total, **terms}
    values |= {f'entropy/{i}/{j}': value for (i, j), value in tensors.entropies.items()}
    return total, {key: value.detach() for key, value in values.items()}


def label_shares(cells: torch.Tensor, classes: int, count: torch.Tensor) -> torch.Tensor:
    """Return the share (C,) of each class in the targets (B, h, w) of cells, of `count` cells."""
    indices = torch.arange(classes, device=cells.device)[:, None]
    return (cells.flatten() == indices).sum(1) / count.clamp(min=1)


def label_use(tensors: StepTensors) -> dict[str, torch.Tensor]:
    """Return how much the label embeddings are in use, and how labelled cells lie to them."""
    counts, values = tensors.counts, {}
    for (i, j), scores in tensors.scores.items():
        valid = tensors.counted[i]
        values[f'assignment/{i}/{j}'] = mean_assignment(scores, valid, counts.cells[i])
        if i == j:
            first = (scores == scores.amax(1, keepdim=True)).float()
            values[f'nearest/{i}'] = mean_shares(first / first.sum(1, keepdim=True), valid,
                                                 counts.cells[i])
    for name, scores in tensors.labelled_scores.items():
        hits = nearest_class(scores, tensors.label_embeddings[name],
                             tensors.logits[name].shape[1]) == cell_targets(
                                 tensors.targets[name], tensors.stride)
        values[f'prototype_accuracy/{name}'] = (
            hits.sum() / counts.labelled_cells[name].clamp(min=1))
    return values


def _norms(vectors: torch.Tensor) -> torch.Tensor:
    """Return the sum over images of their pixels' mean norm, of vectors (B, D, h, w)."""
    return vectors.detach().float().norm(dim=1).mean((1, 2)).sum()
