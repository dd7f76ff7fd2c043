"""
Label embeddings: what each class looks like in feature space (paper, appendices A and B).

A network trained on a domain's labelled images alone gives features; their principal components
give the D dimensions; the mean over each class's pixels, normalised, is its label embedding.
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from univseg_core.domains import Domain
from univseg_core.models.encoders import OUTPUT_STRIDE
from univseg_core.models.universal import UniversalSegmenter


def class_shares(label: torch.Tensor, classes: int) -> torch.Tensor:
    """
    Return each class's share (C, ⌈H/8⌉, ⌈W/8⌉) of the 8×8 pixels of a cell, float64.

    The label map is (H, W) integer. Void pixels, and those beyond the border, count as no
    class, so that a cell's shares may sum to less than 1.
    """
    height, width = label.shape
    one_hot = torch.stack([label == c for c in range(classes)]).double()
    padded = F.pad(one_hot, (0, -width % OUTPUT_STRIDE, 0, -height % OUTPUT_STRIDE))
    return F.avg_pool2d(padded, OUTPUT_STRIDE)


class FeatureStatistics:
    """Streaming sums over pixels of one domain, from which PCA and class means follow."""

    def __init__(self, channels: int, classes: int):
        self._count = 0
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self._products = torch.zeros(channels, channels, dtype=torch.float64)
        self._class_weights = torch.zeros(classes, dtype=torch.float64)
        self._class_sums = torch.zeros(classes, channels, dtype=torch.float64)

    def update(self, features: torch.Tensor, shares: torch.Tensor) -> None:
        """Add one image's features (C_F, h, w) and class shares (C, h, w)."""
        pixels = features.flatten(1).double().cpu()
        weights = shares.flatten(1)
        self._count += pixels.shape[1]
        self._sum += pixels.sum(1)
        self._products += pixels @ pixels.T
        self._class_weights += weights.sum(1)
        self._class_sums += weights @ pixels.T

    def principal_components(self, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the mean (C_F,) and the first `dim` principal directions (C_F, dim), float64.

        Each direction's largest component is positive, so that the result is unique.
        """
        mean = self._sum / self._count
        covariance = self._products / self._count - mean[:, None] * mean
        directions = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :dim]
        largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
        return mean, directions * largest.sign()

    def label_embeddings(self, dim: int) -> torch.Tensor:
        """Return the normalised class means (C, dim) float32; zeros for a class never seen."""
        mean, directions = self.principal_components(dim)
        class_means = self._class_sums / self._class_weights.clamp(min=1e-12)[:, None]
        # The projection is linear: that of the mean is the mean of the projections.
        projected = F.normalize((class_means - mean) @ directions, dim=1)
        return torch.where(self._class_weights[:, None] > 0, projected, 0.0).float()


@torch.no_grad()
def compute_label_embeddings(model: UniversalSegmenter, domain: Domain,
                             samples: Iterable[tuple[np.ndarray, np.ndarray]]) -> torch.Tensor:
    """
    Return one domain's label embeddings (C, D) from images and labels under a model's encoder.

    Images are (H, W, 3) uint8, labels (H, W) uint8 of the same size. One image at a time is in
    memory. The model is used in evaluation mode and left so.
    """
    model.eval()
    device = model.mean.device
    statistics = FeatureStatistics(model.encoder.out_channels, len(domain.classes))
    for image, label in samples:
        pixels = torch.from_numpy(image).to(device).permute(2, 0, 1)[None]
        features = model.features(pixels)[0]
        statistics.update(features, class_shares(torch.from_numpy(label), len(domain.classes)))
    return statistics.label_embeddings(model.spec.embedding_dim)


def absent_classes(vectors: torch.Tensor, domain: Domain) -> list[str]:
    """Return the names of the classes that have no label embedding."""
    present = vectors.view(len(domain.classes), -1).any(dim=1)
    return [name for name, here in zip(domain.classes, present.tolist(), strict=True) if not here]
