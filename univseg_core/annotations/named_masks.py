"""
Label maps beside a list that gives each colour or index a name.

PNGs need no library of a tool; each class of an image is one region, and no two overlap.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
import json
from pathlib import Path
import re

import numpy as np
from univseg_core.annotations.colours import (
    Colour,
    colour_table,
    ForeignColoursError,
    numbers_by_colour,
)
from univseg_core.annotations.no_class import INDEX_OF_VOID, is_no_class
from univseg_core.annotations.pascal_voc import are_called_so, CLASSES, is_laid_out_so
from univseg_core.annotations.problems import quoted
from univseg_core.annotations.regions import AnnotatedImage, AnnotationError, Region
from univseg_core.domains import IGNORE_INDEX
from univseg_core.errors import first_few, shortened
from univseg_core.files import read_lines, read_text
from univseg_core.files.records import parse_json, read_rows, record_bytes
from univseg_core.pictures.images import read_codes, read_image
from univseg_core.pictures.picture_files import image_files, ImageError, is_picture

UNPAINTED = ''
"""What an index is called that is no region, for nobody painted it."""

MASK_FOLDERS = ('SegmentationClass', 'SegmentationClassPNG')
"""Where label maps lie in the layout of Pascal VOC, and labelme's older one."""

OF_OBJECTS = frozenset({'SegmentationObject', 'SegmentationObjectPNG'})
"""What lies beside these: which object each pixel is of, whatever its class."""

INDEX = re.compile('[0-9]{1,3}')


def recognises_cvat_masks(path: Path) -> bool:
    """Return whether a folder is laid out as CVAT's "Segmentation mask 1.1", with labelmap.txt."""
    return (path / 'labelmap.txt').is_file() and _mask_folder(path) is not None


def read_cvat_masks(path: Path) -> Iterator[AnnotatedImage]:
    """Return the images of such a folder, whose labels are told by their colours."""
    colours = read_labelmap(path / 'labelmap.txt')
    labels = list(colours)
    numbers: dict[Colour, int] = {}
    for number, colour in enumerate(colours.values()):
        if (other := numbers.setdefault(colour, number)) != number:
            raise AnnotationError(f'{path / "labelmap.txt"}: {labels[other]} and '
                                  f'{labels[number]} have the same colour')
    table = colour_table(numbers)

    def labelled(mask: Path) -> np.ndarray:
        try:
            return numbers_by_colour(read_image(mask), table)
        except ForeignColoursError as error:
            raise AnnotationError(
                f'{mask}: colours that labelmap.txt has not: {error}') from None

    masks = _masks(path)
    return map(partial(_image, read=labelled, names=dict(enumerate(labels)),
                       root=_mask_folder(path) or path), masks)


def recognises_voc(path: Path) -> bool:
    """Return whether a folder is laid out as Pascal VOC, and its classes have names."""
    return not recognises_cvat_masks(path) and bool(_voc_names(path)) and (
        (path / 'class_names.txt').is_file() or is_laid_out_so(path, _masks(path)[0]))


def read_voc(path: Path) -> Iterator[AnnotatedImage]:
    """Return the images of such a folder: indices, by class_names.txt or Pascal VOC."""
    names = _voc_names(path)
    if not names:
        raise AnnotationError(f'{path}: expected SegmentationClass/ with class_names.txt beside '
                              'it, or the images of Pascal VOC')
    folder = _mask_folder(path)
    assert folder is not None  # where there are names
    return _by_index(_masks(path), names, folder)


def _voc_names(path: Path) -> dict[int, str]:
    """Return the names of a folder's indices, none where nothing tells them."""
    if _mask_folder(path) is None:
        return {}
    if (path / 'class_names.txt').is_file():
        # labelme's converters leave out __ignore__, which would be -1, from some lists alone.
        file = path / 'class_names.txt'
        names = [name for name in _lines(file) if name != '__ignore__']
        return _names_of(file, ((str(index), name) for index, name in enumerate(names)))
    if are_called_so(_masks(path)):
        return dict(enumerate(CLASSES))
    return {}


