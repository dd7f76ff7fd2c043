"""
Cityscapes' polygons: CITY/CITY_SEQUENCE_FRAME_gtFine_polygons.json.

Objects are drawn in the file's order by Pillow, as json2labelImg of its scripts does. The scripts
are not used: what is needed of them is a few lines, which end the process at a label that they do
not know. IDD has files of the same kind.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
import re

from univseg_core.annotations.drawn import Drawn
from univseg_core.annotations.json_files import (
    as_object,
    checked_size,
    files_below,
    pick,
    points_of,
    read_object,
    some_heads,
    told_of,
)
from univseg_core.annotations.problems import quoted
from univseg_core.annotations.regions import AnnotatedImage, AnnotationError, Region

ENDING = '_polygons.json'

NAME = re.compile(r'(.+?)(_gt[A-Za-z]+)?_polygons')
"""Of a file, without .json: the frame, and what kind of truth it is."""

VOID = frozenset({'unlabeled', 'ego vehicle', 'rectification border', 'out of roi', 'static',
                  'dynamic', 'ground'})
"""The labels of its category void."""

LABELS_OF_NO_PIXEL = ('license plate',)
"""What json2labelImg does not draw: the car around it stays."""

GROUP = 'group'
"""How labels of several things end, which count as one: cargroup."""

LABELS_LIKE_GROUPS = ('polegroup',)
"""Labels of their own that end likewise."""


def recognises(path: Path) -> bool:
    """Return whether a file, or some …_polygons.json of a folder, begins as Cityscapes' do."""
    return any(head.startswith('{') and '"imgHeight"' in head and '"objects"' in head
               for head in some_heads(path, ENDING if path.is_dir() else '.json'))


def read(path: Path) -> Iterator[AnnotatedImage]:
    """
    Return the images of such a file, or of all those below a folder.

    Raises AnnotationError, which names the file and the object, for what is wrong with them; what
    comes behind it can still be read.
    """
    files = files_below(path, ENDING)
    if not files:
        raise AnnotationError(f'{path}: no file …{ENDING} is in it')
    return map(partial(_image, root=path if path.is_dir() else path.parent), files)


def _image(file: Path, root: Path) -> AnnotatedImage:
    values = read_object(file)
    with told_of(file):
        return _image_of(values, file, file.relative_to(root).parent)


def _image_of(values: dict, file: Path, folder: Path) -> AnnotatedImage:
    if 'objects' not in values or 'imgHeight' not in values:
        raise AnnotationError('not a file of Cityscapes: it has no imgHeight and objects')
    size = checked_size(pick(values, 'imgHeight', int), pick(values, 'imgWidth', int))
    regions = []
    for number, entry in enumerate(pick(values, 'objects', list), 1):
        with told_of(f'object {number}'):
            entry = as_object(entry)
            label = pick(entry, 'label', str)
            if entry.get('deleted') or label in LABELS_OF_NO_PIXEL:
                continue
            with told_of(quoted(label)):
                corners = points_of(pick(entry, 'polygon', list), 3)
            regions.append(Region(_single(label), Drawn(corners, outline=False),
                                  f'object {number}'))
    match = NAME.fullmatch(file.stem)
    frame = match[1] if match else file.stem
    return AnnotatedImage((folder / f'{frame}_leftImg8bit.png').as_posix(), size, tuple(regions),
                          file, ((folder / frame).as_posix(),), VOID)


def _single(label: str) -> str:
    """Return the label of one thing where it is that of a group."""
    if label.endswith(GROUP) and label not in LABELS_LIKE_GROUPS:
        return label[:-len(GROUP)].strip() or label
    return label
