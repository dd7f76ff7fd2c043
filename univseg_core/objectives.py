"""The losses of the paper's section 3, as functions of tensors."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from univseg_core.domains import IGNORE_INDEX
from univseg_core.models.drn import OUTPUT_STRIDE


@dataclass(frozen=True)
class Losses:
    """Scalars in nats: the total (Eq 5) and its terms (Eq 1, 3, 4), unweighted."""

    total: torch.Tensor
    supervised: torch.Tensor
    cross: torch.Tensor
    within: torch.Tensor


def masked_cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """
    Return the supervised loss of one domain (Eq 1), a scalar in nats.

    Logits are (B, C, H, W), targets (B, H, W) integer with 255 where void. The mean over each
    image's valid pixels comes first, then that over the images that have any; 0 if none has.
    """
    target = target.long()
    pixels = F.cross_entropy(logits, target, ignore_index=IGNORE_INDEX, reduction='none')
    valid = (target != IGNORE_INDEX).sum((1, 2))
    images = pixels.sum((1, 2)) / valid.clamp(min=1)
    return images.sum() / (valid > 0).sum().clamp(min=1)


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


def entropy(scores: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """
    Return the mean entropy in nats of the softmax over scores' channels (Eq 3, 4), a scalar.

    Scores are (B, P, h, w); `valid` (B, h, w) bool says which pixels count; 0 if none does.
    """
    log_probability = scores.float().log_softmax(1)
    pixels = -(log_probability.exp() * log_probability).sum(1)
    return (pixels * valid).sum() / valid.sum().clamp(min=1)


def entropy_terms(embeddings: Mapping[str, torch.Tensor],
                  label_embeddings: Mapping[str, torch.Tensor],
                  valid: Mapping[str, torch.Tensor]) -> dict[tuple[str, str], torch.Tensor]:
    """
    Return the entropy of each domain's unlabelled pixels against each domain's labels.

    The key (i, j) holds H(σ(v_ij)): within-domain where i = j, cross-domain elsewhere. `valid`
    (n, h, w) says which of a domain's unlabelled pixels count.
    """
    return {(i, j): entropy(similarity(pixels, labels), valid[i])
            for i, pixels in embeddings.items() for j, labels in label_embeddings.items()}


def total_loss(logits: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor],
               entropies: Mapping[tuple[str, str], torch.Tensor],
               alpha: float, beta: float) -> Losses:
    """
    Return L_S + α·L_cross + β·L_within (Eq 5).

    Each term is summed over domains; with more than two domains, a domain's cross-domain term
    is the mean over the others. `entropies` are those of `entropy_terms`, empty if there are no
    unsupervised terms.
    """
    supervised = sum(masked_cross_entropy(logits[name], targets[name]) for name in logits)
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
