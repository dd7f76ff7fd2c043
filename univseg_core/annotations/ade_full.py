"""
ADE20K's full set, whose NAME_seg.png are told class or object by a list beside each.

Since 2020 that is NAME.json: red / 10 * 256 + green is a class, its `name_ndx`. Before, it is
NAME_atr.txt: the first of the blues above 0 is object 1. Datumaro reads both, and is larger than
this package with all it needs.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from univseg_core.annotations.json_files import as_object, head_of, pick, told_of
from univseg_core.annotations.named_masks import counted, Labelled, pictures_below, reason
from univseg_core.annotations.problems import quoted
from univseg_core.annotations.regions import AnnotatedImage, AnnotationError, Region
from univseg_core.errors import first_few
from univseg_core.files import read_text
from univseg_core.files.records import parse_json, record_bytes
from univseg_core.pictures.images import read_image
from univseg_core.pictures.picture_files import ImageError

SEG, ATTRIBUTES = '_seg.png', '_atr.txt'

UNPAINTED = 0


def recognises_ade_full(path: Path) -> bool:
    """Return whether a folder has label maps of ADE20K's full set, with their lists, below it."""
    return path.is_dir() and any(
        _beside(mask, ATTRIBUTES).is_file() or '"name_ndx"' in head_of(_beside(mask, '.json'))
        for mask in path.rglob(f'*{SEG}'))


def read_ade_full(path: Path) -> Iterator[AnnotatedImage]:
    """
    Return the images of such a folder; labels are the first names of classes, objects no parts.

    Raises AnnotationError in an image's place, where its label map or list is missing or damaged,
    or has what the other has not.
    """
    masks = [mask for mask in pictures_below(path) if mask.name.endswith(SEG)]
    if not masks:
        raise AnnotationError(f'{path}: expected a folder of ADE20K, with NAME{SEG} beside images')
    return map(_image, masks)


def _image(mask: Path) -> AnnotatedImage:
    try:
        red, green, blue = np.moveaxis(read_image(mask).astype(np.int32), -1, 0)
    except ImageError as error:
        raise AnnotationError(str(error)) from error
    file = _beside(mask, '.json')
    if file.is_file():
        numbers, names = red // 10 * 256 + green, _classes(file)
    elif (file := _beside(mask, ATTRIBUTES)).is_file():
        names = _objects(file)
        numbers = np.searchsorted(np.unique(blue[blue > 0]), blue) + 1
        numbers[blue == 0] = UNPAINTED
    else:
        raise AnnotationError(f'{mask}: neither {_beside(mask, ".json").name} nor {file.name} is '
                              'beside it')
    if (unnamed := numbers[~np.isin(numbers, [UNPAINTED, *names])]).size:
        known = first_few([*map(str, names)], 40) or 'none'
        raise AnnotationError(f'{mask}: numbers that {file.name} has not: '
                              f'{counted(unnamed, str)}; it has {known}')
    there = [number for number in np.unique(numbers).tolist() if number != UNPAINTED]
    regions = tuple(Region(names[number].split(',')[0].strip(), Labelled(numbers, number),
                           f'number {number}') for number in there)
    return AnnotatedImage(mask.name.removesuffix(SEG), red.shape, regions, mask)


def _beside(mask: Path, ending: str) -> Path:
    return mask.with_name(mask.name.removesuffix(SEG) + ending)


def _classes(file: Path) -> dict[int, str]:
    """Return the names of classes by their index in all of ADE20K."""
    with told_of(file):
        try:
            values = parse_json(record_bytes(file).decode('latin-1'))
        except (OSError, ValueError) as error:
            raise AnnotationError(reason(error)) from error
        objects = pick(pick(as_object(values), 'annotation', dict), 'object', list)
        return {pick(as_object(each), 'name_ndx', int): pick(each, 'name', str)
                for each in objects}


def _objects(file: Path) -> dict[int, str]:
    """Return the class names of objects by their numbers."""
    try:
        lines = [line for line in read_text(file).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise AnnotationError(f'{file}: {reason(error)}') from error
    found = {}
    for line in lines:
        cells = [cell.strip() for cell in line.split('#')]
        if len(cells) != 6 or not (cells[0].isdecimal() and cells[1].isdecimal() and cells[3]):
            raise AnnotationError(f'{file}: expected lines of a number, level, occlusion, class, '
                                  f'name and attributes between #, got {quoted(line, 80)}')
        if int(cells[1]) == 0:  # others are parts of objects, which have pictures of their own
            found[int(cells[0])] = cells[3]
    return found
