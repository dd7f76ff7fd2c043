"""Label Studio's exports as JSON and JSON-MIN: lists of tasks."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
import json
import logging
from pathlib import Path
import re
from typing import Any

import numpy as np
from univseg_core.annotations.json_files import (
    as_object,
    checked_size,
    files_of,
    head_of,
    pick,
    points_of,
    read_entries,
    told_of,
)
from univseg_core.annotations.label_studio.brush import Brush
from univseg_core.annotations.label_studio.image_names import address_of, image_names
from univseg_core.annotations.pngs import from_base64, png_size, PngMask
from univseg_core.annotations.problems import quoted
from univseg_core.annotations.regions import (
    AnnotatedImage,
    AnnotationError,
    Polygons,
    Region,
    Shape,
)
from univseg_core.errors import first_few, shortened

log = logging.getLogger(__name__)

TASK_KEYS = re.compile(r'"(annotations|completions|predictions|rle|original_width|annotation_id)"'
                       r'\s*:')
"""What some task at the beginning of a file has, and no other tool's lists."""

PNG_START = 'data:image/png;base64,'

ELLIPSE_CORNERS = 128

MARGIN = 1
"""Percent by which a shape may lie outside of its image: the tool rounds."""


def is_export(head: str) -> bool:
    """Return whether a text begins as the list of tasks of an export."""
    return re.match(r'\[\s*\{', head) is not None and TASK_KEYS.search(head) is not None


def read_tasks(path: Path) -> Iterator[AnnotatedImage]:
    """
    Return the images of the annotated tasks of an export, or of those below a folder.

    Of several annotations of a task, the one that is marked as ground truth counts, or else the
    latest; those that were skipped and predictions do not. The log says how many tasks have
    several. Raises AnnotationError, which names the file, the task and the result, for what is
    wrong with them, or where no task of any file is annotated; what comes behind it can still be
    read.
    """
    exports = [_Export(file) for file in files_of(path, is_export, 'Label Studio')]
    return chain(chain.from_iterable(map(_images, exports)), _end(path, exports))


def _end(path: Path, exports: 'list[_Export]') -> Iterator[AnnotatedImage]:
    """Yield nothing; say of exports that were read what is to be said of those not annotated."""
    bare = [export for export in exports if export.is_whole and not export.annotated]
    if len(bare) == len(exports):
        predicted = sum(export.predicted for export in bare)
        why = (f'accept or submit the predictions of {predicted} first' if predicted
               else 'expected an export of a project, as JSON or JSON-MIN')
        raise AnnotationError(f'{path}: none of {sum(export.count for export in bare)} tasks has '
                              f'an annotation; {why}')
    for export in bare:
        log.warning('%s: none of %d tasks has an annotation; the file is left alone', export.file,
                    export.count)
    yield from ()


def _images(export: '_Export') -> Iterator[AnnotatedImage]:
    # filter and map go on behind an error, as a generator would not.
    return chain(filter(None, map(export.image, export.tasks())), export.end())


@dataclass
class _Export:
    """A file of tasks, and how many of them there have been."""

    file: Path
    count: int = 0
    annotated: int = 0
    predicted: int = 0
    several: list[str] = field(default_factory=list)
    is_whole: bool = False

    def tasks(self) -> Iterator[Any]:
        """Yield the tasks as they are."""
        if head_of(self.file).startswith('{'):
            raise AnnotationError(f'{self.file}: expected a list of tasks, got an object; export '
                                  'the project as JSON or JSON-MIN')
        for task in read_entries(self.file):
            self.count += 1
            yield task
        self.is_whole = True

    def image(self, values: Any) -> AnnotatedImage | None:
        """Return a task's annotated image; None without an annotation."""
        with told_of(f'{self.file}: entry {self.count}'):
            task = as_object(values)
        name = f'task {task["id"]}' if 'id' in task else f'entry {self.count}'
        with told_of(f'{self.file}: {shortened(name, 40)}'):
            annotations = annotations_of(task)
            self.predicted += bool(task.get('predictions'))
            self.annotated += bool(annotations)
            if len(annotations) > 1:
                self.several.append(shortened(name, 40))
            return _image(task, annotations[-1], self.file) if annotations else None

    def end(self) -> Iterator[AnnotatedImage]:
        """Yield nothing; say of the whole file what is to be said."""
        if self.several:
            log.warning('%s: of %d tasks with several annotations, the ground truth or else the '
                        'latest is taken: %s', self.file, len(self.several),
                        first_few(self.several))
        yield from ()


def annotations_of(task: dict) -> list[dict]:
    """
    Return a task's annotations that were not skipped, the one that counts last.

    A task of JSON-MIN is its own only annotation. Raises AnnotationError for what is no task.
    """
    if 'data' not in task:
        if task.get('annotation_id', True) is None:
            return []
        return [{'result': _results_of_min(task), 'id': task.get('annotation_id')}]
    annotations = []
    for entry in pick(task, 'annotations', list, None) or pick(task, 'completions', list, []):
        with told_of('annotations'):
            annotation = as_object(entry)
        if not (annotation.get('was_cancelled') or annotation.get('skipped')):
            annotations.append(annotation)
    return sorted(annotations, key=_weight)


def data_of(task: dict) -> dict:
    """Return what a task is of: the addresses of its images, by their names."""
    return pick(task, 'data', dict) if 'data' in task else task


def _weight(annotation: dict) -> tuple[bool, str]:
    time = annotation.get('updated_at') or annotation.get('created_at') or ''
    return bool(annotation.get('ground_truth')), str(time)


