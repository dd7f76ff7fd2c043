"""
Masks → COCO's JSON of instances: annotations/instances_default.json, as CVAT calls it.

COCO has no void, and no holes in polygons: void is what no annotation covers, and a ring goes to
a hole through a slit.
"""

from collections.abc import Callable, Iterator
import json
from pathlib import Path
from typing import Any

import numpy as np
from univseg_core.annotations.outlines import class_outlines, enclosed_area
from univseg_core.annotations.regions import coco_masks
from univseg_core.annotations.slits import one_ring
from univseg_core.domains import Domain, IGNORE_INDEX

NAME = 'annotations/instances_default.json'

FIRST_CATEGORY = 1
"""The id of class 0. Datumaro, and with it CVAT, takes 0 for no category at all."""

Annotations = Callable[[np.ndarray], Iterator[tuple[int, dict[str, Any]]]]
"""A mask (H, W) uint8 → the class index of each annotation, and what COCO wants to know of it."""


def class_masks(mask: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield an annotation of each class, run lengths as COCO packs them: exact, and small."""
    coco = coco_masks()
    for index in np.unique(mask[mask != IGNORE_INDEX]).tolist():
        packed = coco.encode(np.asfortranarray(mask == index, np.uint8))
        yield index, {'segmentation': {'size': list(mask.shape),
                                       'counts': packed['counts'].decode()},
                      'area': int(coco.area(packed)), 'bbox': coco.toBbox(packed).tolist(),
                      'iscrowd': 1}  # which in COCO says run lengths, and no single thing


def class_polygons(mask: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield an annotation of each piece of a class, a polygon with few corners: to be edited."""
    for index, outline in class_outlines(mask):
        area = enclosed_area(outline.outer) - sum(map(enclosed_area, outline.holes))
        left, top = outline.outer.min(0)
        width, height = outline.outer.max(0) - (left, top)
        yield index, {'segmentation': [one_ring(outline).ravel().tolist()], 'area': area,
                      'bbox': [left, top, width, height], 'iscrowd': 0}


class CocoFile:
    """Writes masks into a COCO file, each as it comes; `annotations` makes them of a mask."""

    def __init__(self, folder: Path, domain: Domain, annotations: Annotations):
        self._path = folder / NAME
        self._annotations = annotations
        self._images: list[dict[str, Any]] = []
        self._count = 0
        categories = [{'id': number, 'name': name, 'supercategory': ''}
                      for number, name in enumerate(domain.classes, FIRST_CATEGORY)]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(f'{{"categories": {json.dumps(categories)},\n"annotations": [')

    def add(self, frame: Path, mask: np.ndarray, confidence: float) -> None:
        """Add a frame's mask (H, W) uint8; COCO has no place for a confidence."""
        height, width = mask.shape
        image = {'id': len(self._images) + 1, 'file_name': frame.name, 'height': height,
                 'width': width}
        self._images.append(image)
        with self._path.open('a') as file:
            for index, values in self._annotations(mask):
                self._count += 1
                entry = {'id': self._count, 'image_id': image['id'],
                         'category_id': index + FIRST_CATEGORY, **values}
                file.write(f'{"," * (self._count > 1)}\n{json.dumps(entry)}')

    def finish(self) -> None:
        """Write the list of images, which ends the file."""
        with self._path.open('a') as file:
            file.write(f'],\n"images": {json.dumps(self._images)}}}\n')


def write_coco(folder: Path, domain: Domain) -> CocoFile:
    """Return what writes masks into a folder as run lengths."""
    return CocoFile(folder, domain, class_masks)


def write_coco_polygons(folder: Path, domain: Domain) -> CocoFile:
    """Return what writes masks into a folder as polygons."""
    return CocoFile(folder, domain, class_polygons)
