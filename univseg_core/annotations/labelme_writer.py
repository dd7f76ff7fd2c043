"""Masks → labelme's JSON, one file an image, as polygons one over another."""

import json
from pathlib import Path

import numpy as np
from univseg_core.annotations.no_class import HOLE, IGNORED
from univseg_core.annotations.regions import AnnotationError
from univseg_core.annotations.stacked_outlines import stacked_outlines
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.files import write_text

VERSION = '5.5.0'
"""The one whose files these are like; those from 4 to 6 read them."""


class LabelmeWriter:
    """
    Writes images/NAME.json beside each image, where labelme looks for it, and labels.txt.

    Shapes lie as labelme's own `shapes_to_label` paints them, the larger ones first. What is void
    within a region is a shape of the label _background_; other void has no shape.

    Raises AnnotationError for a class that is called as labelme calls none.
    """

    def __init__(self, folder: Path, domain: Domain):
        if reserved := {HOLE, IGNORED} & set(domain.classes):
            raise AnnotationError(f'domain {domain.name}: to labelme, {reserved.pop()} is no '
                                  'class')
        self.folder, self.domain = folder, domain

    def add(self, frame: Path, mask: np.ndarray, confidence: float) -> None:
        """Write a frame's file; `confidence` has no place in it. See `formats.Writer`."""
        height, width = mask.shape
        shapes = [{'label': HOLE if index == IGNORE_INDEX else self.domain.classes[index],
                   'points': ring.round(2).tolist(), 'group_id': None, 'description': '',
                   'shape_type': 'polygon', 'flags': {}, 'mask': None}
                  for index, ring in stacked_outlines(mask)]
        values = {'version': VERSION, 'flags': {}, 'shapes': shapes, 'imagePath': frame.name,
                  'imageData': None, 'imageHeight': height, 'imageWidth': width}
        write_text(self.folder / 'images' / f'{frame.stem}.json',
                   json.dumps(values, ensure_ascii=False, indent=1))

    def finish(self) -> None:
        """Write labels.txt, for labelme's option --labels."""
        write_text(self.folder / 'labels.txt',
                   ''.join(f'{label}\n' for label in (IGNORED, HOLE, *self.domain.classes)))
