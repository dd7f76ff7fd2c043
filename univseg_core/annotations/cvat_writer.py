"""
Masks → the XML of a CVAT task: annotations.xml, "CVAT for images 1.1".

cvat_labels.json is what CVAT's constructor of labels takes as *Raw*.
"""

from collections.abc import Callable, Iterator
import json
from pathlib import Path
import re
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from univseg_core.annotations.outlines import class_outlines
from univseg_core.annotations.regions import AnnotationError
from univseg_core.annotations.run_lengths import lengths_of
from univseg_core.annotations.slits import one_ring
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.files import write_text

NAME, LABELS = 'annotations.xml', 'cvat_labels.json'

NOT_IN_XML = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')

Shapes = Callable[[np.ndarray], Iterator[tuple[int, str, dict[str, object]]]]
"""A mask (H, W) uint8 → of each shape the class index, CVAT's kind, and attributes of its own."""


def class_masks(mask: np.ndarray) -> Iterator[tuple[int, str, dict[str, object]]]:
    """Yield a mask of each class, for CVAT's brush: exact."""
    for index in np.unique(mask[mask != IGNORE_INDEX]).tolist():
        covered = mask == index
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        part = covered[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        height, width = part.shape
        yield index, 'mask', {'rle': ', '.join(map(str, lengths_of(part.ravel()))),
                              'left': columns[0], 'top': rows[0], 'width': width,
                              'height': height}


def class_polygons(mask: np.ndarray) -> Iterator[tuple[int, str, dict[str, object]]]:
    """Yield a polygon of each piece of a class; CVAT has no holes, to which slits lead."""
    for index, outline in class_outlines(mask):
        points = (f'{x:.2f},{y:.2f}' for x, y in one_ring(outline))
        yield index, 'polygon', {'points': ';'.join(points)}


class CvatFile:
    """Writes masks into a CVAT file, each as it comes; `shapes` makes them of a mask."""

    def __init__(self, folder: Path, domain: Domain, shapes: Shapes):
        self._path, self._domain, self._shapes = folder / NAME, domain, shapes
        self._count = 0
        for name in domain.classes:
            _check(name, f'domain {domain.name}: the class')
        labels = [{'name': name, 'color': '#{:02x}{:02x}{:02x}'.format(*colour), 'attributes': []}
                  for name, colour in zip(domain.classes, domain.palette, strict=True)]
        write_text(folder / LABELS, json.dumps(labels, indent=1) + '\n')
        named = ''.join(f'<label><name>{escape(str(label["name"]))}</name><color>{label["color"]}'
                        '</color><attributes></attributes></label>\n' for label in labels)
        self._path.write_text(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
            f'<meta><task><labels>\n{named}</labels></task></meta>\n', encoding='utf-8')

    def add(self, frame: Path, mask: np.ndarray, confidence: float) -> None:
        """Add a frame's mask (H, W) uint8; CVAT has no place for a confidence."""
        _check(frame.name, 'the frame')
        height, width = mask.shape
        with self._path.open('a', encoding='utf-8') as file:
            file.write(_element('image', {'id': self._count, 'name': frame.name, 'width': width,
                                          'height': height}))
            for index, kind, values in self._shapes(mask):
                file.write(_element(kind, {
                    'label': self._domain.classes[index], 'source': 'auto', 'occluded': 0,
                    **values, 'z_order': 0}) + f'</{kind}>\n')
            file.write('</image>\n')
        self._count += 1

    def finish(self) -> None:
        """End the file."""
        with self._path.open('a', encoding='utf-8') as file:
            file.write('</annotations>\n')


def _element(name: str, attributes: dict[str, object]) -> str:
    texts = (f' {key}={quoteattr(str(value))}' for key, value in attributes.items())
    return f'<{name}{"".join(texts)}>\n'


def _check(name: str, what: str) -> None:
    if NOT_IN_XML.search(name):
        raise AnnotationError(f'{what} {name!r} has a character that XML cannot hold')


def write_cvat(folder: Path, domain: Domain) -> CvatFile:
    """Return what writes masks into a folder as masks of CVAT."""
    return CvatFile(folder, domain, class_masks)


def write_cvat_polygons(folder: Path, domain: Domain) -> CvatFile:
    """Return what writes masks into a folder as polygons of CVAT."""
    return CvatFile(folder, domain, class_polygons)
