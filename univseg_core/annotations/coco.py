"""
COCO's JSON of instances, as CVAT, Roboflow and others write it, too.

It is read here, one item of its lists after the other: pycocotools keeps a whole file as Python's
lists, and takes for granted what it says. Polygons become pixels by pycocotools.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
import logging
from pathlib import Path
import re
from typing import Any

from univseg_core.annotations.json_files import as_object, checked_size, files_below, pick
from univseg_core.annotations.problems import Problems, quoted
from univseg_core.annotations.regions import (
    AnnotatedImage,
    AnnotationError,
    Polygons,
    Region,
    Ring,
    ring,
    Shape,
)
from univseg_core.annotations.run_lengths import ColumnRuns
from univseg_core.errors import first_few, shortened
from univseg_core.files.json_items import read_items
from univseg_core.files.records import RecordError

ENDS = 1 << 16
"""Bytes at both ends of a file by which it is recognised."""

OF_ROBOFLOW = re.compile(r'(.+)_(jpe?g|png|bmp|webp|tiff?)\.rf\.[0-9A-Za-z]+\.\w+')
"""What Roboflow makes of an image's name: street_jpg.rf.0a1b2c.jpg."""

BESIDE_INSTANCES = ('captions', 'person_keypoints', 'panoptic', 'stuff')
"""How files begin that COCO has of the same images, in one folder with instances….json."""

log = logging.getLogger(__name__)

Id = int | str


def is_coco(path: Path) -> bool:
    """Return whether a file is COCO's JSON, by its ends, or a folder has one."""
    if path.is_dir():
        return bool(_files(path))
    if path.suffix.lower() != '.json' or not path.is_file():
        return False
    try:
        with path.open('rb') as file:
            head = file.read(ENDS)
            file.seek(max(len(head), path.stat().st_size - ENDS))
            ends = head + file.read(ENDS)
    except OSError:
        return False
    return head.lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'{') and all(
        any(f'"{key}"'.encode() in ends for key in keys)
        for keys in (('images', 'file_name', 'image_id'),
                     ('annotations', 'categories', 'category_id')))


def _files(folder: Path) -> list[Path]:
    """Return the COCO files below a folder, less what COCO itself has beside its instances."""
    found = [path for path in files_below(folder) if is_coco(path)]
    of_instances = {path.parent for path in found if path.name.startswith('instances')}
    return [path for path in found if not (path.parent in of_instances
                                           and path.name.startswith(BESIDE_INSTANCES))]


def read_coco(path: Path) -> Iterator[AnnotatedImage]:
    """
    Yield the images of a COCO file, or of those in a folder.

    Where annotations overlap, the later one in the file counts: COCO has no order of its own. A
    crowd is a region as any other; annotations of a box or of keypoints alone are left out, and
    their number goes to the log.

    Raises AnnotationError, before an image of the file comes, for all that is wrong with it, with
    the ids of images, categories and annotations.
    """
    files = _files(path) if path.is_dir() else [path]
    if not files:
        raise AnnotationError(f'{path}: expected a COCO file, or a folder of some')
    for file in files:
        yield from _read(file).annotated_images()


@dataclass(frozen=True)
class _Annotation:
    image: Id
    category: Id
    shape: Shape
    what: str


@dataclass
class _Contents:
    """What a file says, before it is known which annotation is of which image and category."""

    source: Path
    images: dict[Id, AnnotatedImage] = field(default_factory=dict)
    categories: dict[Id, str] = field(default_factory=dict)
    annotations: list[_Annotation] = field(default_factory=list)
    without_shape: int = 0

    def add(self, key: str, entry: Any, what: str) -> None:
        """Take an entry of the list `key`; raise AnnotationError for what it should not be."""
        entry = as_object(entry)
        if key == 'annotations':
            self._add_annotation(entry, what)
            return
        number = _id(entry, 'id')
        if number in self.images if key == 'images' else number in self.categories:
            raise AnnotationError('another one has this id already')
        if key == 'images':
            self.images[number] = self._image(entry)
        else:
            self.categories[number] = pick(entry, 'name', str)

    def _image(self, entry: dict) -> AnnotatedImage:
        name = pick(entry, 'file_name', str)
        size = None
        if entry.get('height') is not None or entry.get('width') is not None:
            size = _size([entry.get('height'), entry.get('width')])
        also = [found[1] + '.' + found[2] for found in [OF_ROBOFLOW.fullmatch(name)] if found]
        extra = entry.get('extra')
        if isinstance(extra, dict) and isinstance(extra.get('name'), str):
            also.append(extra['name'])  # Roboflow's, too
        return AnnotatedImage(name, size, (), self.source, tuple(also))

    def _add_annotation(self, entry: dict, what: str) -> None:
        if 'segments_info' in entry:
            raise AnnotationError('this is COCO of panoptic segmentation, which is not read; '
                                  'expected instances')
        image, category = _id(entry, 'image_id'), _id(entry, 'category_id')
        shape = _shape(entry.get('segmentation'))
        if shape is None:
            self.without_shape += 1
        else:
            self.annotations.append(_Annotation(image, category, shape, what))

    def annotated_images(self) -> Iterator[AnnotatedImage]:
        """Yield the images with their regions, the undermost first."""
        of_image: dict[Id, list[Region]] = {number: [] for number in self.images}
        problems = Problems(self.source)
        for each in self.annotations:
            try:
                region = self._region(each)
            except AnnotationError as error:
                problems.add(f'{each.what}: {error}')
            else:
                of_image[each.image].append(region)
        problems.tell()
        for number, image in self.images.items():
            yield replace(image, regions=tuple(of_image[number]))

    def _region(self, each: _Annotation) -> Region:
        image = self.images.get(each.image)
        if image is None:
            raise AnnotationError(f'its image {each.image!r} is none of the file')
        if each.category not in self.categories:
            known = [f'{number} {quoted(name)}' for number, name in self.categories.items()]
            raise AnnotationError(f'its category {each.category!r} is none of the file, which '
                                  f'has {first_few(known, 10)}')
        if isinstance(each.shape, ColumnRuns) and image.size is not None:
            each.shape.check(*image.size)
        return Region(self.categories[each.category], each.shape, each.what)


