"""
IDD, the India Driving Dataset, segmentation part I and II: the 26 classes of level 3.

https://idd.insaan.iiit.ac.in; labels and levels: https://github.com/AutoNUE/public-code.
"""

from collections.abc import Sequence
import math
from pathlib import Path

import numpy as np
from univseg_core.datasets.folders import DataError, LabelReader, Sample
from univseg_core.datasets.layouts.layout import complete, files_below, Layout, samples_beside
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.files.limits import PIXELS
from univseg_core.files.records import read_json
from univseg_core.pictures.images import ImageError, read_label

CLASSES = {  # name: its colour, and the labels of the polygons that level 3 groups in it
    'road': ((128, 64, 128), ['road']),
    'drivable fallback': ((250, 170, 160), ['parking', 'drivable fallback']),
    'sidewalk': ((244, 35, 232), ['sidewalk']),
    'non-drivable fallback': ((230, 150, 140), ['rail track', 'non-drivable fallback']),
    'person': ((220, 20, 60), ['person', 'animal']),
    'rider': ((255, 0, 0), ['rider']),
    'motorcycle': ((0, 0, 230), ['motorcycle']),
    'bicycle': ((119, 11, 32), ['bicycle']),
    'autorickshaw': ((255, 204, 54), ['autorickshaw']),
    'car': ((0, 0, 142), ['car']),
    'truck': ((0, 0, 70), ['truck']),
    'bus': ((0, 60, 100), ['bus']),
    'vehicle fallback': ((0, 0, 90), ['caravan', 'trailer', 'train', 'vehicle fallback']),
    'curb': ((220, 190, 40), ['curb']),
    'wall': ((102, 102, 156), ['wall']),
    'fence': ((190, 153, 153), ['fence']),
    'guard rail': ((180, 165, 180), ['guard rail']),
    'billboard': ((174, 64, 67), ['billboard']),
    'traffic sign': ((220, 220, 0), ['traffic sign']),
    'traffic light': ((250, 170, 30), ['traffic light']),
    'pole': ((153, 153, 153), ['pole', 'polegroup']),
    'obstruction': ((169, 187, 214), ['obs-str-bar-fallback']),
    'building': ((70, 70, 70), ['building']),
    'bridge': ((150, 100, 100), ['bridge', 'tunnel']),
    'vegetation': ((107, 142, 35), ['vegetation']),
    'sky': ((70, 130, 180), ['sky', 'fallback background']),
}
VOID = ('unlabeled', 'ego vehicle', 'rectification border', 'out of roi', 'license plate')
INDICES = dict.fromkeys(VOID, IGNORE_INDEX) | {
    label: index for index, (_, labels) in enumerate(CLASSES.values()) for label in labels}

IMAGES = ('_leftImg8bit.png', '_leftImg8bit.jpg')  # part I, part II
POLYGONS, LEVEL_3 = '_gtFine_polygons.json', '_gtFine_labellevel3Ids.png'
PIECES = ('', 'IDD_Segmentation', 'idd20kII')
"""The folder itself, or what the archives of part I and part II unpack in it."""

FARTHEST = 1_000_000
"""Pixels: a coordinate beyond is of no point of an image."""

MOST_LAYERS = 100
"""How many times an image's polygons may cost what all of its pixels do."""


def samples(root: Path, part: str) -> list[Sample]:
    """List the images of a part, with a label image where one has been made, else polygons."""
    pieces = [root / piece for piece in PIECES if (root / piece / 'leftImg8bit').is_dir()]
    if not pieces:
        raise DataError(f'{root}: has no folder leftImg8bit, IDD_Segmentation or idd20kII')
    readers: dict[str, LabelReader] = {LEVEL_3: read_label, POLYGONS: read_polygons}
    result = []
    for piece in pieces:
        images = files_below(piece / 'leftImg8bit' / part, IMAGES, "IDD's segmentation archive")
        result += samples_beside(images, piece / 'gtFine' / part, readers, POLYGONS, root)
    return complete(result, root, 'label files')


def read_polygons(path: Path, domain: Domain) -> np.ndarray:
    """
    Return a *_gtFine_polygons.json, drawn in its order, as (H, W) uint8, 255 where void.

    They are drawn as by the authors' createLabels.py, with Pillow, but for those of fewer than
    three points, which have no area. Raises ImageError, which names the file, where it is no such
    file or has a label that level 3 does not know.
    """
    from PIL import Image, ImageDraw

    try:
        values = read_json(path)
        size = int(values['imgWidth']), int(values['imgHeight'])
        if min(size) < 1 or size[0] * size[1] > PIXELS():
            raise ImageError(f'{path}: the image would have {size[0]}×{size[1]} pixels; expected '
                             f'{PIXELS} at most')
        image = Image.new('L', size, IGNORE_INDEX)
        draw, drawn = ImageDraw.Draw(image), 0.0
        for thing in values['objects']:
            points = [(float(x), float(y)) for x, y in thing['polygon']]
            if not all(abs(value) <= FARTHEST for point in points for value in point):
                raise ImageError(f'{path}: a polygon lies far outside the image')
            drawn += _cost(points, size)
            if drawn > MOST_LAYERS * size[0] * size[1]:
                raise ImageError(f'{path}: its polygons cover the image, or have points, more '
                                 'often than can be meant')
            if len(points) >= 3 and not thing.get('deleted'):
                draw.polygon(points, fill=_index(path, thing['label']))
    except OSError as error:
        raise ImageError(f'{path}: cannot be read: {error.strerror}') from error
    except ImageError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ImageError(f'{path}: not a file of labelled polygons (damaged?): '
                         f'{type(error).__name__}: {error}') from error
    return np.array(image)


def _cost(points: Sequence[tuple[float, float]], size: tuple[int, int]) -> float:
    """Return what a polygon costs: the pixels round it, and each of its edges in each row."""
    sides = [max(0.0, min(max(values), most) - max(min(values), 0.0) + 1)
             for values, most in zip(zip(*points, strict=True), size, strict=True)]
    return math.prod(sides) + len(points) * size[1] if points else 0.0


def _index(path: Path, label: str) -> int:
    index = INDICES.get(label, INDICES.get(label.removesuffix('group')))
    if index is None:
        raise ImageError(f'{path}: {label!r} is no label of IDD')
    return index


LAYOUT = Layout(
    classes=tuple(CLASSES),
    palette=tuple(colour for colour, _ in CLASSES.values()),
    samples=samples,
    held_out=('val',),
    # Part I (the paper's), part II, both.
    counts={'train': (6993, 7034, 14027), 'val': (981, 1055, 2036)},
)
