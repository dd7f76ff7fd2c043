"""The universal model: one encoder, one head a domain, one embedding for all."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn
import torch.nn.functional as F
from univseg_core.domains import Domain
from univseg_core.models.domain_evidence import DomainEvidence
from univseg_core.models.encoders import build_encoder, encoder_of, pretrained_features
from univseg_core.models.heads import Heads, LinearMap
from univseg_core.models.model_card import ModelSpec
from univseg_core.models.normalisation import Normalisation
from univseg_core.models.weights import Weights


class TrainingOutputs(NamedTuple):
    """
    What one training batch gives, by domain but for the features.

    `logits` (n, C_k, H, W) of labelled images at full resolution; `embeddings` (n, D, h, w) of
    unlabelled and `labelled_embeddings` of labelled ones; `unlabelled_logits` (n, C_k, h, w) at
    the features' resolution, `cell_logits` the same of labelled ones; `features` (B, C_F, h, w) of
    all, detached: for statistics only.
    """

    logits: dict[str, torch.Tensor]
    embeddings: dict[str, torch.Tensor]
    labelled_embeddings: dict[str, torch.Tensor]
    features: torch.Tensor
    unlabelled_logits: dict[str, torch.Tensor]
    cell_logits: dict[str, torch.Tensor]


def upsample(logits: torch.Tensor, size: Sequence[int], stride: int) -> torch.Tensor:
    """
    Return logits (B, C, ⌈H/stride⌉, ⌈W/stride⌉) at full resolution (B, C, H, W).

    Bilinear, by the stride, then cropped: never resized, so that pixels stay where they are.
    """
    if logits.device.type != 'cpu':
        full = F.interpolate(logits, scale_factor=stride, mode='bilinear', align_corners=False)
        return full[..., :size[0], :size[1]]
    # As two products of matrices: F.interpolate and its gradient take a CPU four times as long.
    exact = torch.promote_types(logits.dtype, torch.float32)  # or bf16 would round twice
    rows, columns = (_interpolation(cells, stride)[:length].to(exact)
                     for cells, length in zip(logits.shape[-2:], size, strict=True))
    with torch.autocast('cpu', enabled=False):
        return (rows @ (logits.to(exact) @ columns.T)).to(logits.dtype)


def _interpolation(cells: int, stride: int) -> torch.Tensor:
    """Return the weight (stride · cells, cells) of each cell of an axis at each of its pixels."""
    return F.interpolate(torch.eye(cells, dtype=torch.float64)[None], scale_factor=stride,
                         mode='linear', align_corners=False)[0].T


class UniversalSegmenter(nn.Module):
    """
    A shared encoder F, a head G_k for each domain, and an embedding E (paper, section 3).

    Images come as (B, 3, H, W) RGB with values 0..255, uint8 or float, and are normalised here,
    as the encoder's published weights want it where `normalisation` says nothing else. A buffer
    for each domain holds its label embeddings (C_k·K, D), zero until they are set; a row of zeros
    stands for a class that no labelled image shows. `began_with` says which ImageNet weights the
    encoder had before any training, if any; `evidence` tells which domain an image shows, once it
    has been made.

    Raises ValueError for domains that share a name, or an embedding dimension that is not in
    1..C_F.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, spec: ModelSpec, domains: Sequence[Domain],
                 normalisation: Normalisation | None = None):
        super().__init__()
        names = [domain.name for domain in domains]
        if not names or len(set(names)) != len(names):
            raise ValueError(f'expected one or more domains of different names, got {names}')
        self.spec = spec
        self.domains: dict[str, Domain] = {domain.name: domain for domain in domains}
        self.encoder = build_encoder(spec.encoder, spec.width, spec.stride)
        self.stride = spec.stride
        self.began_with: Weights | None = None
        self.evidence: DomainEvidence | None = None
        channels = self.encoder.out_channels
        if not 1 <= spec.embedding_dim <= channels:
            raise ValueError(
                f'embedding dimension {spec.embedding_dim}: expected 1..{channels}, the '
                f"encoder's channels")
        self.embedding = nn.Conv2d(channels, spec.embedding_dim, 1)
        nn.init.normal_(self.embedding.weight, std=0.01)
        assert self.embedding.bias is not None
        nn.init.zeros_(self.embedding.bias)
        # Prefixed names: a domain may be named like an attribute of nn.Module.
        for domain in domains:
            classes = len(domain.classes)
            self.add_module(f'head_{domain.name}', nn.Conv2d(channels, classes, 1))
            self.register_buffer(f'label_embeddings_{domain.name}',
                                 torch.zeros(classes, spec.embedding_dim))
        self.normalise_as(normalisation or encoder_of(spec.encoder).normalisation())

    def normalise_as(self, normalisation: Normalisation) -> None:
        """Let images be normalised so from now on."""
        self.normalisation = normalisation
        for name, values in normalisation.to_dict().items():
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1),
                                 persistent=False)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return F(x), (B, C_F, h, w) at the stride, of images (B, 3, H, W) with values 0..255."""
        return self.encoder(self.normalised(images))

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (B, 3, H, W) with values 0..255 as the encoder takes them."""
        return (images - self.mean) / self.std

    def pretrained_features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the encoder's pretrained part makes of images, as `features` does."""
        return pretrained_features(self.encoder, self.normalised(images))

    def pixel_embeddings(self, images: torch.Tensor) -> torch.Tensor:
        """Return E(F(x)), (B, D, h, w) at the stride, of images (B, 3, H, W), 0..255."""
        return self.embed(self.features(images))

    def logits(self, features: torch.Tensor, domain: str) -> torch.Tensor:
        """Return one domain's logits, (B, C_k, h, w), at the features' resolution."""
        return self.head(domain)(features)

    def head(self, domain: str) -> nn.Conv2d:
        """Return one domain's head G_k."""
        head = self.get_submodule(f'head_{domain}')
        assert isinstance(head, nn.Conv2d)
        return head

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Return the pixel embeddings E(F(x)), (B, D, h, w)."""
        return self.embedding(features)

    def label_embeddings(self, domain: str) -> torch.Tensor:
        """Return the label embeddings (C_k·K, D) of one domain, rows normalised or zero."""
        return self.get_buffer(f'label_embeddings_{domain}')

    def set_label_embeddings(self, domain: str, vectors: torch.Tensor) -> None:
        """
        Set the label embeddings (C_k·K, D) of one domain.

        Raises ValueError where the shape does not fit the domain's classes and D.
        """
        classes, dim = len(self.domains[domain].classes), self.spec.embedding_dim
        if vectors.ndim != 2 or vectors.shape[1] != dim or len(vectors) % classes \
                or not len(vectors):
            raise ValueError(
                f'label embeddings of {domain}: expected ({classes}·K, {dim}), got '
                f'{tuple(vectors.shape)}')
        old = self.label_embeddings(domain)
        setattr(self, f'label_embeddings_{domain}', vectors.detach().to(old))

    def as_arrays(self) -> Heads:
        """Return heads, embedding and label embeddings as arrays on the CPU, float32 copies."""
        def linear(layer: nn.Conv2d) -> LinearMap:
            assert layer.bias is not None
            return LinearMap(*(values.detach().cpu().float().numpy().copy()
                               for values in (layer.weight.flatten(1), layer.bias)))

        return Heads({name: linear(self.head(name)) for name in self.domains},
                     linear(self.embedding),
                     {name: self.label_embeddings(name).cpu().float().numpy().copy()
                      for name in self.domains})

    def forward(self, images: torch.Tensor, labelled: Mapping[str, slice],
                unlabelled: Mapping[str, slice]) -> TrainingOutputs:
        """
        Run one training batch (B, 3, H, W) through the encoder ONCE and split it.

        `labelled` and `unlabelled` say which rows of the batch belong to which domain.
        """
        features = self.features(images)
        size = images.shape[-2:]
        cell_logits, unlabelled_logits = (
            {name: self.logits(features[rows], name) for name, rows in part.items()}
            for part in (labelled, unlabelled))
        logits = {name: upsample(each, size, self.stride) for name, each in cell_logits.items()}
        embeddings, labelled_embeddings = (
            {name: self.embed(features[rows]) for name, rows in part.items()}
            for part in (unlabelled, labelled))
        return TrainingOutputs(logits, embeddings, labelled_embeddings, features.detach(),
                               unlabelled_logits, cell_logits)
