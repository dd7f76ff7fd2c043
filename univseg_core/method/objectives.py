"""
The formulas of the paper's section 3, as functions of tensors; losses.py makes terms of them.

Where several processes, or pieces of a batch, share a step, each computes its sums and divides
them by the counts of all (`counted_images`, valid cells): the losses then add up to those of
the whole batch, however it is cut.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from univseg_core.domains import IGNORE_INDEX


def masked_cross_entropy(logits: torch.Tensor, target: torch.Tensor,
                         images: torch.Tensor | None = None,
                         class_weights: torch.Tensor | None = None) -> torch.Tensor:
    """
    Return the supervised loss of one domain (Eq 1), a scalar in nats.

    Logits are (B, C, H, W), targets (B, H, W) integer with 255 where void. The mean over each
    image's valid pixels comes first, then that over the images that have any; 0 if none has.
    `images`, a scalar, is how many such images the whole step has: these alone unless given.
    `class_weights` (C,) multiply the pixels of each class.
    """
    target = target.long()
    pixels = F.cross_entropy(logits, target, class_weights, ignore_index=IGNORE_INDEX,
                             reduction='none')
    valid = (target != IGNORE_INDEX).sum((1, 2))
    means = pixels.sum((1, 2)) / valid.clamp(min=1)
    images = counted_images(target) if images is None else images
    return means.sum() / images.clamp(min=1)


def consistency_loss(logits: torch.Tensor, probabilities: torch.Tensor, valid: torch.Tensor,
                     cells: torch.Tensor | None = None) -> torch.Tensor:
    """
    Return the cross-entropy of cells against a teacher's probabilities, a scalar in nats.

    Both are (B, C, h, w); `valid` (B, h, w) bool says which cells count. Their sum is divided by
    `cells`, a scalar, how many count in the whole step: those of `valid` unless given.
    """
    cells = valid.sum() if cells is None else cells
    losses = F.cross_entropy(logits.float(), probabilities, reduction='none')
    return (losses * valid).sum() / cells.clamp(min=1)


def distillation_loss(logits: torch.Tensor, probabilities: torch.Tensor, valid: torch.Tensor,
                      temperature: float, cells: torch.Tensor | None = None) -> torch.Tensor:
    """
    Return T² · KL(a teacher's probabilities ‖ softmax(logits / T)) of cells, a scalar in nats.

    The arguments are those of `consistency_loss`; the probabilities are the teacher's at the
    temperature T. Its square keeps the size of the gradient (Hinton, Vinyals and Dean, 2015).
    """
    cells = valid.sum() if cells is None else cells
    its = (logits.float() / temperature).log_softmax(1)
    divergence = F.kl_div(its, probabilities, reduction='none').sum(1)
    return temperature ** 2 * (divergence * valid).sum() / cells.clamp(min=1)


def counted_images(target: torch.Tensor) -> torch.Tensor:
    """Return how many of the targets (B, H, W) have a pixel that is not void, a scalar."""
    return (target != IGNORE_INDEX).flatten(1).any(1).sum()


def similarity(embeddings: torch.Tensor, label_embeddings: torch.Tensor, *, cosine: bool = False,
               temperature: float = 1.0) -> torch.Tensor:
    """
    Return the similarities (Eq 2), (B, P, h, w), of pixel with label embeddings.

    Pixel embeddings are (B, D, h, w), label embeddings (P, D) of norm 1. The dot product, or with
    `cosine` that of normalised pixel embeddings, is divided by `temperature`. Rows of zeros, which
    stand for classes that no labelled image shows, are left out, so that P counts the others only.
    Raises ValueError if no row is left.
    """
    present = label_embeddings[label_embeddings.any(dim=1)]
    if not len(present):
        raise ValueError('the label embeddings are all zero: they were never set')
    if cosine:
        embeddings = F.normalize(embeddings.float(), dim=1)
    return F.conv2d(embeddings, present[:, :, None, None]) / temperature


def similarities(embeddings: Mapping[str, torch.Tensor],
                 label_embeddings: Mapping[str, torch.Tensor], *, cosine: bool = False,
                 temperature: float = 1.0) -> dict[tuple[str, str], torch.Tensor]:
    """Return v_ij by (i, j): the similarity of domain i's pixels with domain j's labels."""
    return {(i, j): similarity(pixels, labels, cosine=cosine, temperature=temperature)
            for i, pixels in embeddings.items() for j, labels in label_embeddings.items()}


def class_scores(scores: torch.Tensor, label_embeddings: torch.Tensor,
                 classes: int) -> torch.Tensor:
    """
    Return scores (B, C, h, w) whose softmax is each class's probability.

    `scores` (B, P, h, w) are those of `similarity`. A class's probability is the sum of those of
    its K label embeddings; it is 0 (a score of −inf) for a class that has none.
    """
    present = label_embeddings.view(classes, -1).any(1)
    per_class = scores.unflatten(1, (-1, len(label_embeddings) // classes)).logsumexp(2)
    result = scores.new_full((len(scores), classes, *scores.shape[2:]), -torch.inf)
    result[:, present] = per_class
    return result


def nearest_class(scores: torch.Tensor, label_embeddings: torch.Tensor,
                  classes: int) -> torch.Tensor:
    """
    Return the class (B, h, w) of the nearest label embedding, int64.

    `scores` (B, P, h, w) are those of `similarity`; any of a class's K stands for the class.
    """
    present = label_embeddings.view(classes, -1).any(1).nonzero().flatten()
    return present[scores.argmax(1) // (len(label_embeddings) // classes)]


def entropy(scores: torch.Tensor, valid: torch.Tensor,
            cells: torch.Tensor | None = None) -> torch.Tensor:
    """
    Return the mean entropy in nats of the softmax over scores' channels (Eq 3, 4), a scalar.

    Scores are (B, P, h, w); `valid` (B, h, w) bool says which pixels count; 0 if none does.
    `cells`, a scalar, is how many count in the whole step: those of `valid` unless given.
    """
    log_probability = scores.float().log_softmax(1)
    pixels = -(log_probability.exp() * log_probability).sum(1)
    cells = valid.sum() if cells is None else cells
    return (pixels * valid).sum() / cells.clamp(min=1)


@torch.no_grad()
def mean_assignment(scores: torch.Tensor, valid: torch.Tensor,
                    cells: torch.Tensor | None = None) -> torch.Tensor:
    """
    Return the mean (P,) of the softmax over scores' channels: how much each label is in use.

    The arguments are those of `entropy`; zeros if no pixel counts.
    """
    return mean_shares(scores.float().softmax(1), valid, cells)


def mean_shares(probabilities: torch.Tensor, valid: torch.Tensor,
                cells: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean (P,) of probabilities (B, P, h, w) over the pixels that count."""
    cells = valid.sum() if cells is None else cells
    return (probabilities * valid[:, None]).sum((0, 2, 3)) / cells.clamp(min=1)


def valid_cells(targets: torch.Tensor, stride: int) -> torch.Tensor:
    """
    Return which cells (B, ⌈H/stride⌉, ⌈W/stride⌉) of the features lie on valid pixels, bool.

    Targets are (B, H, W) with 255 where void or padded.
    """
    return cell_targets(targets, stride) != IGNORE_INDEX


def cell_targets(targets: torch.Tensor, stride: int) -> torch.Tensor:
    """
    Return the targets (B, ⌈H/stride⌉, ⌈W/stride⌉) of the features' cells, of (B, H, W).

    A cell stands for the pixel that its convolutions are centred at: every eighth, at stride 8.
    """
    return targets[:, ::stride, ::stride]
