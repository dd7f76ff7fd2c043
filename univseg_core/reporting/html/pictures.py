"""Validation images with their truth and masks, as pictures that a page carries in itself."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
import io

import cv2
import numpy as np
from PIL import Image
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import in_one_line
from univseg_core.inference.segmenter import Segmenter
from univseg_core.pictures.images import fit_size, resize_image, resize_label

LONGEST_SIDE = 400
"""Pixels of a picture's longer side at most."""

QUALITY = 80
"""Of JPEG, in 0..100."""

WRONG = (224, 32, 48)
"""The colour of mistakes."""


@dataclass(frozen=True)
class Layer:
    """One of the pictures of an image: its name among the others, what it shows, and its data."""

    key: str
    title: str
    text: str
    data: str


@dataclass(frozen=True)
class Shot:
    """
    An image, its truth and each run's masks.

    `layers` begin with the image; `scores` are what each run came to, in 0..1.
    """

    name: str
    layers: list[Layer]
    scores: list[float]
    width: int
    height: int


def shoot(sample: Sample, domain: Domain, runs: Sequence[tuple[str, Segmenter, float]]) -> Shot:
    """
    Return the pictures of a validation image; each run has its name, model and score, 0..1.

    Raises UnivsegError where the image cannot be read.
    """
    image, truth = read_sample(sample, domain)
    height, width = truth.shape
    size = fit_size(height, width, min(LONGEST_SIDE, max(truth.shape)))
    name, truth = in_one_line(sample.name), resize_label(truth, *size)
    layers = [Layer('image', 'image', f'{name} of {domain.name}',
                    jpeg(resize_image(image, *size))),
              Layer('truth', 'truth', f'{name}: the truth', palette_png(truth, domain.palette))]
    for i, (run, segmenter, _) in enumerate(runs):
        mask = resize_label(segmenter(image, [domain.name])[domain.name].mask, *size)
        wrong = np.where((truth != IGNORE_INDEX) & (mask != truth), 0, IGNORE_INDEX)
        of = 'prediction' if len(runs) == 1 else run
        layers += [
            Layer(f'mask{i}', of, f'{name}: the prediction of {run}',
                  palette_png(mask, domain.palette)),
            Layer(f'wrong{i}', f'mistakes of {of}' if len(runs) > 1 else 'mistakes',
                  f'{name}: where {run} is wrong', palette_png(wrong.astype(np.uint8), [WRONG]))]
    return Shot(name, layers, [score for _, _, score in runs], size[1], size[0])


def jpeg(image: np.ndarray) -> str:
    """Return an image (H, W, 3) uint8 RGB as a URI that holds it."""
    _, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
                           [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return _uri('image/jpeg', data.tobytes())


def palette_png(mask: np.ndarray, palette: Sequence[Sequence[int]]) -> str:
    """Return a mask (H, W) uint8 in the colours (0..255) of its indices; others show through."""
    picture = Image.fromarray(mask)
    colours = np.zeros((IGNORE_INDEX + 1, 3), np.uint8)
    colours[:len(palette)] = palette
    picture.putpalette(colours.tobytes())
    file = io.BytesIO()
    picture.save(file, 'PNG', optimize=True,
                 transparency=bytes([255] * len(palette) + [0] * (len(colours) - len(palette))))
    return _uri('image/png', file.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f'data:{kind};base64,{base64.b64encode(data).decode()}'
