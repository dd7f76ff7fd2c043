"""What is known of a published data set, and what its layouts have in common."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from univseg_core.datasets.folders import DataError, LabelReader, list_images, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.files import read_lines
from univseg_core.pictures.images import ImageError, read_codes

FOREIGN = 254
"""What a table holds for codes that a data set does not have."""

EXTRACTED = 'extracted files (remove the folder, to have them extracted anew)'

NAMED = 3
"""How many of the missing files a message names."""


@dataclass(frozen=True)
class Layout:
    """
    A data set's label space, its parts, and how they are found below its folder.

    `samples(root, part)` lists the labelled samples of 'train' or of one of `held_out` ('val',
    'test'), and raises DataError where the download is incomplete; `extra(root)` the further
    images without labels, where there are any. `counts` has the official numbers of images of
    each part ('extra' too), more than one where the data set was published in pieces.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    samples: Callable[[Path, str], list[Sample]]
    held_out: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    extra: Callable[[Path], list[Sample]] | None = None


def folder_of(root: Path, options: Iterable[str], what: str) -> Path:
    """Return the first of some folders below `root` that is there; else raise DataError."""
    options = list(options)
    for option in options:
        if (root / option).is_dir():
            return root / option
    raise DataError(f'{root}: has no folder {" or ".join(options)} ({what})')


def files_in(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Return the files of a folder whose names end so, sorted by name."""
    return sorted(path for path in folder.iterdir()
                  if path.name.endswith(tuple(endings)) and not path.name.startswith('.'))


def files_below(folder: Path, endings: Sequence[str], source: str) -> list[Path]:
    """
    Return the files one folder below `folder` (a city, a drive) whose names end so, sorted.

    Raises DataError, which names the download that holds them, where there are none.
    """
    if not folder.is_dir():
        raise DataError(f'{folder}: no such folder; {source} holds it')
    files = [file for below in sorted(folder.iterdir()) if below.is_dir()
             for file in files_in(below, endings)]
    if not files:
        raise DataError(f'{folder}/*: no images *{" or *".join(endings)}; {source} holds them')
    return files


def samples_beside(images: Iterable[Path], labels: Path, readers: Mapping[str, LabelReader],
                   expected: str, root: Path) -> list[Sample]:
    """
    Pair images FOLDER/NAME_….png with the label files FOLDER/NAMEending below `labels`.

    The ending is the first of `readers` of which there is a file, and `expected` without one.
    """
    there = {(file.parent.name, file.name) for file in labels.glob('*/*')}
    samples = []
    for image in images:
        folder, name = image.parent.name, image.name.rpartition('_')[0]
        ending = next((each for each in readers if (folder, name + each) in there), expected)
        samples.append(Sample(image, labels / folder / (name + ending), readers[ending], root))
    return samples


def complete(samples: list[Sample], root: Path, labels: str = 'label maps') -> list[Sample]:
    """Return some samples; raise DataError where images or `labels` of theirs are missing."""
    check_present([sample.image for sample in samples], root, 'images')
    check_present([sample.label for sample in samples if sample.label], root, labels)
    return samples


def check_present(files: Sequence[Path], root: Path, what: str) -> None:
    """Raise DataError where some files are missing: how many of how many, and the first names."""
    listed: dict[Path, set[str]] = {}
    missing = []
    for file in files:
        if file.parent not in listed:  # one look at a folder: network disks are slow
            there = file.parent.is_dir()
            listed[file.parent] = {f.name for f in file.parent.iterdir()} if there else set()
        if file.name not in listed[file.parent]:
            missing.append(file)
    if missing:
        names = ', '.join(str(file.relative_to(root)) for file in missing[:NAMED])
        more = ' …' if len(missing) > NAMED else ''
        raise DataError(f'{root}: {len(missing)} of {len(files)} {what} are missing: '
                        f'{names}{more}')


def names_in(path: Path) -> list[str]:
    """Return the names of a list file: of each line the first, without its folders."""
    try:
        return [Path(line.split()[0]).name for line in read_lines(path)]
    except ValueError as error:
        raise DataError(f'{path}: not a text file, expected names of images') from error


def listed_samples(root: Path, part: str, reader: LabelReader) -> list[Sample]:
    """List the pairs of RGB/ and Label/ (or labels/) that PART.txt names."""
    stems = [Path(name).stem for name in names_in(root / f'{part}.txt')]
    labels = folder_of(root, ['Label', 'labels'], 'the label maps')
    endings = {image.stem: image.suffix for image in list_images(root / 'RGB')}
    return complete([Sample(root / 'RGB' / f'{stem}{endings.get(stem, ".jpg")}',
                            labels / f'{stem}.png', reader, root) for stem in stems], root)


class Codes:
    """
    The reader of label maps whose codes stand for classes: code → class index.

    255 is void unless another index is given for it. `table` (256,) uint8 has FOREIGN for codes
    that `indices` does not have.
    """

    def __init__(self, indices: Mapping[int, int]):
        self.table = np.full(256, FOREIGN, np.uint8)
        self.table[IGNORE_INDEX] = IGNORE_INDEX
        self.table[list(indices)] = list(indices.values())

    def __call__(self, path: Path, domain: Domain) -> np.ndarray:
        """
        Return a label map file as (H, W) uint8 class indices, 255 where void.

        Raises ImageError, which names the file, where it is not such a file or has foreign codes.
        """
        codes = read_codes(path)
        label = cv2.LUT(codes, self.table)
        foreign = np.unique(codes[label == FOREIGN])
        if foreign.size:
            raise ImageError(f'{path}: {foreign.tolist()[:8]} are no label ids of this data set')
        return label


def codes_from_one(classes: int) -> Codes:
    """Return the reader of label maps with 0 for void and the classes from 1 on."""
    return Codes({0: IGNORE_INDEX} | {index + 1: index for index in range(classes)})