def _results_of_min(task: dict) -> list[dict]:
    """Return the results of a task of JSON-MIN, which holds those of each control by its name."""
    results = []
    for name, values in task.items():
        if isinstance(values, list):
            results += [{'value': value, 'from_name': name, **{
                key: value[key] for key in ('original_width', 'original_height') if key in value}}
                for value in values if isinstance(value, dict)]
    return results


def _image(task: dict, annotation: dict, file: Path) -> AnnotatedImage:
    image, also = image_names(address_of(data_of(task)))
    results = []
    for number, entry in enumerate(pick(annotation, 'result', list, []), 1):
        with told_of(f'result {number}'):
            results.append(as_object(entry))
    labelled = {_region_of(result) for result in results if label_of(result)}
    regions, sizes = [], set()
    for number, result in enumerate(results, 1):
        what = f'result {number}'
        with told_of(what):
            if not _is_area(result):
                continue
            label = label_of(result)
            if label is None:
                if _region_of(result) in labelled:  # told with the label by another result
                    continue
                raise AnnotationError('a region without a label')
            with told_of(quoted(label)):
                size = _size(result)
                regions.append(Region(label, _shape(result['value'], size), what))
            sizes.add(size)
    if len(sizes) > 1:
        raise AnnotationError('its results are of images of different sizes: '
                              + ', '.join(f'{width}×{height}' for height, width in sorted(sizes)))
    return AnnotatedImage(image, sizes.pop() if sizes else None, tuple(regions), file, also)


def label_of(result: dict) -> str | None:
    """Return a result's label, None without; raise AnnotationError for several."""
    value = result.get('value')
    for key, labels in value.items() if isinstance(value, dict) else ():
        if key.endswith('labels') and isinstance(labels, list) and labels:
            if len(labels) > 1 or not (isinstance(labels[0], str) and labels[0].strip()):
                raise AnnotationError('expected one label, got '
                                      f'{shortened(", ".join(map(str, labels)), 80)}')
            return labels[0]
    return None


def _region_of(result: dict) -> str:
    """Return what results of one region have in common: its id, or where it lies."""
    if result.get('id'):
        return str(result['id'])
    value = as_object(result.get('value', {}))
    return json.dumps({key: each for key, each in value.items()
                       if key != 'type' and not key.endswith('labels')}, sort_keys=True)


def _is_area(result: dict) -> bool:
    """Return whether a result says of pixels what they are, unlike a choice, text or key point."""
    value = result.get('value')
    if not isinstance(value, dict):
        return False
    if 'vertices' in value and label_of(result):
        raise AnnotationError('vectors are not read; expected brushes, polygons, rectangles, '
                              'ellipses or bit masks')
    return (bool(value.keys() & {'rle', 'points', 'imageDataURL', 'radiusX'})
            or value.keys() >= {'x', 'y', 'width', 'height'})


def _size(result: dict) -> tuple[int, int]:
    if result.get('image_rotation'):
        raise AnnotationError(f'image_rotation: {shortened(str(result["image_rotation"]), 20)}: '
                              'annotations of images that were turned are not read')
    if result.get('item_index'):
        raise AnnotationError('item_index: tasks of several images are not read')
    return checked_size(pick(result, 'original_height', int), pick(result, 'original_width', int))


def _shape(value: dict, size: tuple[int, int]) -> Shape:
    if 'rle' in value:
        numbers = pick(value, 'rle', list)
        try:
            data = bytes(numbers)
        except (TypeError, ValueError):
            raise AnnotationError('rle: expected a list of bytes, 0..255') from None
        return Brush(data, *size)
    if 'imageDataURL' in value:
        return _bit_mask(pick(value, 'imageDataURL', str), size)
    if 'points' in value:
        return Polygons([_pixels(points_of(pick(value, 'points', list), 3), size)])
    if 'radiusX' in value:
        keys = ['x', 'y', 'radiusX', 'radiusY']
        angles = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
        corners = np.column_stack([np.cos(angles), np.sin(angles)])
    else:
        keys = ['x', 'y', 'width', 'height']
        corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    measures = [[pick(value, key, float)] * 2 for key in keys]
    x, y, width, height = points_of(measures, 4)[:, 0]
    centre, extent = _pixels(np.array([(x, y), (width, height)]), size)
    return Polygons([centre + _turned(corners * extent, pick(value, 'rotation', float, 0))])


def _pixels(percent: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return points (n, 2) in pixels that are in percent of an image's size."""
    if percent.min() < -MARGIN or percent.max() > 100 + MARGIN:
        raise AnnotationError('expected percent of the image, 0..100, got '
                              f'{percent.min():g}..{percent.max():g}')
    return percent / 100 * size[::-1]


def _turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """Return points (n, 2) turned clockwise about the origin."""
    turn = np.radians(points_of([(degrees, 0)], 1)[0, 0])
    return points @ np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))])


def _bit_mask(address: str, size: tuple[int, int]) -> PngMask:
    if not address.startswith(PNG_START):
        raise AnnotationError(f'imageDataURL: expected {PNG_START}…, got '
                              f'{shortened(address, 40)}')
    data = from_base64(address.removeprefix(PNG_START))
    if (held := png_size(data)) != size:
        raise AnnotationError(f'a PNG of {held[1]}×{held[0]} pixels, but the image has '
                              f'{size[1]}×{size[0]}')
    return PngMask(data)
