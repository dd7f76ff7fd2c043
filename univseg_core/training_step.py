"""One training step: a batch, in one or more pieces → losses → gradients."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning.fabric import Fabric
import torch
from torch import nn
from univseg_core.config import ObjectiveSection
from univseg_core.data.mixture import Batch
from univseg_core.objectives import (
    counted_cells,
    counted_images,
    entropy_terms,
    Losses,
    total_loss,
    valid_cells,
)
from univseg_core.processes import summed


@dataclass(frozen=True)
class Counts:
    """
    What the sums of a step are divided by: its counts over all pieces in all processes.

    Scalars: the labelled images and the unlabelled cells of each domain that are not void
    throughout, and the crops of the step, of which `unlabelled_crops` without labels.
    """

    images: Mapping[str, torch.Tensor]
    cells: Mapping[str, torch.Tensor]
    crops: torch.Tensor
    unlabelled_crops: torch.Tensor


def step_counts(fabric: Fabric, pieces: Sequence[Batch]) -> Counts:
    """Return the counts of a step, of which `pieces` are this process's share."""
    counts: dict[tuple[str, str], torch.Tensor] = defaultdict(lambda: torch.tensor(0))
    for batch in pieces:
        cells = valid_cells(batch.targets)
        counts['crops', ''] = counts['crops', ''] + len(batch.images)
        for name, rows in batch.labelled.items():
            counts['images', name] = counts['images', name] + counted_images(batch.targets[rows])
        for name, rows in batch.unlabelled.items():
            counts['cells', name] = counts['cells', name] + counted_cells(cells[rows])
            counts['unlabelled', ''] = counts['unlabelled', ''] + len(cells[rows])
    totals = {key: value.float() for key, value in summed(fabric, counts).items()}
    return Counts({name: n for (kind, name), n in totals.items() if kind == 'images'},
                  {name: n for (kind, name), n in totals.items() if kind == 'cells'},
                  totals['crops', ''], totals.get(('unlabelled', ''), torch.tensor(0)))


def forward_and_backward(fabric: Fabric, model: nn.Module, pieces: Sequence[Batch],
                         objective: ObjectiveSection, step: int) -> dict[str, torch.Tensor]:
    """
    Add the gradients of a step to a model's parameters; return this process's share of its values.

    Summed over the processes, the values are those of the whole batch: `loss` and its terms, the
    entropy of each pair of domains, `feature_norm`, `embedding_norm` and `images` (crops).
    """
    counts = step_counts(fabric, pieces)
    values: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros((), device=fabric.device))
    for i, batch in enumerate(pieces):
        batch = batch.to(fabric.device)
        with fabric.no_backward_sync(model, enabled=i < len(pieces) - 1):
            losses, share = batch_losses(model, batch, counts, objective, step)
            # Gradients are averaged over the processes; the losses are to be added up.
            fabric.backward(losses.total * fabric.world_size)
        for key, value in share.items():
            values[key] = values[key] + value
    return dict(values)


def batch_losses(model: nn.Module, batch: Batch, counts: Counts, objective: ObjectiveSection,
                 step: int) -> tuple[Losses, dict[str, torch.Tensor]]:
    """Return a batch's share of a step's losses, and of the values that are logged."""
    logits, embeddings, features = model(batch.images, batch.labelled, batch.unlabelled)
    cells = valid_cells(batch.targets)
    entropies = entropy_terms(
        embeddings, {name: model.label_embeddings(name) for name in batch.labelled},
        {name: cells[rows] for name, rows in batch.unlabelled.items()}, counts.cells)
    rise = min(1.0, step / objective.warmup_steps) if objective.warmup_steps else 1.0
    targets = {name: batch.targets[rows] for name, rows in batch.labelled.items()}
    losses = total_loss(logits, targets, entropies, rise * objective.alpha,
                        rise * objective.beta, counts.images)
    values = {'loss': losses.total, 'supervised': losses.supervised,
              'cross_entropy': losses.cross, 'within_entropy': losses.within,
              'feature_norm': _norms(features) / counts.crops,
              'embedding_norm': sum(map(_norms, embeddings.values()), torch.zeros(()))
              / counts.unlabelled_crops.clamp(min=1),
              'images': torch.tensor(float(len(features)))}
    values |= {f'entropy/{i}/{j}': value for (i, j), value in entropies.items()}
    return losses, {key: value.detach() for key, value in values.items()}


def _norms(vectors: torch.Tensor) -> torch.Tensor:
    """Return the sum over images of their pixels' mean norm, of vectors (B, D, h, w)."""
    return vectors.detach().float().norm(dim=1).mean((1, 2)).sum()