def _read(path: Path) -> _Contents:
    contents, problems, count = _Contents(path), Problems(path), 0
    of = {'images': 'image', 'categories': 'category', 'annotations': 'annotation'}
    try:
        for key, entry in read_items(path):
            if key not in of:
                continue
            count += 1
            number = entry.get('id') if isinstance(entry, dict) else None
            what = of[key] + (f' {number}' if isinstance(number, int | str)
                              else f', item {count} of the lists')
            try:
                contents.add(key, entry, what)
            except AnnotationError as error:
                problems.add(f'{what}: {error}')
    except RecordError as error:
        raise AnnotationError(f'{path}: {error}') from None
    except OSError as error:
        raise AnnotationError(f'{path}: cannot be read: {error.strerror}') from error
    _check_names(contents, problems)
    problems.tell()
    if not contents.images:
        raise AnnotationError(f'{path}: no images; expected COCO, with lists of images, '
                              'categories and annotations')
    if contents.without_shape and not contents.annotations:
        raise AnnotationError(f'{path}: none of {contents.without_shape} annotations has a '
                              'segmentation; expected polygons or run lengths, not boxes alone')
    if contents.without_shape:
        log.warning('%s: %d annotations have no segmentation, such as boxes alone, and are left '
                    'out', path, contents.without_shape)
    return contents


def _check_names(contents: _Contents, problems: Problems) -> None:
    seen: dict[str, Id] = {}
    for number, image in contents.images.items():
        if image.image in seen:
            problems.add(f'images {seen[image.image]} and {number} are of the same file, '
                         f'{quoted(image.image, 300)}')
        seen[image.image] = number


def _id(entry: dict, key: str) -> Id:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise AnnotationError(f'expected {key}, a whole number, got {shortened(repr(value), 40)}')
    return value


def _size(values: Any) -> tuple[int, int]:
    """Return height and width, each a number above 0 and both within limits.PIXELS."""
    if not isinstance(values, list) or len(values) != 2 or not all(
            type(value) in (int, float) and value > 0 and value % 1 == 0 for value in values):
        raise AnnotationError('expected a height and width in pixels, got '
                              f'{shortened(repr(values), 40)}')
    return checked_size(*map(int, values))


def _shape(segmentation: Any) -> Shape | None:
    """Return where an annotation lies; None where it has no segmentation."""
    if segmentation is None or segmentation in ([], [[]]):
        return None
    if isinstance(segmentation, list):
        return Polygons([_ring(part) for part in segmentation])
    if not isinstance(segmentation, dict) or not isinstance(segmentation.get('counts'),
                                                            str | list):
        raise AnnotationError('expected a segmentation of polygons, [[x1, y1, x2, …], …], or of '
                              'run lengths, {"size": …, "counts": …}, got '
                              f'{shortened(repr(segmentation), 40)}')
    counts = segmentation['counts']
    return ColumnRuns(counts if isinstance(counts, str) else tuple(counts),
                      *_size(segmentation.get('size')))


def _ring(part: Any) -> Ring:
    if not isinstance(part, list) or len(part) % 2 or not all(
            type(value) in (int, float) for value in part):
        raise AnnotationError('expected a polygon of numbers x1, y1, x2, y2, …, got '
                              f'{shortened(repr(part), 40)}')
    return ring([*zip(part[::2], part[1::2], strict=True)])
