"""The plain layout: a folder of images, and one of label maps with the same names."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
import re
from typing import TypeVar
import unicodedata

import numpy as np
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import first_few, in_one_line, UnivsegError
from univseg_core.pictures.images import read_codes, read_image, read_label
from univseg_core.pictures.picture_files import (
    file_bytes,
    image_files,
    IMAGE_SUFFIXES,
    ImageError,
    orientation_of,
    unread_files,
)

LABEL_SUFFIX = '.png'
"""How the names of label maps end, in lower case or not."""

NO_TEXT_NAME = 'a file name that is not in UTF-8, or of several lines; rename it'


class DataError(UnivsegError):
    """Images or labels that are not where or what they should be."""


Item = TypeVar('Item')

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


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most `most` of some items, evenly spread over all of them."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


def name_key(path: Path) -> str:
    """Return by what an image and its label map are paired: the name without its ending."""
    return unicodedata.normalize('NFC', path.stem)  # a Mac writes é as two characters


def list_images(folder: Path) -> list[Path]:
    """
    Return a folder's image files, sorted by name so that every disk gives the same order.

    Raises DataError where there is none, where two differ only in their ending, and for a name
    that no text file could hold.
    """
    images = some_images(folder)
    by_name(images)
    return images


def some_images(folder: Path) -> list[Path]:
    """Return what `list_images` does, whatever the names; raise DataError where there is none."""
    images = image_files(folder)
    if not images:
        others = Counter(path.suffix.lower() for path in folder.iterdir()
                         if path.suffix and not path.name.startswith('.') and path.is_file())
        there = ', '.join(f'{count} {ending}' for ending, count in others.most_common(3))
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir())
        raise DataError(f'{folder}: no images ({", ".join(IMAGE_SUFFIXES)}) in this folder'
                        + (f'; it has {there}' if there else '')
                        + (f'; the folders in it are {first_few(inside, 10)}' if inside else ''))
    return images


def unread_pictures(folder: Path) -> str:
    """Return a sentence of a folder's pictures of kinds that are not read; '' without any."""
    names = [path.name for path in unread_files(folder)]
    if not names:
        return ''
    return (f'{len(names)} pictures of {folder} are of a kind that is not read '
            f'({first_few(names)}; read are {", ".join(IMAGE_SUFFIXES)})')


def has_text_name(file: Path) -> bool:
    """Return whether a file's name is one that a text file can hold: one line, in UTF-8."""
    return not re.search('[\n\r\ud800-\udfff]', file.name)  # bytes that are no text


def by_name(files: Iterable[Path]) -> dict[str, Path]:
    """
    Return files by `name_key`.

    Raises DataError where two have the same one, or a name is not in UTF-8 or of several lines.
    """
    found: dict[str, Path] = {}
    for file in files:
        if not has_text_name(file):
            raise DataError(f'{in_one_line(file)}: {NO_TEXT_NAME}')
        other = found.setdefault(name_key(file), file)
        if other is not file:
            raise DataError(f'{file}: has the same name as '
                            f'{other.name if other.parent == file.parent else other}')
    return found


def labelled_samples(images: Path, labels: Path,
                     reader: LabelReader = read_label) -> list[Sample]:
    """
    Pair each image of a folder with the PNG of the same name in another; some may have none.

    `reader` is that of the label maps. Raises DataError, which names the first images, where none
    has a label map, and for a label map that is no PNG.
    """
    files = image_files(labels)
    maps = by_name(file for file in files if file.suffix.lower() == LABEL_SUFFIX)
    samples = [Sample(image, maps.get(name_key(image)), reader) for image in list_images(images)]
    missing = [sample.image for sample in samples if sample.label is None]
    of_no_png = {name_key(file): file for file in files if file.suffix.lower() != LABEL_SUFFIX}
    for image in missing:
        if labels != images and (file := of_no_png.get(name_key(image))):
            raise DataError(f'{file}: expected a label map {image.stem}.png: other formats may '
                            'change class indices')
    if len(missing) == len(samples):
        names = ', '.join(image.name for image in missing[:3])
        raise DataError(f'{labels}: no label map for {len(missing)} of {len(samples)} images: '
                        f'{names} … (expected e.g. {missing[0].stem}.png)')
    return samples


def are_masks(labels: Iterable[Path]) -> bool:
    """
    Return whether label maps have both values 0 and 255, and none has another.

    Reading stops at the first other value; label maps that cannot be read are passed over.
    """
    found: set[int] = set()
    for label in labels:
        try:
            found |= set(np.unique(read_codes(label)).tolist())
        except ImageError:
            continue
        if not found <= {0, IGNORE_INDEX}:
            return False
    return len(found) == 2


def stray_labels(images: Path, labels: Path) -> list[Path]:
    """Return the label maps of a folder that fit no image of another by name."""
    names = set(map(name_key, image_files(images)))
    return [file for file in image_files(labels) if name_key(file) not in names]


def misfit(label_size: tuple[int, ...], image_size: tuple[int, ...],
           orientation: int) -> str | None:
    """
    Return what is wrong with a label map of another (height, width) than its image, else None.

    The label map is to fit the picture as it is seen: upright, by the `orientation` in the image's
    EXIF data.
    """
    if label_size == image_size:
        return None
    text = (f'the label map is {label_size[1]}×{label_size[0]}, its image {image_size[1]}×'
            f'{image_size[0]}')
    if label_size != image_size[::-1]:
        return text
    if orientation < 5:
        return f'{text} (turned by 90°?)'
    return (f'{text}: the orientation in the EXIF data of the image ({orientation}) turns it '
            'upright, and the label map fits it as it lies in the file; turn the label map')


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
        orientation = orientation_of(file_bytes(sample.image))
        wrong = misfit(label.shape, image.shape[:2], orientation)
        raise DataError(f'{sample.label}: {wrong}')
    return image, label
