"""
COCO's JSON of instances, as CVAT, Roboflow and others write it, too.

It is read here, one item of its lists after the other: pycocotools keeps a whole file as Python's
lists, and takes for granted what it says. Polygons become pixels by pycocotools.
"""

from abc import ABC, abstractmethod
from collections import Counter
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

BESIDE_INSTANCES = ('captions', 'person_keypoints', 'stuff')
"""How files begin that COCO has of the same images, in one folder with instances….json."""

SEGMENTS = b'"segments_info"'
"""What annotations of panoptic segmentation alone have."""

log = logging.getLogger(__name__)

Id = int | str


def is_coco(path: Path) -> bool:
    """Return whether a file is COCO's JSON of instances, by its ends, or a folder has one."""
    return bool(_files(path)) if path.is_dir() else _is_of(path, panoptic=False)


def is_panoptic(path: Path) -> bool:
    """Return whether a file is COCO's JSON of panoptic segmentation, by its ends."""
    return _is_of(path, panoptic=True)


def _is_of(path: Path, panoptic: bool) -> bool:
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
                     ('annotations', 'categories', 'category_id'))
    ) and (SEGMENTS in ends) == panoptic


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
        contents = _Instances(file)
        contents.read()
        if contents.without_shape and not contents.annotations:
            raise AnnotationError(f'{file}: none of {contents.without_shape} annotations has a '
                                  'segmentation; expected polygons or run lengths, not boxes '
                                  'alone')
        if contents.without_shape:
            log.warning('%s: %d annotations have no segmentation, such as boxes alone, and are '
                        'left out', file, contents.without_shape)
        yield from contents.annotated_images()


@dataclass
class Contents(ABC):
    """
    What a file says: its images and categories, and in the classes below this one, more.

    They are in any order in a file, so that what annotations refer to is known in its end.
    """

    source: Path
    images: dict[Id, AnnotatedImage] = field(default_factory=dict)
    categories: dict[Id, str] = field(default_factory=dict)

    def read(self) -> None:
        """Take all that the file has; raise AnnotationError for all that is wrong by itself."""
        problems, counts = Problems(self.source), Counter[str]()
        of = {'images': 'image', 'categories': 'category', 'annotations': 'annotation'}
        try:
            for key, entry in read_items(self.source):
                if key not in of:
                    continue
                counts[key] += 1
                what = of[key] + _which(entry, f', item {counts[key]} of {key}')
                try:
                    self._add(key, entry, what)
                except AnnotationError as error:
                    problems.add(f'{what}: {error}')
        except RecordError as error:
            raise AnnotationError(f'{self.source}: {error}') from None
        except OSError as error:
            raise AnnotationError(f'{self.source}: cannot be read: {error.strerror}') from error
        self._check_names(problems)
        problems.tell()
        if not self.images:
            raise AnnotationError(f'{self.source}: no images; expected COCO, with lists of '
                                  'images, categories and annotations')

    @abstractmethod
    def add_annotation(self, entry: dict, what: str) -> None:
        """Take an item of the annotations; raise AnnotationError for what it should not be."""

    def image(self, number: Id) -> AnnotatedImage:
        """Return the image of an id; raise AnnotationError where there is none."""
        if number not in self.images:
            raise AnnotationError(f'its image {number!r} is none of the file')
        return self.images[number]

    def category(self, number: Id) -> str:
        """Return the name of a category; raise AnnotationError where there is none."""
        if number not in self.categories:
            known = [f'{number} {quoted(name)}' for number, name in self.categories.items()]
            raise AnnotationError(f'its category {number!r} is none of the file, which has '
                                  f'{first_few(known, 10)}')
        return self.categories[number]

    def _add(self, key: str, entry: Any, what: str) -> None:
        entry = as_object(entry)
        if key == 'annotations':
            self.add_annotation(entry, what)
            return
        number = id_of(entry, 'id')
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

    def _check_names(self, problems: Problems) -> None:
        seen: dict[str, Id] = {}
        for number, image in self.images.items():
            if image.image in seen:
                problems.add(f'images {seen[image.image]} and {number} are of the same file, '
                             f'{quoted(image.image, 300)}')
            seen[image.image] = number


@dataclass(frozen=True)
class _Annotation:
    image: Id
    category: Id
    shape: Shape
    what: str


@dataclass
class _Instances(Contents):
    """A file of instances, before it is known which is of which image and category."""

    annotations: list[_Annotation] = field(default_factory=list)
    without_shape: int = 0

    def add_annotation(self, entry: dict, what: str) -> None:
        """Take an instance."""
        if 'segments_info' in entry:
            raise AnnotationError('this is of panoptic segmentation (--format coco-panoptic); '
                                  'expected instances')
        image, category = id_of(entry, 'image_id'), id_of(entry, 'category_id')
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
        image, label = self.image(each.image), self.category(each.category)
        if isinstance(each.shape, ColumnRuns) and image.size is not None:
            each.shape.check(*image.size)
        return Region(label, each.shape, each.what)


def _which(entry: Any, else_: str) -> str:
    """Return which item of a list one is: its id, or the image's that it is of."""
    for key, words in (('id', ''), ('image_id', ' of image'), ('file_name', ' of')):
        value = entry.get(key) if isinstance(entry, dict) else None
        if isinstance(value, int | str):
            return f'{words} {quoted(str(value), 300)}'
    return else_


def id_of(entry: dict, key: str) -> Id:
    """Return an id of an entry, a whole number or text; raise AnnotationError for another."""
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
