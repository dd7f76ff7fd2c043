"""
COCO's panoptic segmentation: a JSON of each image's segments, and PNGs that have their ids.

A pixel's id is red + 256 green + 65536 blue, 0 where nobody painted. It is read here: COCO's own
panopticapi compares such files and leaves reading them to its callers, and Datumaro is larger than
this package with all it needs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np
from univseg_core.annotations.coco import Contents, Id, id_of, is_coco, is_panoptic
from univseg_core.annotations.json_files import as_object, files_below, pick, told_of
from univseg_core.annotations.named_masks import counted, Labelled
from univseg_core.annotations.problems import Problems, quoted
from univseg_core.annotations.regions import AnnotatedImage, AnnotationError, Region
from univseg_core.errors import shortened
from univseg_core.pictures.images import read_image
from univseg_core.pictures.picture_files import ImageError

UNPAINTED, ALL_IDS = 0, 1 << 24
"""The id of no segment, and how many ids there are."""


def is_coco_panoptic(path: Path) -> bool:
    """Return whether a file is COCO's JSON of panoptic segmentation, or a folder has one."""
    return any(map(is_panoptic, files_below(path)))


def panoptic_of(folder: Path) -> Path | None:
    """Return the panoptic JSON whose PNGs a folder has, None of another folder."""
    file = folder.parent / f'{folder.name}.json'
    return file if is_panoptic(file) else None


def read_coco_panoptic(path: Path) -> Iterator[AnnotatedImage]:
    """
    Return the images of a panoptic JSON, or of those in a folder, each when its PNG is read.

    The PNGs of NAME.json are in NAME/ beside it, or where it is itself. Each segment is a region;
    no two overlap.

    Raises AnnotationError, before an image of the file comes, for all that is wrong with it, with
    the ids of images, categories and segments; and in its image's place for a PNG that is
    missing, damaged or of another size, or has an id that the JSON does not have.
    """
    below = files_below(path)
    # segments_info may be far from both ends of a file.
    files = [path] if path.is_file() else (
        [*filter(is_panoptic, below)] or [*filter(is_coco, below)])
    if not files:
        raise AnnotationError(f'{path}: expected a JSON of COCO with segments_info, or a folder '
                              'of some')
    return chain.from_iterable(map(_images_of, files))


def _images_of(file: Path) -> Iterator[AnnotatedImage]:
    contents = _Panoptic(file)
    contents.read()
    contents.check()
    # Unlike a generator, this goes on behind an error.
    return map(contents.annotated, contents.images)


@dataclass(frozen=True)
class _Segments:
    """The segments in an image's PNG: the category of each id."""

    image: Id
    png: str
    categories: dict[int, Id]


@dataclass
class _Panoptic(Contents):
    """A file of segments; `of_image` are known once they are checked."""

    annotations: list[_Segments] = field(default_factory=list)
    of_image: dict[Id, _Segments] = field(default_factory=dict)

    def add_annotation(self, entry: dict, what: str) -> None:
        """Take the segments of an image."""
        if 'segments_info' not in entry:
            raise AnnotationError('expected segments_info; --format coco is of instances')
        image, png = id_of(entry, 'image_id'), pick(entry, 'file_name', str)
        if PurePosixPath(png).is_absolute() or '..' in PurePosixPath(png).parts:
            raise AnnotationError('expected file_name, that of a PNG below the folder, got '
                                  f'{quoted(png)}')
        categories: dict[int, Id] = {}
        for segment in pick(entry, 'segments_info', list):
            number = pick(as_object(segment), 'id', int)
            with told_of(f'segment {shortened(str(number), 40)} of image {quoted(str(image))}'):
                if not UNPAINTED < number < ALL_IDS:
                    raise AnnotationError(f'expected an id of 1 to {ALL_IDS - 1}')
                if number in categories:
                    raise AnnotationError('another one has this id already')
                categories[number] = id_of(segment, 'category_id')
        self.annotations.append(_Segments(image, png, categories))

    def check(self) -> None:
        """Raise AnnotationError for all images and categories that it lacks, or no PNG at all."""
        problems = Problems(self.source)
        for each in self.annotations:
            try:
                image = self.image(each.image)
                with told_of(f'image {quoted(str(each.image))}, {quoted(image.image, 300)}'):
                    if self.of_image.setdefault(each.image, each) is not each:
                        raise AnnotationError('it has two lists of segments')
                    for number, category in each.categories.items():
                        with told_of(f'segment {number}'):
                            self.category(category)
            except AnnotationError as error:
                problems.add(f'{quoted(each.png, 300)}: {error}')
        problems.tell()
        if self.annotations and not any(map(self._png, self.annotations)):
            raise AnnotationError(f'{self.source}: none of its {len(self.annotations)} PNGs is '
                                  f'there; unpack them into {self.source.with_suffix("")}/')

    def annotated(self, number: Id) -> AnnotatedImage:
        """Return an image with its regions; raise AnnotationError for a PNG that is wrong."""
        image, segments = self.images[number], self.of_image.get(number)
        if segments is None:
            return image
        png = self._png(segments)
        if png is None:
            raise AnnotationError(f'{self.source}: the PNG of image {quoted(str(number))} is '
                                  f'missing; expected {quoted(segments.png, 300)} in '
                                  f'{self.source.with_suffix("")}/, or beside the JSON')
        try:
            red, green, blue = np.moveaxis(read_image(png).astype(np.int32), -1, 0)
        except ImageError as error:
            raise AnnotationError(str(error)) from error
        ids = red | green << 8 | blue << 16
        size = ids.shape[0], ids.shape[1]
        if image.size not in (None, size):
            raise AnnotationError(
                f'{png}: {size[1]}×{size[0]} pixels, but {self.source.name} says '
                f'{image.size[1]}×{image.size[0]} of its image {quoted(str(number))}')
        known = [UNPAINTED, *segments.categories]
        if (unknown := ids[~np.isin(ids, known)]).size:
            raise AnnotationError(f'{png}: segments that {self.source.name} has not: '
                                  f'{counted(unknown, str)} (an id is red + 256 green + 65536 '
                                  'blue of a pixel)')
        regions = tuple(Region(self.category(category), Labelled(ids, each), f'segment {each}')
                        for each, category in segments.categories.items())
        return replace(image, size=size, regions=regions, source=png)

    def _png(self, segments: _Segments) -> Path | None:
        places = [self.source.with_suffix('') / segments.png, self.source.parent / segments.png]
        try:
            return next(filter(Path.is_file, places), None)
        except OSError:  # such as a name that no disk takes
            return None
