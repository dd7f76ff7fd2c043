"""A domain, its masks as pictures, and folders of them."""

from pathlib import Path

import numpy as np
from PIL import Image
from univseg_core.datasets.folders import by_name
from univseg_core.domains import Domain
from univseg_core.labelling.label_import import import_labels
from univseg_core.labelling.returned_files import by_frame
from univseg_core.labelling.returned_labels import class_colours, LabelDecoder

YARD = Domain.create('yard', ['grass', 'wall', 'car'],
                     [(0, 200, 0), (90, 90, 90), (200, 0, 10)])
MASK = np.array([[0, 1, 2, 255], [2, 2, 1, 0]], np.uint8)
DECODER = LabelDecoder(YARD, class_colours(YARD))


def listed(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir())


def run_import(labels, frames, out, decoder=DECODER):
    returned = by_frame(listed(labels), by_name(listed(frames)), decoder)
    return import_labels(returned, out, decoder.domain, progress=False)


def contents(folder: Path) -> dict:
    """Return every file below a folder: its bytes and when it was written."""
    return {path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(folder.rglob('*')) if path.is_file()}


def save(path: Path, mode: str, array: np.ndarray, palette=None) -> Path:
    image = Image.frombytes(mode, array.shape[1::-1], array.tobytes())
    if palette is not None:
        image.putpalette(list(np.ravel(palette)))
    image.save(path)
    return path
