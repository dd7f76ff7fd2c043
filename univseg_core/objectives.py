"""
The losses of the paper's section 3, as functions of tensors.

Where several processes, or pieces of a batch, share a step, each computes its sums and divides
them by the counts of all (`counted_images`, `counted_cells`): the losses then add up to those of
the whole batch, however it is cut.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from univseg_core.domains import IGNORE_INDEX
from univseg_core.models.encoders import OUTPUT_STRIDE


@dataclass(frozen=True)
class Losses:
    """Scalars in nats: the total (Eq 5) and its terms (Eq 1, 3, 4), unweighted."""

    total: torch.Tensor
    supervised: torch.Tensor
    cross: torch.Tensor
    within: torch.Tensor


def masked_cross_entropy(logits: torch.Tensor, target: torch.Tensor,
                         images: torch.Tensor | None = None) -> torch.Tensor:
    """
    Return the supervised loss of one domain (Eq 1), a scalar in nats.

    Logits are (B, C, H, W), targets (B, H, W) integer with 255 where void. The mean over each
    image's valid pixels comes first, then that over the images that have any; 0 if none has.
    `images`, a scalar, is how many such images the whole step has: these alone unless given.
    """
    target = target.long()
    pixels = F.cross_entropy(logits, target, ignore_index=IGNORE_INDEX, reduction='none')
    valid = (target != IGNORE_INDEX).sum((1, 2))
    means = pixels.sum((1, 2)) / valid.clamp(min=1)
    images = counted_images(target) if images is None else images
    return means.sum() / images.clamp(min=1)


def counted_images(target: torch.Tensor) -> torch.Tensor:
    """Return how many of the targets (B, H, W) have a pixel that is not void, a scalar."""
    return (target != IGNORE_INDEX).flatten(1).any(1).sum()


def counted_cells(valid: torch.Tensor) -> torch.Tensor:
    """Return how many cells are valid, a scalar."""
    return valid.sum()


def similarity(embeddings: torch.Tensor, label_embeddings: torch.Tensor) -> torch.Tensor:
    """
    Return the dot products (Eq 2), (B, P, h, w), of pixel with label embeddings.

    Pixel embeddings are (B, D, h, w), label embeddings (P, D). Rows of zeros, which stand for
    classes that no labelled image shows, are left out, so that P counts the others only.
    Raises ValueError if no row is left.
    """
    present = label_embeddings[label_embeddings.any(dim=1)]
    if not len(present):
        raise ValueError('the label embeddings are all zero: they were never set')
    return F.conv2d(embeddings, present[:, :, None, None])


def entropy(scores: torch.Tensor, valid: torch.Tensor,
            cells: torch.Tensor | None = None) -> torch.Tensor:
    """
    Return the mean entropy in nats of the softmax over scores' channels (Eq 3, 4), a scalar.

    Scores are (B, P, h, w); `valid` (B, h, w) bool says which pixels count; 0 if none does.
    `cells`, a scalar, is how many count in the whole step: those of `valid` unless given.
    """
    log_probability = scores.float().log_softmax(1)
    pixels = -(log_probability.exp() * log_probability).sum(1)
    cells = counted_cells(valid) if cells is None else cells
    return (pixels * valid).sum() / cells.clamp(min=1)


def entropy_terms(embeddings: Mapping[str, torch.Tensor],
                  label_embeddings: Mapping[str, torch.Tensor],
                  valid: Mapping[str, torch.Tensor],
                  cells: Mapping[str, torch.Tensor] | None = None
                  ) -> dict[tuple[str, str], torch.Tensor]:
    """
    Return the entropy of each domain's unlabelled pixels against each domain's labels.

    The key (i, j) holds H(σ(v_ij)): within-domain where i = j, cross-domain elsewhere. `valid`
    (n, h, w) says which of a domain's unlabelled pixels count, `cells` how many do in the whole
    step (those of `valid` unless given).
    """
    return {(i, j): entropy(similarity(pixels, labels), valid[i], cells[i] if cells else None)
            for i, pixels in embeddings.items() for j, labels in label_embeddings.items()}


def total_loss(logits: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor],
               entropies: Mapping[tuple[str, str], torch.Tensor],
               alpha: float, beta: float,
               images: Mapping[str, torch.Tensor] | None = None) -> Losses:
    """
    Return L_S + α·L_cross + β·L_within (Eq 5).

    Each term is summed over domains; with more than two domains, a domain's cross-domain term
    is the mean over the others. `entropies` are those of `entropy_terms`, empty if there are no
    unsupervised terms. `images` says how many labelled images of each domain count in the whole
    step (those of `targets` unless given).
    """
    supervised = sum(masked_cross_entropy(logits[name], targets[name],
                                          images[name] if images else None) for name in logits)
    zero = torch.zeros_like(supervised)
    others = max(1, len({j for _, j in entropies}) - 1)
    within = sum((value for (i, j), value in entropies.items() if i == j), zero)
    cross = sum((value for (i, j), value in entropies.items() if i != j), zero) / others
    return Losses(supervised + alpha * cross + beta * within, supervised, cross, within)


def valid_cells(targets: torch.Tensor) -> torch.Tensor:
    """
    Return which cells (B, ⌈H/8⌉, ⌈W/8⌉) of the feature map lie on valid pixels, bool.

    Targets are (B, H, W) with 255 where void or padded. A cell stands for the pixel that its
    convolutions are centred at: every eighth.
    """
    return targets[:, ::OUTPUT_STRIDE, ::OUTPUT_STRIDE] != IGNORE_INDEX
