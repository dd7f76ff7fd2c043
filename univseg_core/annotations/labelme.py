"""
labelme's JSON, one file an image.

Shapes are painted in the file's order, each with the pixels that labelme's own `shapes_to_label`
gives it (by Pillow). The package labelme itself is not used: it needs PyQt and ONNX Runtime, and
decodes each image.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import cv2
import numpy as np
from univseg_core.annotations.drawn import Drawn, Figure
from univseg_core.annotations.json_files import (
    as_object,
    checked_size,
    files_of,
    pick,
    points_of,
    read_object,
    some_heads,
    told_of,
)
from univseg_core.annotations.no_class import HOLE, IGNORED
from univseg_core.annotations.pngs import from_base64, png_size, PngMask
from univseg_core.annotations.problems import quoted
from univseg_core.annotations.regions import AnnotatedImage, AnnotationError, Region, Ring, Shape
from univseg_core.errors import shortened
from univseg_core.pictures.encoded import encoded_size

FIGURES: dict[str, tuple[Figure, int, int | None]] = {
    'polygon': ('polygon', 3, None),
    'oriented_rectangle': ('polygon', 4, 4),
    'rectangle': ('rectangle', 2, 4),  # relatives of labelme write four corners
    'circle': ('circle', 2, 2),
    'line': ('line', 2, 2),
    'linestrip': ('line', 2, None),
    'point': ('point', 1, 1),
}
"""What each shape_type is drawn as, and how many points it has."""


def recognises(path: Path) -> bool:
    """Return whether a file, or some JSON file below a folder, begins as labelme's do."""
    return any(map(_begins_so, some_heads(path)))


def _begins_so(head: str) -> bool:
    return head.startswith('{') and ('"shapes"' in head or '"imageData"' in head)


def read(path: Path) -> Iterator[AnnotatedImage]:
    """
    Return the images of a labelme file, or of those below a folder.

    Raises AnnotationError, which names the file and the shape, for what is wrong with them; what
    comes behind it can still be read.
    """
    return map(_image, files_of(path, _begins_so, 'labelme'))


def _image(file: Path) -> AnnotatedImage:
    values = read_object(file)
    with told_of(file):
        return _image_of(values, file)


def _image_of(values: dict, file: Path) -> AnnotatedImage:
    if 'shapes' not in values:
        raise AnnotationError('not a file of labelme: it has no shapes')
    # labelme of Windows writes \, which no other tool's image names have.
    image = PureWindowsPath(pick(values, 'imagePath', str)).as_posix()
    also = () if PurePosixPath(image).stem == file.stem else (file.stem,)
    size = _size(values)
    regions: list[Region] = []
    groups: list[object] = []
    for number, shape in enumerate(pick(values, 'shapes', list), 1):
        with told_of(f'shape {number}'):
            shape = as_object(shape)
            label = pick(shape, 'label', str)
            with told_of(quoted(label)):
                regions.append(Region(label, _shape(shape, size), f'shape {number}'))
            groups.append(shape.get('group_id'))
    return AnnotatedImage(image, size, tuple(_with_holes(regions, groups)), file, also,
                          frozenset({IGNORED, HOLE}))


def _size(values: dict) -> tuple[int, int] | None:
    """Return height and width that a file says its image has, None where it does not."""
    height, width = (pick(values, key, int, None) for key in ('imageHeight', 'imageWidth'))
    size = None if height is None or width is None else checked_size(height, width)
    held = _size_of_picture(pick(values, 'imageData', str, None))
    if size and held and size != held:
        raise AnnotationError(f'imageHeight and imageWidth say {size[1]}×{size[0]} pixels, but '
                              f'imageData holds {held[1]}×{held[0]}')
    return size or held


def _size_of_picture(text: str | None) -> tuple[int, int] | None:
    """Return the size of a picture in base64; None of what is none, for it is not needed."""
    try:
        return None if text is None else encoded_size(from_base64(text))
    except ValueError:
        return None


def _shape(values: dict, size: tuple[int, int] | None) -> Shape:
    kind = pick(values, 'shape_type', str, 'polygon')
    if kind == 'mask':
        return _mask(values, size)
    if kind not in FIGURES:
        raise AnnotationError(f'shape_type {shortened(kind, 40)}: expected one of '
                              f'{", ".join(FIGURES)}, mask')
    figure, fewest, most = FIGURES[kind]
    with told_of(kind):
        return Drawn(points_of(pick(values, 'points', list), fewest, most), figure)


def _mask(values: dict, size: tuple[int, int] | None) -> PngMask:
    """Return a mask whose points are its first and its last pixel."""
    with told_of('mask'):
        corners = points_of(pick(values, 'points', list), 2, 2)
        if np.abs(corners).max() > 1 << 30:
            raise AnnotationError('its points lie outside of any image')
        (left, top), (right, bottom) = corners.astype(int).tolist()
        data = from_base64(pick(values, 'mask', str))
        rows, columns = png_size(data)
        if (rows, columns) != (bottom - top + 1, right - left + 1):
            raise AnnotationError(f'a PNG of {columns}×{rows} pixels, but its points say '
                                  f'{right - left + 1}×{bottom - top + 1}')
        height, width = size or (bottom + 1, right + 1)
        if min(left, top) < 0 or right >= width or bottom >= height:
            raise AnnotationError(f'columns {left}..{right} and rows {top}..{bottom} do not fit '
                                  f'into an image of {width}×{height}')
        return PngMask(data, left, top)


def _with_holes(regions: Sequence[Region], groups: Sequence[object]) -> list[Region]:
    """
    Return regions, polygons within another of their group and label being holes of that one.

    To labelme a group is one thing in several parts, so that a part within another would say
    nothing: who draws one means a hole. A polygon within a hole is a part again.
    """
    families: dict[tuple, dict[int, Ring]] = defaultdict(dict)
    for index, (region, group) in enumerate(zip(regions, groups, strict=True)):
        shape = region.shape
        if isinstance(group, int) and isinstance(shape, Drawn) and shape.figure == 'polygon':
            families[group, region.label][index] = shape.points
    holes: dict[int, list[Ring]] = defaultdict(list)
    gone = set()
    for family in families.values():
        indices, rings = list(family), list(family.values())
        for inner, outer in _nested(rings):
            gone.add(indices[inner])
            holes[indices[outer]].append(rings[inner])
    return [Region(region.label, Drawn(region.shape.points, holes=tuple(holes[index])),
                   region.what)
            if index in holes and isinstance(region.shape, Drawn) else region
            for index, region in enumerate(regions) if index not in gone]


def _nested(rings: Sequence[Ring]) -> list[tuple[int, int]]:
    """Return which ring is a hole of which, by their indices."""
    if len(rings) < 2:
        return []
    low = np.array([ring.min(0) for ring in rings])
    high = np.array([ring.max(0) for ring in rings])
    around: list[list[int]] = []
    for index, ring in enumerate(rings):
        boxes = ((low < low[index]) & (high > high[index])).all(1).nonzero()[0]
        around.append([other for other in boxes.tolist() if _is_within(ring, rings[other])])
    # What is in an odd number of others is a hole, of the innermost, which itself is in the most.
    return [(index, max(others, key=lambda other: len(around[other])))
            for index, others in enumerate(around) if len(others) % 2]


def _is_within(ring: Ring, other: Ring) -> bool:
    contour = other.astype(np.float32)
    return all(cv2.pointPolygonTest(contour, (float(x), float(y)), measureDist=False) > 0
               for x, y in ring)
