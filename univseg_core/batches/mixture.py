"""One stream of batches: labelled and unlabelled crops of every domain."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from univseg_core.batches.curriculum import Curriculum
from univseg_core.batches.cut_mix import cut_mix, CutMix, mixing_groups, random_box
from univseg_core.batches.stores import ImageStore
from univseg_core.batches.transforms import as_planes
from univseg_core.batches.workers import prepared
from univseg_core.datasets.folders import DataError
from univseg_core.pictures.images import ImageError


@dataclass(frozen=True)
class Batch:
    """
    Crops of all domains: the labelled ones of each, then the unlabelled ones of each.

    `images` (B, 3, S, S) uint8; `targets` (B, S, S) uint8: class indices where labelled, 0 where
    unlabelled, 255 where void or padded. `labelled` and `unlabelled` give each domain's rows.
    `faults` says which files could not be read, so that others took their place. `mixes` tells,
    where unlabelled crops are mixed with each other, how those of each domain are.
    """

    images: torch.Tensor
    targets: torch.Tensor
    labelled: Mapping[str, slice]
    unlabelled: Mapping[str, slice]
    faults: tuple[str, ...] = ()
    mixes: Mapping[str, CutMix] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> 'Batch':
        """Return the batch on a device; from pinned memory, without waiting for the copy."""
        return self.moved(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> 'Batch':
        """Return the batch in page-locked memory (what a DataLoader asks for by this name)."""
        return self.moved(lambda tensor: tensor.pin_memory())

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> 'Batch':
        """Return it with all its tensors moved."""
        return replace(self, images=move(self.images), targets=move(self.targets),
                       mixes={name: mix.moved(move) for name, mix in self.mixes.items()})


class MixtureDataset(Dataset):
    """
    Item number i is the batch of step i, decided by the seed and i alone.

    So a run that starts again at any step sees the same batches. Each epoch over a domain's
    labelled (or unlabelled) samples visits each of them once, in a new order.

    With `mix_at`, a stride, the unlabelled crops of a domain are mixed with each other, in cells
    of that stride: in pairs, the last three together where their number is odd.

    A step's crops may be shared among processes, and cut into pieces by each: they go to the `of`
    pieces in turn, those that are mixed with each other to the same. An item is a list of Batches,
    one for each of `pieces`. Raises DataError where a piece would have no crop.
    """

    def __init__(self, labelled: Mapping[str, ImageStore], unlabelled: Mapping[str, ImageStore],
                 curriculum: Curriculum, labelled_per_domain: int,
                 unlabelled_per_domain: int, seed: int, pieces: Sequence[int] = (0,),
                 of: int = 1, mix_at: int | None = None):
        self._parts = [(store, labelled_per_domain) for store in labelled.values()]
        self._parts += [(store, unlabelled_per_domain) for store in unlabelled.values()]
        self._labelled, self._unlabelled = list(labelled), list(unlabelled)
        self._curriculum = curriculum
        self._seed = seed
        self._mix_at = mix_at
        self._pieces, self._of = pieces, of
        groups: list[int] = []  # that of each row
        for part, (_, count) in enumerate(self._parts):
            of_part = (mixing_groups(count) if mix_at and part >= len(labelled)
                       else list(range(count)))
            first = groups[-1] + 1 if groups else 0
            groups += [first + group for group in of_part]
        self._groups = groups
        if groups[-1] + 1 < of:
            raise DataError(f'a batch of {groups[-1] + 1} crops (mixed ones counted as one) '
                            f'cannot be shared among {of} pieces')

    @property
    def epoch(self) -> int:
        """Return the steps in which every sample is drawn at least once."""
        return max(-(-len(store) // count) for store, count in self._parts)

    def __getitem__(self, step: int) -> list[Batch]:
        """Return this process's pieces of a step's batch."""
        return [self._piece(step, piece) for piece in self._pieces]

    def files(self, step: int) -> list[Path]:
        """Return the image files of all crops of a step, whole batch, in the order of rows."""
        return [self._parts[part][0].samples[order[offset]].image
                for part, _, order, offset in self._rows(step)]

    def _rows(self, step: int) -> Iterator[tuple[int, int, np.ndarray, int]]:
        """Yield each row's part, position in it, the epoch's order, and the place there."""
        for part, (store, count) in enumerate(self._parts):
            for position in range(step * count, (step + 1) * count):
                epoch, offset = divmod(position, len(store))
                yield part, position, _order(self._seed, part, epoch, len(store)), offset

    def _piece(self, step: int, piece: int) -> Batch:
        # By part:
        crops: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in self._parts]
        groups: list[list[int]] = [[] for _ in self._parts]
        boxes: list[list[np.ndarray]] = [[] for _ in self._parts]
        faults: list[str] = []
        augmentation = self._curriculum.at(step)
        for group, (part, position, order, offset) in zip(self._groups, self._rows(step),
                                                          strict=True):
            if group % self._of != piece:
                continue
            item = self._readable(self._parts[part][0], order, offset, faults)
            crops[part].append(augmentation(*item, self._generator(part, position, 1)))
            groups[part].append(group)
            if self._mix_at and part >= len(self._labelled):
                side = -(-augmentation.crop_size // self._mix_at)
                boxes[part].append(random_box((side, side),
                                              self._generator(part, position, 2)))
        images, targets = map(np.stack, zip(*chain(*crops), strict=True))
        stops = np.cumsum([len(of_part) for of_part in crops]).tolist()
        rows = [slice(stop - len(of_part), stop)
                for stop, of_part in zip(stops, crops, strict=True)]
        count = len(self._labelled)
        labelled = dict(zip(self._labelled, rows[:count], strict=True))
        unlabelled = dict(zip(self._unlabelled, rows[count:], strict=True))
        mixes = {}
        if self._mix_at:
            for part, (name, own) in enumerate(unlabelled.items(), count):
                images[own], targets[own], mixes[name] = cut_mix(
                    images[own], targets[own], boxes[part], groups[part], self._mix_at)
        return Batch(as_planes(images), torch.from_numpy(targets), labelled, unlabelled,
                     tuple(faults), mixes)

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, *key))

    def _readable(self, store: ImageStore, order: np.ndarray, offset: int,
                  faults: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the first of an epoch's samples, from its place `offset` on, that can be read."""
        errors = []
        for place in range(offset, offset + len(order)):
            try:
                item = store[order[place % len(order)]]
            except (DataError, ImageError) as error:
                errors.append(error)
            else:
                faults += map(str, errors)
                return item
        raise errors[0]

    def batches(self, first: int, stop: int, workers: int,
                pin_memory: bool = False) -> Generator[list[Batch], None, None]:
        """
        Return the items of steps first … stop − 1, prepared by `workers` processes ahead of use.

        Raises the error of a store of which no sample can be read, and what `prepared` raises.
        Whoever does not take all items closes it, which ends the workers.
        """
        return prepared(self.__getitem__, range(first, stop), workers, pin_memory)


@lru_cache(maxsize=64)
def _order(seed: int, part: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, part, epoch)).permutation(count)
