"""One training step: a batch, in one or more pieces → losses → gradients."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lightning.fabric import Fabric
import torch
from torch import nn
from univseg_core.batches.mixture import Batch
from univseg_core.domains import IGNORE_INDEX
from univseg_core.method.objectives import (
    cell_targets,
    class_scores,
    consistency_loss,
    counted_cells,
    counted_images,
    entropy,
    Losses,
    masked_cross_entropy,
    mean_assignment,
    mean_shares,
    nearest_class,
    similarities,
    similarity,
    total_loss,
    valid_cells,
)
from univseg_core.models.universal import upsample
from univseg_core.settings.config import ObjectiveSection
from univseg_core.training.processes import summed
from univseg_core.training.teacher import MeanTeacher


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
            counts['labelled', name] = counts['labelled', name] + counted_cells(cells[rows])
        for name, rows in batch.unlabelled.items():
            counts['cells', name] = counts['cells', name] + counted_cells(counted[rows])
            counts['taught', name] = counts['taught', name] + counted_cells(cells[rows])
    totals = {key: value.float() for key, value in summed(fabric, counts).items()}

    def of_domains(kind: str) -> dict[str, torch.Tensor]:
        return {name: value for (key, name), value in totals.items() if key == kind}

    return Counts(of_domains('images'), of_domains('cells'), of_domains('taught'),
                  of_domains('labelled'), totals['crops', ''])


def entropy_pixels(targets: torch.Tensor, objective: ObjectiveSection,
                   stride: int) -> torch.Tensor:
    """Return which pixels (B, H, W), or cells (B, h, w), the entropy is the mean of, bool."""
    if objective.full_resolution:
        return targets != IGNORE_INDEX
    return valid_cells(targets, stride)


@dataclass(frozen=True)
class Supervision:
    """
    What a step learns by besides its labels.

    The weight (C,) of each class by domain, where they are not all alike, and the mean teacher,
    if there is one: batches then tell how their unlabelled crops are mixed.
    """

    class_weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    teacher: MeanTeacher | None = None


def forward_and_backward(fabric: Fabric, model: nn.Module, pieces: Sequence[Batch],
                         objective: ObjectiveSection, step: int,
                         supervision: Supervision = Supervision()) -> dict[str, torch.Tensor]:
    """
    Add the gradients of a step to a model's parameters; return this process's share of its values.

    Summed over the processes, the values are those of the whole batch: the scalars `loss` and its
    terms, the entropy of each pair of domains, `feature_norm`, `embedding_norm`, the
    `prototype_accuracy` of each domain and `images` (crops); and vectors of shares: how much
    domain i's pixels use the label embeddings of j, `assignment/i/j` (P,), how many are nearest to
    those of i, `nearest/i` (P,), how many labelled ones have each class, `labels/i` (C,), and what
    a teacher takes the unlabelled ones for, `taught/i` (C,).
    """
    teacher = supervision.teacher
    counts = step_counts(fabric, pieces, objective, model.stride)
    values: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros((), device=fabric.device))
    for i, batch in enumerate(pieces):
        batch = batch.to(fabric.device)
        with fabric.no_backward_sync(model, enabled=i < len(pieces) - 1):
            answers = {}
            if teacher is not None:
                with fabric.autocast():
                    answers = teacher.answers(batch.mixes)
            losses, share = batch_losses(model, batch, counts, objective, step,
                                         supervision.class_weights, answers)
            # Gradients are averaged over the processes; the losses are to be added up.
            fabric.backward(losses.total * fabric.world_size)
        for key, value in share.items():
            values[key] = values[key] + value
    return dict(values)


def batch_losses(model: nn.Module, batch: Batch, counts: Counts, objective: ObjectiveSection,
                 step: int, class_weights: Mapping[str, torch.Tensor] | None = None,
                 answers: Mapping[str, torch.Tensor] | None = None
                 ) -> tuple[Losses, dict[str, torch.Tensor]]:
    """
    Return a batch's share of a step's losses, and of the values that are logged.

    `answers` are a teacher's of each domain's unlabelled crops, (n, C, h, w).
    """
    class_weights, answers = class_weights or {}, answers or {}
    outputs = model(batch.images, batch.labelled, batch.unlabelled)
    logits, embeddings, features = outputs.logits, outputs.embeddings, outputs.features
    targets = {name: batch.targets[rows] for name, rows in batch.labelled.items()}
    supervised = {name: masked_cross_entropy(logits[name], targets[name], counts.images[name],
                                             class_weights.get(name))
                  for name in logits}
    values = {'images': torch.tensor(float(len(features))),
              'feature_norm': _norms(features) / counts.crops, 'embedding_norm': torch.zeros(())}
    entropies, anchors, consistencies = {}, {}, {}
    if objective.needs_label_embeddings:
        labels = {name: model.label_embeddings(name) for name in batch.labelled}
        values['embedding_norm'] = sum(map(_norms, [
            *embeddings.values(), *outputs.labelled_embeddings.values()])) / counts.crops
        entropies, assignments = unlabelled_terms(embeddings, labels, batch, counts, objective,
                                                  model.stride)
        classes = {name: value.shape[1] for name, value in logits.items()}
        anchors, accuracies = labelled_terms(outputs.labelled_embeddings, labels, targets,
                                             classes, counts, objective, model.stride)
        values |= assignments | accuracies
    for name, probabilities in answers.items():
        valid = valid_cells(batch.targets[batch.unlabelled[name]], model.stride)
        cells = counts.taught_cells[name]
        consistencies[name] = consistency_loss(outputs.unlabelled_logits[name], probabilities,
                                               valid, cells)
        values[f'taught/{name}'] = mean_shares(probabilities, valid, cells)
    if answers or objective.needs_label_embeddings:  # what collapses are judged by
        values |= {f'labels/{name}': label_shares(cell_targets(target, model.stride),
                                                  logits[name].shape[1],
                                                  counts.labelled_cells[name])
                   for name, target in targets.items()}
    rise = min(1.0, step / objective.warmup_steps) if objective.warmup_steps else 1.0
    losses = total_loss(supervised, entropies, anchors, consistencies,
                        alpha=rise * objective.alpha, beta=rise * objective.beta,
                        anchor=objective.anchor, consistency=rise * objective.consistency)
    values |= {'loss': losses.total, 'supervised': losses.supervised,
               'cross_entropy': losses.cross, 'within_entropy': losses.within}
    if objective.anchor:
        values['anchor'] = losses.anchor
    if answers:
        values['consistency'] = losses.consistency
    values |= {f'entropy/{i}/{j}': value for (i, j), value in entropies.items()}
    return losses, {key: value.detach() for key, value in values.items()}


def label_shares(cells: torch.Tensor, classes: int, count: torch.Tensor) -> torch.Tensor:
    """Return the share (C,) of each class in the targets (B, h, w) of cells, of `count` cells."""
    indices = torch.arange(classes, device=cells.device)[:, None]
    return (cells.flatten() == indices).sum(1) / count.clamp(min=1)


def unlabelled_terms(embeddings: Mapping[str, torch.Tensor], labels: Mapping[str, torch.Tensor],
                     batch: Batch, counts: Counts, objective: ObjectiveSection, stride: int
                     ) -> tuple[dict[tuple[str, str], torch.Tensor], dict[str, torch.Tensor]]:
    """Return H(σ(v_ij)) by (i, j), and how much the label embeddings are in use."""
    entropies, values = {}, {}
    counted = entropy_pixels(batch.targets, objective, stride)
    for (i, j), scores in similarities(embeddings, labels, **_form(objective)).items():
        if objective.full_resolution:
            scores = upsample(scores, batch.targets.shape[1:], stride)
        valid = counted[batch.unlabelled[i]]
        entropies[i, j] = entropy(scores, valid, counts.cells[i])
        values[f'assignment/{i}/{j}'] = mean_assignment(scores, valid, counts.cells[i])
        if i == j:
            first = (scores == scores.amax(1, keepdim=True)).float()
            values[f'nearest/{i}'] = mean_shares(first / first.sum(1, keepdim=True), valid,
                                                 counts.cells[i])
    return entropies, values


def labelled_terms(embeddings: Mapping[str, torch.Tensor], labels: Mapping[str, torch.Tensor],
                   targets: Mapping[str, torch.Tensor], classes: Mapping[str, int],
                   counts: Counts, objective: ObjectiveSection, stride: int
                   ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return each domain's anchor, if it has a weight, and how its labelled cells lie."""
    anchors, values = {}, {}
    for name, pixels in embeddings.items():
        scores = similarity(pixels, labels[name], **_form(objective))
        cells = cell_targets(targets[name], stride)
        of_domain, count = classes[name], counts.labelled_cells[name].clamp(min=1)
        hits = nearest_class(scores, labels[name], of_domain) == cells
        values[f'prototype_accuracy/{name}'] = hits.sum() / count
        if objective.anchor:
            has_none = ~labels[name].view(of_domain, -1).any(1)
            cells = cells.masked_fill(torch.isin(cells, has_none.nonzero()), IGNORE_INDEX)
            anchors[name] = masked_cross_entropy(class_scores(scores, labels[name], of_domain),
                                                 cells, counts.images[name])
    return anchors, values


def _form(objective: ObjectiveSection) -> dict[str, bool | float]:
    return {'cosine': objective.similarity == 'cosine', 'temperature': objective.temperature}


def _norms(vectors: torch.Tensor) -> torch.Tensor:
    """Return the sum over images of their pixels' mean norm, of vectors (B, D, h, w)."""
    return vectors.detach().float().norm(dim=1).mean((1, 2)).sum()
