"""
SUN RGB-D: rooms, 37 classes; the colour images alone.

https://rgbd.cs.princeton.edu; the flat folders: https://github.com/ankurhanda/sunrgbd-meta-data.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from univseg_core.datasets.cache import extracted_once
from univseg_core.datasets.folders import DataError, list_images, Sample
from univseg_core.datasets.layouts.layout import (
    check_present,
    codes_from_one,
    complete,
    EXTRACTED,
    folder_of,
    Layout,
    listed_samples,
)
from univseg_core.datasets.layouts.matlab import load_small, opened
from univseg_core.pictures.images import write_png
from univseg_core.progress import progress_bar

CLASSES = {  # name: colour; the label files have 0 for void, then these from 1 on
    'wall': (119, 119, 119),
    'floor': (244, 243, 131),
    'cabinet': (137, 28, 157),
    'bed': (150, 255, 255),
    'chair': (54, 114, 113),
    'sofa': (0, 0, 176),
    'table': (255, 69, 0),
    'door': (87, 112, 255),
    'window': (0, 163, 33),
    'bookshelf': (255, 150, 255),
    'picture': (255, 180, 10),
    'counter': (101, 70, 86),
    'blinds': (38, 230, 0),
    'desk': (255, 120, 70),
    'shelves': (117, 41, 121),
    'curtain': (150, 255, 0),
    'dresser': (132, 0, 255),
    'pillow': (24, 209, 255),
    'mirror': (191, 130, 35),
    'floor mat': (219, 200, 109),
    'clothes': (154, 62, 86),
    'ceiling': (255, 190, 190),
    'books': (255, 0, 255),
    'fridge': (152, 163, 55),
    'tv': (192, 79, 212),
    'paper': (230, 230, 230),
    'towel': (53, 130, 64),
    'shower curtain': (155, 249, 152),
    'box': (87, 64, 34),
    'whiteboard': (214, 209, 175),
    'person': (170, 0, 59),
    'night stand': (255, 0, 0),
    'toilet': (193, 195, 234),
    'sink': (70, 72, 115),
    'lamp': (255, 255, 0),
    'bathtub': (52, 57, 131),
    'bag': (12, 83, 45),
}
read_codes_37 = codes_from_one(37)
TEST_IMAGES = 5050
"""In the flat folder of all labels, those of the test images come first."""

TOOLBOX = Path('SUNRGBDtoolbox')
LABELS = TOOLBOX / 'Metadata' / 'SUNRGBD2Dseg.mat'
META = TOOLBOX / 'Metadata' / 'SUNRGBDMeta.mat'
SPLIT = TOOLBOX / 'traintestSUNRGBD' / 'allsplit.mat'


@dataclass(frozen=True)
class Flat:
    """Folders of images and labels, and how a label's name follows from the image's number."""

    images: str
    labels: str
    name: str
    offset: dict[str, int]


FLAT = (
    Flat('SUNRGBD-{}_images', 'sunrgbd_train_test_labels', 'img-{:06}.png',
         {'train': TEST_IMAGES, 'test': 0}),
    Flat('image/{}', 'label37/{}', 'img37labels-{:06}.png', {'train': 0, 'test': 0}),
)


def samples(root: Path, part: str) -> list[Sample]:
    """List a part's images, with labels of the official archive or of extracted index PNGs."""
    for flat in FLAT:
        if (root / flat.images.format(part)).is_dir():
            return _flat(root, part, flat)
    if (root / f'{part}.txt').is_file() and (root / 'RGB').is_dir():
        return listed_samples(root, part, read_codes_37)
    folder_of(root, ['SUNRGBD'], 'the images, of SUNRGBD.zip, or one of the flat versions')
    return _official(root, part)


def _flat(root: Path, part: str, flat: Flat) -> list[Sample]:
    images = root / flat.images.format(part)
    labels = folder_of(root, [flat.labels.format(part)], 'the label maps')
    result = []
    for image in list_images(images):
        number = image.stem.rpartition('-')[2]
        if not number.isdecimal():
            raise DataError(f'{image}: expected a name such as img-000001.jpg')
        name = flat.name.format(int(number) + flat.offset[part])
        result.append(Sample(image, labels / name, read_codes_37, root))
    return complete(result, root)


def _official(root: Path, part: str) -> list[Sample]:
    """List SUNRGBD/…/image/*.jpg as the toolbox's files have them, with extracted labels."""
    missing = [str(path) for path in (LABELS, META, SPLIT) if not (root / path).is_file()]
    if missing:
        raise DataError(f'{root}: {", ".join(missing)} not there; SUNRGBDtoolbox.zip holds them')
    cache, names = extracted_once('sun_rgbd', root / LABELS, partial(_extract, root))
    check_present([root / image for image, _ in names[part]], root, 'images')
    check_present([cache / label for _, label in names[part]], cache, EXTRACTED)
    return [Sample(root / image, cache / label, read_codes_37, root)
            for image, label in names[part]]


def _extract(root: Path, cache: Path) -> dict[str, list[tuple[str, str]]]:
    """
    Write each label as a PNG; those of an earlier start are kept.

    Returns the image and label of each part's samples, below `root` and `cache`.
    """
    train = {_below_sunrgbd(folder) for folder in load_small(root / SPLIT, 'alltrain')}
    meta = load_small(root / META, 'SUNRGBDMeta')
    names: dict[str, list[tuple[str, str]]] = {'train': [], 'test': []}
    with opened(root / LABELS) as file:
        labels = file['SUNRGBD2Dseg']['seglabel']
        labels = labels[...].reshape(-1)
        if len(labels) != len(meta):
            raise DataError(f'{root / LABELS}: has {len(labels)} labels, {META.name} '
                            f'{len(meta)} images')
        for i, entry in enumerate(progress_bar(meta, f'labels → {cache}')):
            folder = Path(_below_sunrgbd(entry.rgbpath)).parent.parent
            name = f'label/{i + 1:06}.png'
            if not (cache / name).is_file():
                codes = np.asarray(file[labels[i]]).T  # MATLAB stores columns first
                if codes.ndim != 2 or codes.min() < 0 or codes.max() > 255:
                    raise DataError(f'{root / LABELS}: label {i + 1} is no label map')
                write_png(cache / name, np.ascontiguousarray(codes.astype(np.uint8)))
            part = 'train' if folder.as_posix() in train else 'test'
            image = Path('SUNRGBD') / folder / 'image' / entry.rgbname
            names[part].append((image.as_posix(), name))
    if len(names['train']) != len(train):
        raise DataError(f'{root / SPLIT}: names {len(train)} training images, of which '
                        f'{META.name} has {len(names["train"])}')
    return {part: sorted(pairs) for part, pairs in names.items()}


def _below_sunrgbd(path: str) -> str:
    """Return what follows SUNRGBD/ in one of the authors' own paths."""
    return Path(str(path).partition('/SUNRGBD/')[2]).as_posix()


LAYOUT = Layout(
    classes=tuple(CLASSES),
    palette=tuple(CLASSES.values()),
    samples=samples,
    held_out=('test',),
    counts={'train': (5285,), 'test': (TEST_IMAGES,)},
)
