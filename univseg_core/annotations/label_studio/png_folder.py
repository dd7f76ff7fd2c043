"""
Label Studio's folders of PNGs, one for each label of an annotation.

task-3-annotation-7-by-1-tag-tree-0.png tells the task, not the image: that is in an export of the
same project as JSON or JSON-MIN, which is to lie in the folder or beside it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
import logging
from pathlib import Path
import re

import numpy as np
from univseg_core.annotations.json_files import as_object, head_of, pick, read_entries, told_of
from univseg_core.annotations.label_studio.image_names import address_of, image_names
from univseg_core.annotations.label_studio.tasks import (
    annotations_of,
    data_of,
    is_export,
    label_of,
)
from univseg_core.annotations.pngs import COVERED, png_size, PngMask
from univseg_core.annotations.regions import AnnotatedImage, AnnotationError, Region
from univseg_core.errors import first_few
from univseg_core.pictures.picture_files import file_bytes, image_files, ImageError

log = logging.getLogger(__name__)

# Who annotated is letters, digits, @ and dots alone.
NAME = re.compile(r'task-(?P<task>.+?)-annotation-(?P<annotation>[^-]+)-by-(?P<by>[^-]*)-'
                  r'(?P<label>.+)-(?P<number>\d+)\.png', re.IGNORECASE)
"""Of a PNG; before the label is the name of the control that it was chosen with."""

HOW = ('export the project once more, as JSON or JSON-MIN, and put that file beside the folder: '
       'the names of the PNGs tell the tasks, and not the images')


@dataclass(frozen=True)
class PngFile:
    """A mask that a PNG file holds; see `PngMask`."""

    path: Path

    def size(self) -> tuple[int, int]:
        """Return its height and width."""
        with told_of(self.path.name):
            return png_size(self._data())

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return which pixels it covers; see `regions.Shape`."""
        with told_of(self.path.name):
            data = self._data()
            if (size := png_size(data)) != (height, width):
                raise AnnotationError(f'{size[1]}×{size[0]} pixels, but {width}×{height} were '
                                      'expected')
            return PngMask(data, fewest=COVERED).mask(height, width)

    def _data(self) -> bytes:
        try:
            return file_bytes(self.path)
        except ImageError as error:
            raise AnnotationError(str(error)) from None


def is_png_folder(path: Path) -> bool:
    """Return whether a folder has PNGs that are called after tasks."""
    return path.is_dir() and any(NAME.fullmatch(file.name) for file in image_files(path))


def read_pngs(folder: Path) -> Iterator[AnnotatedImage]:
    """
    Return the images of a folder of PNGs that are called after tasks.

    Of several annotations of a task, the one counts that does in the export, of which it tells
    which is the ground truth and which were skipped; where there are no PNGs of any that it has,
    the one of the highest number, which is the latest.
    Raises AnnotationError where no export tells the images, or not that of a task.
    """
    files: dict[str, dict[str, list[tuple[Path, re.Match]]]] = defaultdict(
        lambda: defaultdict(list))
    others = []
    for file in image_files(folder):
        if match := NAME.fullmatch(file.name):
            files[match['task']][match['annotation']].append((file, match))
        else:
            others.append(file.name)
    if others:
        log.warning('%s: %d pictures are not called as Label Studio calls its PNGs, and are left '
                    'alone: %s', folder, len(others), first_few(others))
    export = _Export()
    for file in _exports(folder):
        for task in read_entries(file):
            with told_of(file):
                export.add(as_object(task), files.keys())
    several = [f'task {task}' for task in sorted(files, key=_in_order) if len(files[task]) > 1]
    if several:
        log.warning('%s: of %d tasks with several annotations, the ground truth or else the '
                    'latest is taken: %s', folder, len(several), first_few(several))

    def image(task: str) -> AnnotatedImage:
        with told_of(f'{folder}: task {task}'):
            return export.image(task, files[task][export.counts(task, files[task])], folder)

    return map(image, sorted(files, key=_in_order))


