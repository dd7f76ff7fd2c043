"""What follows a model's encoder: heads, embedding, label embeddings; as arrays, all linear."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from univseg_core.domains import Domain
from univseg_core.machine.processors import one_blas_thread


class LinearMap(NamedTuple):
    """
    A 1×1 convolution of features: `weight` (N, C_F) float32 and `bias` (N,) float32.

    Both are arrays of NumPy, or tensors on the device where the features lie.
    """

    weight: Any
    bias: Any

    def __call__(self, features: Any) -> Any:
        """Return (N, h, w) of features (C_F, h, w), where they lie."""
        with one_blas_thread():
            found = self.weight @ features.reshape(len(features), -1)
        found += self.bias[:, None]
        return found.reshape(-1, *features.shape[1:])


@dataclass(frozen=True)
class Heads:
    """
    The heads G_k and the label embeddings (C_k·K, D) of each domain, and the embedding E.

    All float32; the names of `tensors` are those of a model file.
    """

    heads: dict[str, LinearMap]
    embedding: LinearMap
    label_embeddings: dict[str, np.ndarray]

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all of it by name."""
        maps = {'embedding': self.embedding,
                **{f'head_{name}': head for name, head in self.heads.items()}}
        return {
            **{f'{key}.{part}': value for key, each in maps.items()
               for part, value in each._asdict().items()},
            **{f'label_embeddings_{name}': vectors
               for name, vectors in self.label_embeddings.items()}}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], domains: Sequence[Domain],
                     channels: int) -> 'Heads':
        """
        Return them from what `tensors` gives, for features of so many channels.

        Raises KeyError for one that is missing, ValueError for one that is no finite float32 or
        does not fit the domains' classes and the others.
        """
        def linear(key: str, outputs: int) -> LinearMap:
            return LinearMap(checked(tensors, f'{key}.weight', (outputs, channels)),
                             checked(tensors, f'{key}.bias', (outputs,)))

        dim = len(tensors['embedding.bias'])
        embedding = linear('embedding', dim)
        heads, label_embeddings = {}, {}
        for domain in domains:
            classes, key = len(domain.classes), f'label_embeddings_{domain.name}'
            heads[domain.name] = linear(f'head_{domain.name}', classes)
            rows = len(tensors[key])
            if not rows or rows % classes:
                raise ValueError(f'{key}: {rows} rows for {classes} classes')
            label_embeddings[domain.name] = checked(tensors, key, (rows, dim))
        return cls(heads, embedding, label_embeddings)


def absent_classes(vectors: np.ndarray, domain: Domain) -> list[str]:
    """Return the classes of a domain that have no label embedding in (C·K, D) `vectors`."""
    absent = np.flatnonzero(~vectors.reshape(len(domain.classes), -1).any(axis=1))
    return [domain.classes[index] for index in absent]


def checked(tensors: Mapping[str, np.ndarray], key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a tensor; raise KeyError without it, ValueError if no finite float32 of the shape."""
    values = tensors[key]
    if values.shape != shape or values.dtype != np.float32 or not np.isfinite(values).all():
        raise ValueError(f'{key}: expected {shape} finite float32 values, got {values.shape} of '
                         f'{values.dtype}')
    return values