def recognises_ade(path: Path) -> bool:
    """Return whether a folder is the scene parsing benchmark of ADE20K."""
    return (path / 'objectInfo150.txt').is_file() and (path / 'annotations').is_dir()


def read_ade(path: Path) -> Iterator[AnnotatedImage]:
    """Return the images of such a folder: indices, of which 0 is no class."""
    file = path / 'objectInfo150.txt'
    lines = [line.split('\t') for line in _lines(file)[1:]]
    for cells in lines:
        if not INDEX.fullmatch(cells[0].strip()) or len(cells) < 2:
            raise AnnotationError(f'{file}: expected lines that begin with a number, and end with '
                                  f'a name behind a tab, got {shortened(cells[0], 80)!r}')
    names = _names_of(file, ((cells[0], cells[-1]) for cells in lines))
    # 'building, edifice' is a building, unless another is called so, too.
    first = [name.split(',')[0] for name in names.values()]
    names = {index: short if first.count(short) == 1 else name
             for (index, name), short in zip(names.items(), first, strict=True)}
    return _by_index(pictures_below(path / 'annotations'), {0: UNPAINTED} | names)


def recognises_mask_targets(path: Path) -> bool:
    """Return whether a folder is an ImageSegmentationDirectory of FiftyOne with mask_targets."""
    return (path / 'mask_targets.json').is_file() and (path / 'labels').is_dir()


def read_mask_targets(path: Path) -> Iterator[AnnotatedImage]:
    """Return the images of such a folder: indices, of which 0 is no class."""
    file = path / 'mask_targets.json'
    try:
        data = record_bytes(file)
        values = parse_json(data)
    except (OSError, ValueError) as error:
        raise AnnotationError(f'{file}: {error}') from error
    if not isinstance(values, dict) or not all(
            INDEX.fullmatch(key) and isinstance(name, str) for key, name in values.items()):
        raise AnnotationError(f'{file}: expected a name for each number')
    folder = path / 'labels'
    entries = json.loads(data, object_pairs_hook=list)  # a key may be there twice
    return _by_index(pictures_below(folder), {0: UNPAINTED} | _names_of(file, entries), folder)


def recognises_roboflow(path: Path) -> bool:
    """Return whether a folder is a part of Roboflow's "Semantic Segmentation Masks"."""
    return (path / '_classes.csv').is_file()


def read_roboflow(path: Path) -> Iterator[AnnotatedImage]:
    """Return the images of such a folder: indices, in files NAME_mask.png."""
    file = path / '_classes.csv'
    try:
        rows = [tuple(row.values()) for row in read_rows(file)[1]]
    except (OSError, ValueError) as error:
        raise AnnotationError(f'{file}: {error}') from error
    if not rows or not all(len(row) == 2 and all(row) and INDEX.fullmatch(row[0].strip())
                           for row in rows):
        raise AnnotationError(f'{file}: expected lines of a pixel value and a class')
    masks = [mask for mask in image_files(path) if mask.stem.endswith('_mask')]
    return _by_index(masks, _names_of(file, rows), ending='_mask')


