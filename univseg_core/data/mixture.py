"""One stream of batches: labelled and unlabelled crops of every domain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
import signal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from univseg_core.data.folders import read_sample, Sample
from univseg_core.data.transforms import Augmentation
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.images import fit_size, resize_image, resize_label

CACHE_LIMIT = 1_000_000_000
"""Bytes of decoded images up to which the samples of one store are kept in memory."""


@dataclass(frozen=True)
class Batch:
    """
    Crops of all domains: the labelled ones of each, then the unlabelled ones of each.

    `images` (B, 3, S, S) uint8; `targets` (B, S, S) uint8: class indices where labelled, 0 where
    unlabelled, 255 where void or padded. `labelled` and `unlabelled` give each domain's rows.
    """

    images: torch.Tensor
    targets: torch.Tensor
    labelled: Mapping[str, slice]
    unlabelled: Mapping[str, slice]


class ImageStore:
    """Decoded samples of one domain at the training size, kept while they are few."""

    def __init__(self, samples: Sequence[Sample], domain: Domain, image_size: int | None):
        self.samples = list(samples)
        self._domain = domain
        self._image_size = image_size
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an image (H, W, 3) uint8 and its label (H, W) uint8, zeros where unlabelled."""
        if index in self._cache:
            return self._cache[index]
        image, label = read_sample(self.samples[index], self._domain)
        size = fit_size(*label.shape, self._image_size)
        item = resize_image(image, *size), resize_label(label, *size)
        bytes_needed = sum(array.nbytes for array in item)
        if self._cached_bytes + bytes_needed <= CACHE_LIMIT:
            self._cache[index] = item
            self._cached_bytes += bytes_needed
        return item


class MixtureDataset(Dataset):
    """
    Item number i is the batch of step i, decided by the seed and i alone.

    So a run that starts again at any step sees the same batches. Each epoch over a domain's
    labelled (or unlabelled) samples visits each of them once, in a new order.
    """

    def __init__(self, labelled: Mapping[str, ImageStore], unlabelled: Mapping[str, ImageStore],
                 augmentation: Augmentation, labelled_per_domain: int,
                 unlabelled_per_domain: int, seed: int):
        parts = [(name, store, labelled_per_domain) for name, store in labelled.items()]
        parts += [(name, store, unlabelled_per_domain) for name, store in unlabelled.items()]
        self._parts = parts
        self._augmentation = augmentation
        self._seed = seed
        stops = np.cumsum([count for _, _, count in parts]).tolist()
        rows = [slice(stop - count, stop)
                for stop, (_, _, count) in zip(stops, parts, strict=True)]
        self._labelled_rows = dict(zip(labelled, rows[:len(labelled)], strict=True))
        self._unlabelled_rows = dict(zip(unlabelled, rows[len(labelled):], strict=True))

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of a step."""
        crops = []
        for part, (_, store, count) in enumerate(self._parts):
            for position in range(step * count, (step + 1) * count):
                epoch, offset = divmod(position, len(store))
                order = np.random.default_rng((self._seed, part, epoch)).permutation(len(store))
                generator = np.random.default_rng((self._seed, part, position, 1))
                crops.append(self._augmentation(*store[order[offset]], generator))
        images, targets = zip(*crops, strict=True)
        # Planes, not channels_last: PyTorch's CPU convolutions of few channels are not safe there.
        planes = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        return Batch(planes, torch.from_numpy(np.stack(targets)),
                     self._labelled_rows, self._unlabelled_rows)

    def batches(self, first: int, stop: int, workers: int) -> Iterator[Batch]:
        """Return the batches of steps first … stop − 1, prepared by `workers` processes."""
        loader = DataLoader(_ErrorsAsItems(self), batch_size=None, sampler=range(first, stop),
                            num_workers=workers, collate_fn=_unchanged,
                            worker_init_fn=_ignore_interrupts)
        for item in loader:
            if isinstance(item, UnivsegError):
                raise item
            yield item


class _ErrorsAsItems(Dataset):
    """Hands a file's fault on as an item: a worker would wrap it into its own traceback."""

    def __init__(self, mixture: MixtureDataset):
        self._mixture = mixture

    def __getitem__(self, step: int) -> Batch | UnivsegError:
        """Return the batch of a step, or the error that it met."""
        try:
            return self._mixture[step]
        except UnivsegError as error:
            return error


def _unchanged(item: Batch | UnivsegError) -> Batch | UnivsegError:
    return item


def _ignore_interrupts(worker: int) -> None:
    # Ctrl-C reaches every process of the terminal; the training's own ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
