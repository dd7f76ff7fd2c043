"""Masks → tasks for Label Studio, with brushes as predictions."""

import json
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from univseg_core.annotations.label_studio.brush import packed
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.files import write_text

CONTROL, IMAGE = 'label', 'image'
"""The names of the labelling interface's controls, and of the data that it shows."""


class TaskWriter:
    """
    Writes tasks.json, to be imported, and label_config.xml, to be pasted.

    A task's image is that of the storage images/, which Label Studio is to serve itself: its
    address is /data/local-files/?d=images/NAME. Its prediction has a brush for each class.
    """

    def __init__(self, folder: Path, domain: Domain):
        self.folder, self.domain = folder, domain
        self._is_first = True

    def add(self, frame: Path, mask: np.ndarray, confidence: float) -> None:
        """Add a frame's task; its prediction's score is the confidence. See `formats.Writer`."""
        results = [self._result(int(index), mask == index) for index in np.unique(mask)
                   if index != IGNORE_INDEX]
        address = f'/data/local-files/?d={quote(f"images/{frame.name}")}'
        task = {'data': {IMAGE: address},
                'predictions': [{'model_version': f'univseg {self.domain.name}',
                                 'score': round(float(confidence), 4), 'result': results}]}
        # One after the other: the run lengths of all frames together may not fit into memory.
        with (self.folder / 'tasks.json').open('a', encoding='utf-8') as file:
            file.write(('[' if self._is_first else ',\n') + json.dumps(task, ensure_ascii=False))
        self._is_first = False

    def finish(self) -> None:
        """Close the list of tasks, and write the labelling interface with names and colours."""
        with (self.folder / 'tasks.json').open('a', encoding='utf-8') as file:
            file.write('[]\n' if self._is_first else ']\n')
        write_text(self.folder / 'label_config.xml', label_config(self.domain))

    def _result(self, index: int, region: np.ndarray) -> dict:
        height, width = region.shape
        return {'id': f'class{index}', 'type': 'brushlabels', 'from_name': CONTROL,
                'to_name': IMAGE, 'original_width': width, 'original_height': height,
                'image_rotation': 0,
                'value': {'format': 'rle', 'rle': list(packed(region)),
                          'brushlabels': [self.domain.classes[index]]}}


def label_config(domain: Domain) -> str:
    """Return the XML of a labelling interface with brushes of a domain's classes and colours."""
    labels = ''.join(
        f'    <Label value={quoteattr(name)} background="#{red:02x}{green:02x}{blue:02x}"/>\n'
        for name, (red, green, blue) in zip(domain.classes, domain.palette, strict=True))
    return (f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}" zoom="true"/>\n'
            f'  <BrushLabels name="{CONTROL}" toName="{IMAGE}">\n{labels}  </BrushLabels>\n'
            '</View>\n')