def _exports(folder: Path) -> list[Path]:
    """Return the exports in a folder or beside it; raise AnnotationError where there is none."""
    found = [file for place in (folder, folder.resolve().parent)
             for file in sorted(place.glob('*.json')) if is_export(head_of(file))]
    if not found:
        raise AnnotationError(f'{folder}: no export as JSON is in it or beside it; {HOW}')
    return found


@dataclass
class _Export:
    """
    What exports say of tasks: their images' names, all controls and all labels.

    `annotations` are the numbers of each task's, the one that counts last; `brushed` are the
    labels of each, by task and number, that a brush painted: of these alone there are PNGs.
    """

    names: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    annotations: dict[str, list[str]] = field(default_factory=dict)
    controls: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    brushed: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def add(self, task: dict, wanted: Collection[str]) -> None:
        """Take note of a task if it is wanted, by its number."""
        number = str(task.get('id'))
        if number not in wanted:
            return
        with told_of(f'task {number}'):
            names = image_names(address_of(data_of(task)))
            if self.names.setdefault(number, names) != names:
                raise AnnotationError(f'of {names[0]} here, and of {self.names[number][0]} in '
                                      'another place')
            annotations = annotations_of(task)
            known = self.annotations.setdefault(number, [])
            known += [str(annotation.get('id')) for annotation in annotations]
            for annotation in annotations:
                brushed = self.brushed.setdefault((number, str(annotation.get('id'))), set())
                for result in pick(annotation, 'result', list, []):
                    if label := label_of(as_object(result)):
                        self.labels.add(label)
                        self.controls.add(str(result.get('from_name')))
                        if 'brushlabels' in result['value']:
                            brushed.add(label)

    def counts(self, task: str, annotations: Iterable[str]) -> str:
        """Return which of a task's annotations counts, of those that there are PNGs of."""
        known = self.annotations.get(task, [])
        return max(annotations, key=lambda each: (
            len(known) - known[::-1].index(each) if each in known else 0, _in_order(each)))

    def image(self, task: str, files: list[tuple[Path, re.Match]], folder: Path) -> AnnotatedImage:
        """Return the image of a task whose PNGs of one annotation are given."""
        if task not in self.names:
            raise AnnotationError(f'no export as JSON has it; {HOW}')
        image, also = self.names[task]
        regions = [Region(self._label(match['label']), PngFile(file), file.name)
                   for file, match in files]
        annotation = files[0][1]['annotation']
        there = {_in_file_name(region.label) for region in regions}
        if missing := [label for label in sorted(self.brushed.get((task, annotation), ()))
                       if _in_file_name(label) not in there]:
            raise AnnotationError(f'its annotation {annotation} has {first_few(missing)}, too, of '
                                  'which there is no PNG')
        return AnnotatedImage(image, _without_overlap(regions), tuple(regions), folder, also)

    def _label(self, text: str) -> str:
        """Return the label in a text CONTROL-LABEL, each of which may have hyphens."""
        if known := [each for each in self.labels if text.endswith(f'-{_in_file_name(each)}')]:
            return max(known, key=len)
        controls = [each for each in self.controls if text.startswith(f'{each}-')]
        control = max(controls, key=len) if controls else text.partition('-')[0]
        return text[len(control) + 1:] or text


def _without_overlap(regions: list[Region]) -> tuple[int, int]:
    """Return the size of PNGs; raise AnnotationError where a pixel is of two labels."""
    first = regions[0].shape
    assert isinstance(first, PngFile)
    size = first.size()
    labels = sorted({region.label for region in regions})
    owner = np.full(size, -1, np.int32)
    for region in regions:
        mask, index = region.shape.mask(*size), labels.index(region.label)
        if clash := np.count_nonzero(other := mask & (owner >= 0) & (owner != index)):
            raise AnnotationError(f'{clash} pixels are of {labels[owner[other].max()]} and '
                                  f'{region.label}: PNGs do not tell which is on top; bring in '
                                  'the export as JSON instead, which does')
        owner[mask] = index
    return size


def _in_file_name(label: str) -> str:
    return label.replace('/', '-').replace('\\', '-')


def _in_order(number: str) -> tuple[int, str]:
    """Return by what numbers in texts are sorted."""
    return len(number), number
