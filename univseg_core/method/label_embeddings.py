"""
Label embeddings: what each class looks like in feature space (paper, appendices A and B).

A network trained on a domain's labelled images alone gives features; their principal components
give the D dimensions; the mean over each class's pixels, or K-means over them, normalised, are
its label embeddings. Later, they are made of the pixel embeddings E(F(x)) in the same way.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from univseg_core.domains import Domain
from univseg_core.method.pixel_statistics import (
    class_shares,
    ClassMeans,
    ClassSamples,
    LabelEmbeddingSums,
    PrincipalComponents,
    Projection,
)
from univseg_core.models.encoders import pretrained_channels
from univseg_core.models.universal import UniversalSegmenter

Samples = Iterable[tuple[np.ndarray, np.ndarray]]
"""Images (H, W, 3) uint8 and labels (H, W) uint8 of the same size; one at a time is in memory."""


def default_basis(weights: str) -> str:
    """Return the default of label_embeddings.basis, by what the encoder begins with."""
    return 'per_domain' if weights == 'none' else 'pretrained'


def principal_label_embeddings(model: UniversalSegmenter, samples: Mapping[str, Samples],
                               dim: int, embeddings_per_class: int = 1, seed: int = 0,
                               pretrained: bool = False
                               ) -> tuple[dict[str, torch.Tensor], Projection]:
    """
    Return label embeddings (C·K, dim) float32 of a model's domains from its encoder's features.

    The `dim` principal components, which are returned, too, are those of all `samples` together.
    Rows are ordered by class, `embeddings_per_class` (K) of each; those of a class never seen are
    zero, those of one with fewer than K cells its mean. With `pretrained`, the features are those
    of the encoder's pretrained part alone, which means something before any training. The model is
    left in evaluation mode.
    """
    features_of, channels = model.features, model.encoder.out_channels
    if pretrained:
        features_of, channels = model.pretrained_features, pretrained_channels(model.encoder)
    components, statistics = PrincipalComponents(channels), {}
    for name, images in samples.items():
        statistics[name] = _statistics(len(model.domains[name].classes), channels,
                                       embeddings_per_class, seed)
        for features, shares in _cells(model, name, images, features_of):
            components.update(features)
            statistics[name].update(features, shares)
    projection = components.projection(dim)
    return {name: _normalised(of_domain.centroids(projection))
            for name, of_domain in statistics.items()}, projection


def embedded_label_embeddings(model: UniversalSegmenter, samples: Mapping[str, Samples],
                              embeddings_per_class: int = 1, seed: int = 0
                              ) -> dict[str, torch.Tensor]:
    """
    Return label embeddings (C·K, D) float32 of a model's domains from its pixel embeddings.

    They are the normalised class means, or K-means' centroids, of E(F(x)), ordered and masked as
    by `principal_label_embeddings`. The model is left in evaluation mode.
    """
    vectors = {}
    for name, images in samples.items():
        statistics = _statistics(len(model.domains[name].classes), model.spec.embedding_dim,
                                 embeddings_per_class, seed)
        for embeddings, shares in _cells(model, name, images, model.pixel_embeddings):
            statistics.update(embeddings, shares)
        vectors[name] = _normalised(statistics.centroids())
    return vectors


def label_embedding_sums(model: UniversalSegmenter, name: str, images: Samples
                         ) -> LabelEmbeddingSums:
    """
    Return what an update of a domain's label embeddings (Eq 7) needs, of some of its images.

    The model is left in evaluation mode.
    """
    sums = LabelEmbeddingSums(model.label_embeddings(name), len(model.domains[name].classes))
    for embeddings, shares in _cells(model, name, images, model.pixel_embeddings):
        sums.update(embeddings, shares)
    return sums


def start_embedding(model: UniversalSegmenter, projection: Projection) -> None:
    """Let a model's E be a projection of its encoder's features; in place."""
    weight = projection.directions.T[:, :, None, None]
    assert model.embedding.bias is not None
    with torch.no_grad():
        model.embedding.weight.copy_(weight)
        model.embedding.bias.copy_(-projection.mean @ projection.directions)


def repeated_classes(vectors: torch.Tensor, domain: Domain) -> list[str]:
    """Return the names of the classes whose K > 1 label embeddings are one and the same."""
    per_class = vectors.view(len(domain.classes), -1, vectors.shape[1])
    same = (per_class == per_class[:, :1]).flatten(1).all(1) & vectors.view(
        len(domain.classes), -1).any(1)
    return [name for name, one in zip(domain.classes, same.tolist(), strict=True)
            if one and per_class.shape[1] > 1]


def _statistics(classes: int, channels: int, embeddings_per_class: int, seed: int
                ) -> ClassMeans | ClassSamples:
    if embeddings_per_class == 1:
        return ClassMeans(classes, channels)
    return ClassSamples(classes, channels, embeddings_per_class, seed)


@torch.no_grad()
def _cells(model: UniversalSegmenter, name: str, images: Samples,
           vectors_of: Callable[[torch.Tensor], torch.Tensor]
           ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield each image's cells: vectors (channels, n) and class shares (C, n), float64."""
    model.eval()
    classes = len(model.domains[name].classes)
    for image, label in images:
        pixels = torch.from_numpy(image).to(model.mean.device).permute(2, 0, 1)[None]
        yield (vectors_of(pixels)[0].flatten(1).double().cpu(),
               class_shares(torch.from_numpy(label), classes, model.stride).flatten(1))


def _normalised(centroids: torch.Tensor) -> torch.Tensor:
    """Return centroids (C, K, D) as normalised rows (C·K, D) float32, zero where NaN."""
    rows = F.normalize(centroids.flatten(0, 1), dim=1)
    return rows.nan_to_num(0).float()
