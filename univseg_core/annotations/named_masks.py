"""
Label maps beside a list that gives each colour or index a name.

PNGs need no library of a tool; each class of an image is one region, and no two overlap.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
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

HEX_COLOUR = re.compile('#[0-9a-fA-F]{6}')


def recognises_cvat_masks(path: Path) -> bool:
    """Return whether a folder is laid out as CVAT's "Segmentation mask 1.1", with labelmap.txt."""
    return (path / 'labelmap.txt').is_file() and _mask_folder(path) is not None


def cvat_masks_of(folder: Path) -> Path | None:
    """Return the folder that has the labelmap.txt of a folder of label maps, if there is one."""
    return _above(folder, MASK_FOLDERS, recognises_cvat_masks)


def read_cvat_masks(path: Path) -> Iterator[AnnotatedImage]:
    """Return the images of such a folder, whose labels are told by their colours."""
    file = path / 'labelmap.txt'
    entries = [(colour, name) for name, colour in read_labelmap(file).items()]
    masks = _masks(path)
    return _by_colour(masks, file, entries, _mask_folder(path) or path)


def recognises_voc(path: Path) -> bool:
    """Return whether a folder is laid out as Pascal VOC, and its classes have names."""
    return not recognises_cvat_masks(path) and bool(_voc_names(path)) and (
        (path / 'class_names.txt').is_file() or is_laid_out_so(path, _masks(path)[0]))


def voc_of(folder: Path) -> Path | None:
    """Return the folder that tells the names of a folder of label maps, if there is one."""
    return _above(folder, MASK_FOLDERS, recognises_voc)


def read_voc(path: Path) -> Iterator[AnnotatedImage]:
    """Return the images of such a folder: indices, by class_names.txt or Pascal VOC."""
    names = _voc_names(path)
    if not names:
        raise AnnotationError(f'{path}: expected SegmentationClass/ with class_names.txt beside '
                              'it, or the images of Pascal VOC')
    folder = _mask_folder(path)
    assert folder is not None  # where there are names
    of = 'class_names.txt' if (path / 'class_names.txt').is_file() else 'Pascal VOC'
    return _by_index(_masks(path), names, of, folder)


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


def ade_of(folder: Path) -> Path | None:
    """Return the folder that has the list of a folder of label maps, if there is one."""
    return _above(folder, ['annotations'], recognises_ade)


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
    return _by_index(pictures_below(path / 'annotations'), {0: UNPAINTED} | names, file.name)


def recognises_mask_targets(path: Path) -> bool:
    """Return whether a folder is an ImageSegmentationDirectory of FiftyOne with mask_targets."""
    return (path / 'mask_targets.json').is_file() and (path / 'labels').is_dir()


def mask_targets_of(folder: Path) -> Path | None:
    """Return the folder that has the mask_targets.json of a folder of label maps, if any."""
    return _above(folder, ['labels'], recognises_mask_targets)


def read_mask_targets(path: Path) -> Iterator[AnnotatedImage]:
    """Return the images of such a folder: indices or colours, of which 0 and black are none."""
    file = path / 'mask_targets.json'
    try:
        data = record_bytes(file)
        values = parse_json(data)
    except (OSError, ValueError) as error:
        raise AnnotationError(f'{file}: {reason(error)}') from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values.values()):
        raise AnnotationError(f'{file}: expected a name for each number or colour')
    folder = path / 'labels'
    masks = pictures_below(folder)
    entries = json.loads(data, object_pairs_hook=list)  # a key may be there twice
    if values and all(map(HEX_COLOUR.fullmatch, values)):
        colours = [(_colour_of(key), name) for key, name in entries]
        if all(any(colour) for colour, _ in colours):
            colours.append(((0, 0, 0), UNPAINTED))
        return _by_colour(masks, file, colours, folder)
    if other := [key for key in values if not INDEX.fullmatch(key)]:
        raise AnnotationError(f'{file}: expected a name for each number, or for each colour, '
                              f'"#rrggbb", got {quoted(other[0])}')
    return _by_index(masks, {0: UNPAINTED} | _names_of(file, entries), file.name, folder)


def recognises_roboflow(path: Path) -> bool:
    """Return whether a folder is of Roboflow's "Semantic Segmentation Masks", or a part of it."""
    return bool(_roboflow_parts(path))


