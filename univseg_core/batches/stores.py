"""Decoded images at the training size: held in memory where they fit, else read each time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
import logging
from pathlib import Path

import numpy as np
from univseg_core.batches.dataset import DomainData
from univseg_core.batches.faults import FaultCount, named, seems_whole
from univseg_core.datasets.folders import DataError, read_sample, Sample
from univseg_core.domains import Domain
from univseg_core.machine.resources import available_memory, in_threads
from univseg_core.pictures.images import fit_size, ImageError, resize_image, resize_label

MEMORY_SHARE = 0.5
"""Share of the available memory that the decoded images of a run may take."""

Arrays = tuple[np.ndarray, np.ndarray | None]
"""An image (H, W, 3) uint8 and its label (H, W) uint8, None where unlabelled."""

log = logging.getLogger(__name__)


class ImageStore:
    """
    Some samples of one domain as decoded images at the training size.

    `memory` has the image and label of those that are held, by the image's path; the others are
    read at each access, but for those `left_out` because they could not be.
    """

    def __init__(self, samples: Sequence[Sample], domain: Domain, image_size: int | None,
                 memory: dict[Path, Arrays] | None = None):
        self.samples = list(samples)
        self.memory = {} if memory is None else memory
        self.left_out: dict[Path, DataError | ImageError] = {}
        self._domain = domain
        self._image_size = image_size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Return an image (H, W, 3) uint8 and its label (H, W) uint8, zeros where unlabelled.

        Raises ImageError or DataError for files that cannot be used.
        """
        sample = self.samples[index]
        if sample.image in self.left_out:
            raise self.left_out[sample.image]
        image, label = self.memory.get(sample.image) or self.read(sample)
        if sample.label is None:  # though the memory may have one
            label = np.zeros(image.shape[:2], np.uint8)
        assert label is not None
        return image, label

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (self[index] for index in range(len(self)))

    def read(self, sample: Sample) -> Arrays:
        """Return an image and its label (None where unlabelled) from their files."""
        image, label = read_sample(sample, self._domain)
        height, width = label.shape
        size = fit_size(height, width, self._image_size)
        return (resize_image(image, *size),
                None if sample.label is None else resize_label(label, *size))

    def __getstate__(self) -> dict:
        # Forked workers share the memory. Those that are started afresh would each get a copy
        # of it: they read the files instead.
        return {**self.__dict__, 'memory': {}}


@dataclass(frozen=True)
class Stores:
    """The labelled images of every domain and the unlabelled ones of each that has any."""

    labelled: dict[str, ImageStore]
    unlabelled: dict[str, ImageStore]
    in_memory: bool

    def faults(self, domains: Iterable[str]) -> list[str]:
        """Return why unlabelled images of some domains were left out, in words that name each."""
        return [str(error) for name in domains if name in self.unlabelled
                for error in self.unlabelled[name].left_out.values()]


def prepare_stores(data: Mapping[str, DomainData], image_size: int | None, *,
                   unlabelled: bool = True, processes: int = 1,
                   progress: bool = True) -> Stores:
    """
    Return a run's training images, decoded into memory now if they fit, and log the decision.

    They fit if those of all `processes` training processes on this machine need at most half of
    the available memory. An image that is both labelled and unlabelled is held once. Unlabelled
    ones that cannot be read are left out and named: all of them where all are decoded, else those
    whose first and last bytes tell. `unlabelled` says whether those are wanted.

    Raises DataError where too many cannot be read, or none of a domain can.
    """
    stores, to_hold = Stores({}, {}, in_memory=False), []
    for name, d in data.items():
        store = stores.labelled[name] = ImageStore(d.labelled, d.domain, image_size)
        to_hold.append((store, d.labelled))
        if unlabelled and d.unlabelled:
            held = {sample.image for sample in d.labelled}
            store = stores.unlabelled[name] = ImageStore(d.unlabelled, d.domain, image_size,
                                                         store.memory)
            to_hold.append((store, [sample for sample in dict.fromkeys(d.unlabelled)
                                    if sample.image not in held]))
    in_memory = _hold(to_hold, processes, progress)
    further = [part for part in to_hold if part[0] in stores.unlabelled.values()]
    _leave_out_unreadable(further, in_memory, progress)
    for name, store in stores.unlabelled.items():
        if store.left_out:
            log.warning('%s: %d of %d unlabelled images cannot be read, and are left out:%s', name,
                        len(store.left_out), len(store), named(list(map(str,
                                                               store.left_out.values()))))
        if all(sample.image in store.left_out for sample in store.samples):
            raise DataError(f'domains.{name}: none of its unlabelled images can be read')
    count = FaultCount(len({sample.image for _, samples in to_hold for sample in samples}))
    count.add(stores.faults(data))
    count.check()
    return replace(stores, in_memory=in_memory)


def _leave_out_unreadable(parts: Sequence[tuple[ImageStore, list[Sample]]], in_memory: bool,
                          progress: bool) -> None:
    """Note in some stores which samples cannot be read, as far as that is cheap to tell."""
    doubtful = [(store, sample) for store, samples in parts for sample in samples
                if sample.image not in store.memory]
    if not in_memory:
        whole = in_threads(lambda task: seems_whole(task[1].image), doubtful,
                           'check unlabelled', progress)
        doubtful = [task for task, is_whole in zip(doubtful, whole, strict=True) if not is_whole]
    for (store, sample), found in zip(doubtful, in_threads(
            _read, doubtful, 'read doubtful', progress and not in_memory), strict=True):
        if isinstance(found, Exception):
            store.left_out[sample.image] = found


def _hold(parts: Sequence[tuple[ImageStore, list[Sample]]], processes: int,
          progress: bool) -> bool:
    """Decode the samples into their stores' memory if they fit; return whether they do."""
    available = available_memory()
    limit = MEMORY_SHARE * available / processes
    tasks = [(store, sample) for store, samples in parts for sample in samples]
    need, sizes = _estimate(parts)
    fits = need <= limit
    log.info('images: %d decoded at %s need %s%.2f GB of %.1f GB available memory: %s',
             len(tasks), sizes, f'{processes} × ' if processes > 1 else '', need / 1e9,
             available / 1e9, 'kept in memory' if fits else 'read from disk every time')
    if not fits:
        return False
    used = 0
    for (store, sample), arrays in zip(
            tasks, in_threads(_read, tasks, 'decode', progress), strict=False):
        if not isinstance(arrays, Exception):
            store.memory[sample.image] = arrays
            used += _bytes(arrays)
        if used > limit:  # the images differ much in size
            for other, _ in parts:
                other.memory.clear()
            log.info('images: more than %.2f GB already: read from disk every time', used / 1e9)
            return False
    return True


def _estimate(parts: Sequence[tuple[ImageStore, list[Sample]]]) -> tuple[float, str]:
    """Return the bytes of all samples decoded, and their sizes, from the first of each part."""
    need = 0
    sizes: dict[str, None] = {}
    for store, samples in parts:
        arrays = next((arrays for arrays in (_read((store, sample)) for sample in samples)
                       if not isinstance(arrays, Exception)), None)
        if arrays:
            height, width = arrays[0].shape[:2]
            need += len(samples) * _bytes(arrays)
            sizes[f'{width}×{height}'] = None
    return need, ', '.join(sizes)


def _read(task: tuple[ImageStore, Sample]) -> Arrays | DataError | ImageError:
    store, sample = task
    try:
        return store.read(sample)
    except (DataError, ImageError) as error:
        return error


def _bytes(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays if array is not None)