def read_labelmap(path: Path) -> dict[str, Colour]:
    """
    Return the colours by name of a labelmap.txt, of lines name:red,green,blue:parts:actions.

    Empty lines and those that begin with # say nothing. Raises AnnotationError, which names file
    and line, for any other line or a name that comes twice.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise AnnotationError(f'{path}: cannot be read: {error}') from error
    found: dict[str, Colour] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith('#'):
            continue
        name, _, rest = line.partition(':')
        name = name.strip()
        values = [value.strip() for value in rest.split(':')[0].split(',')]
        if not name or name in found or len(values) != 3 or not all(
                re.fullmatch('[0-9]{1,3}', value) and int(value) < 256 for value in values):
            raise AnnotationError(f'{path}, line {number}: expected name:red,green,blue:: with '
                                  'three numbers 0..255, and each name once; got '
                                  f'{line[:80]!r}')
        red, green, blue = (int(value) for value in values)
        found[name] = red, green, blue
    return found


@dataclass(frozen=True)
class Labelled:
    """The pixels of an image's labels (H, W) that have one number."""

    numbers: np.ndarray
    number: int

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return which pixels have it; see `Shape`."""
        if self.numbers.shape != (height, width):
            raise AnnotationError(f'a label map of {self.numbers.shape[1]}×'
                                  f'{self.numbers.shape[0]} pixels, expected {width}×{height}')
        return self.numbers == self.number


def _names_of(file: Path, entries: Iterable[tuple[str, str]]) -> dict[int, str]:
    """Return the names of a list by index; raise AnnotationError for an index of two names."""
    found: dict[int, str] = {}
    for number, name in entries:
        index, name = int(number), name.strip()
        if index > IGNORE_INDEX:
            raise AnnotationError(f'{file}: expected indices 0..{IGNORE_INDEX}, got {index}, '
                                  f'{quoted(name)}')
        if found.setdefault(index, name) != name:
            raise AnnotationError(f'{file}: index {index} is {quoted(found[index])}, and '
                                  f'{quoted(name)} as well')
    return found


def _by_index(masks: list[Path], names: Mapping[int, str], root: Path | None = None,
              ending: str = '') -> Iterator[AnnotatedImage]:
    """Return the images of label maps of indices; 255 is void unless it has a name."""
    names = {IGNORE_INDEX: INDEX_OF_VOID, **names}

    def labelled(mask: Path) -> np.ndarray:
        codes = read_codes(mask)
        if (unnamed := codes[~np.isin(codes, list(names))]).size:
            raise AnnotationError(f'{mask}: indices that have no name: {_counted(unnamed)}; '
                                  f'those that have one are {first_few([*map(str, names)], 40)}')
        return codes

    return map(partial(_image, read=labelled, names=names, root=root, ending=ending), masks)


def _image(mask: Path, read: Callable[[Path], np.ndarray], names: Mapping[int, str],
           root: Path | None = None, ending: str = '') -> AnnotatedImage:
    """
    Return what `read` makes of a label map: numbers (H, W), of which each has a name.

    Below `root`, if that is given, it lies as its image does below the folder of all images.
    """
    try:
        numbers = read(mask)
    except ImageError as error:
        raise AnnotationError(str(error)) from error
    there = np.flatnonzero(np.bincount(numbers.ravel(), minlength=1)).tolist()
    regions = tuple(Region(names[number], Labelled(numbers, number), f'label {number}')
                    for number in there if names[number] != UNPAINTED)
    # Roboflow adds the hash of what it made of an image to the image's name.
    folder = mask.relative_to(root).parent if root else Path()
    name = (folder / mask.stem.removesuffix(ending)).as_posix()
    before = re.sub(r'_(jpe?g|png|bmp|webp|tiff?)\.rf\..*', '', name)
    height, width = numbers.shape
    return AnnotatedImage(
        name, (height, width), regions, mask, (before,) if before != name else (),
        frozenset(label for label in names.values() if is_no_class(label)))


def _masks(path: Path) -> list[Path]:
    folder = _mask_folder(path)
    if folder is None:
        raise AnnotationError(f'{path}: expected a folder {" or ".join(MASK_FOLDERS)} of PNGs')
    return pictures_below(folder)


def _mask_folder(path: Path) -> Path | None:
    """Return the folder of label maps in a layout like Pascal VOC's."""
    for name in MASK_FOLDERS:
        folder = path / name
        if folder.is_dir() and pictures_below(folder):
            return folder
    return None


def pictures_below(folder: Path) -> list[Path]:
    """Return the pictures in a folder and in those below that are not hidden, by name."""
    return sorted(path for path in folder.rglob('*') if is_picture(path) and not any(
        part.startswith('.') for part in path.relative_to(folder).parts))


def _lines(path: Path) -> list[str]:
    try:
        return read_lines(path)
    except (OSError, ValueError) as error:
        raise AnnotationError(f'{path}: cannot be read: {error}') from error


def _counted(values: np.ndarray) -> str:
    """Return some values in words, and how many pixels have each."""
    found, counts = np.unique(values, return_counts=True)
    often = np.argsort(-counts, kind='stable')[:5]
    return first_few([f'{found[i]} in {counts[i]} pixels' for i in often]
                     + [''] * (len(found) > 5), 5)