def read_roboflow(path: Path) -> Iterator[AnnotatedImage]:
    """Return the images of such a folder: indices, in files NAME_mask.png of each part."""
    return chain.from_iterable(map(_roboflow_part, _roboflow_parts(path) or [path]))


def _roboflow_parts(path: Path) -> list[Path]:
    """Return a folder, or those in it, such as train/, valid/ and test/, that have a list."""
    places = [path] if (path / '_classes.csv').is_file() or not path.is_dir() else sorted(
        path.iterdir())
    return [place for place in places if (place / '_classes.csv').is_file()]


def _roboflow_part(path: Path) -> Iterator[AnnotatedImage]:
    file = path / '_classes.csv'
    try:
        rows = [tuple(row.values()) for row in read_rows(file)[1]]
    except (OSError, ValueError) as error:
        raise AnnotationError(f'{file}: {reason(error)}') from error
    # Cells behind the last column are a list.
    if not rows or not all(len(row) == 2 and all(isinstance(cell, str) and cell for cell in row)
                           and INDEX.fullmatch(row[0].strip()) for row in rows):
        raise AnnotationError(f'{file}: expected lines of a pixel value and a class')
    masks = [mask for mask in image_files(path) if mask.stem.endswith('_mask')]
    return _by_index(masks, _names_of(file, rows), file.name, ending='_mask')


def read_labelmap(path: Path) -> dict[str, Colour]:
    """
    Return the colours by name of a labelmap.txt, of lines name:red,green,blue:parts:actions.

    Empty lines and those that begin with # say nothing. Raises AnnotationError, which names file
    and line, for any other line or a name that comes twice.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise AnnotationError(f'{path}: {reason(error)}') from error
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


def _by_index(masks: list[Path], names: Mapping[int, str], of: str, root: Path | None = None,
              ending: str = '') -> Iterator[AnnotatedImage]:
    """Return the images of label maps of indices that `of` names; 255 is void unless it does."""
    known = first_few([*map(str, sorted(names))], 40)
    names = {IGNORE_INDEX: INDEX_OF_VOID, **names}

    def labelled(mask: Path) -> np.ndarray:
        codes = read_codes(mask)
        if (unnamed := codes[~np.isin(codes, list(names))]).size:
            raise AnnotationError(f'{mask}: indices that {of} has not: '
                                  f'{counted(unnamed, str)}; it has {known}')
        return codes

    return map(partial(_image, read=labelled, names=names, root=root, ending=ending), masks)


def _by_colour(masks: list[Path], file: Path, entries: Sequence[tuple[Colour, str]],
               root: Path) -> Iterator[AnnotatedImage]:
    """Return the images of label maps of colours, whose names some file gives."""
    names = [name for _, name in entries]
    numbers: dict[Colour, int] = {}
    for number, (colour, name) in enumerate(entries):
        if (other := numbers.setdefault(colour, number)) != number:
            raise AnnotationError(f'{file}: {quoted(names[other])} and {quoted(name)} have the '
                                  'same colour')
    table = colour_table(numbers)

    def labelled(mask: Path) -> np.ndarray:
        try:
            return numbers_by_colour(read_image(mask), table)
        except ForeignColoursError as error:
            raise AnnotationError(
                f'{mask}: colours that {file.name} has not: {error}') from None

    return map(partial(_image, read=labelled, names=dict(enumerate(names)), root=root), masks)


def _colour_of(text: str) -> Colour:
    """Return red, green and blue of '#rrggbb'."""
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


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


def _above(folder: Path, names: Collection[str],
           recognises: Callable[[Path], bool]) -> Path | None:
    """Return the folder above one of some names, None where that is not of a format."""
    return folder.parent if folder.name in names and recognises(folder.parent) else None


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
        raise AnnotationError(f'{path}: {reason(error)}') from error


def reason(error: OSError | ValueError) -> str:
    """Return why a file cannot be read, without its name."""
    return f'cannot be read: {error.strerror if isinstance(error, OSError) else error}'


def counted(values: np.ndarray, words: Callable[[int], str]) -> str:
    """Return some values in words, and how many pixels have each."""
    found, counts = np.unique(values, return_counts=True)
    often = np.argsort(-counts, kind='stable')[:5]
    return first_few([f'{words(int(found[i]))} in {counts[i]} pixels' for i in often]
                     + [''] * (len(found) > 5), 5)
