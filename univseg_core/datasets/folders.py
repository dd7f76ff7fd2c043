"""The plain layout: a folder of images, and one of label maps with the same names."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.pictures.images import IMAGE_SUFFIXES, read_image, read_label


class DataError(UnivsegError):
    """Images or labels that are not where or what they should be."""


LabelReader = Callable[[Path, Domain], np.ndarray]
"""Returns a label file as (H, W) uint8 class indices of a domain, 255 where void."""


@dataclass(frozen=True, order=True)
class Sample:
    """
    An image file, and its label file where there is one.

    `read_label` can be pickled: other processes need it, too.
    `root` is the folder from which a data set's names count, where an image's own may repeat.
    """

    image: Path
    label: Path | None = None
    read_label: LabelReader = field(default=read_label, compare=False)
    root: Path | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Return the image's name, wherever the data set is."""
        return self.image.relative_to(self.root).as_posix() if self.root else self.image.name


def list_images(folder: Path) -> list[Path]:
    """
    Return a folder's image files, sorted by name so that every disk gives the same order.

    Raises DataError where there is none, or where two differ only in their ending.
    """
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(f'{folder}: no images ({", ".join(IMAGE_SUFFIXES)}) in this folder')
    stems: dict[str, Path] = {}
    for image in images:
        if image.stem in stems:
            raise DataError(f'{image}: has the same name as {stems[image.stem].name}')
        stems[image.stem] = image
    return images


def labelled_samples(images: Path, labels: Path) -> list[Sample]:
    """
    Pair each image of a folder with the PNG of the same name in another.

    Raises DataError, which names the first images without a label map.
    """
    pairs = [(image, labels / f'{image.stem}.png') for image in list_images(images)]
    missing = [(image, label) for image, label in pairs if not label.is_file()]
    if missing:
        names = ', '.join(image.name for image, _ in missing[:3])
        raise DataError(f'{labels}: no label map for {len(missing)} of {len(pairs)} images: '
                        f'{names} … (expected e.g. {missing[0][1].name})')
    return [Sample(image, label) for image, label in pairs]


def read_sample(sample: Sample, domain: Domain) -> tuple[np.ndarray, np.ndarray]:
    """
    Return a sample's image (H, W, 3) uint8 and label (H, W) uint8, zeros where unlabelled.

    Raises ImageError for a file that cannot be read, DataError for a label of another size.
    """
    image = read_image(sample.image)
    if sample.label is None:
        return image, np.zeros(image.shape[:2], np.uint8)
    label = sample.read_label(sample.label, domain)
    if label.shape != image.shape[:2]:
        raise DataError(f'{sample.label}: the label map is {label.shape[1]}×{label.shape[0]}, '
                        f'its image {image.shape[1]}×{image.shape[0]}')
    return image, label
