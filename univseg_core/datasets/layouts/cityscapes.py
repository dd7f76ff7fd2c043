"""
Cityscapes: German streets, 19 classes.

https://www.cityscapes-dataset.com; ids and colours: its scripts' helpers/labels.py.
"""

from pathlib import Path

from univseg_core.datasets.folders import DataError, LabelReader, Sample
from univseg_core.datasets.layouts.layout import (
    Codes,
    complete,
    files_below,
    Layout,
    samples_beside,
)
from univseg_core.domains import IGNORE_INDEX
from univseg_core.pictures.images import read_label

CLASSES = {  # id in the label files: name, colour; in the order of the train ids
    7: ('road', (128, 64, 128)),
    8: ('sidewalk', (244, 35, 232)),
    11: ('building', (70, 70, 70)),
    12: ('wall', (102, 102, 156)),
    13: ('fence', (190, 153, 153)),
    17: ('pole', (153, 153, 153)),
    19: ('traffic light', (250, 170, 30)),
    20: ('traffic sign', (220, 220, 0)),
    21: ('vegetation', (107, 142, 35)),
    22: ('terrain', (152, 251, 152)),
    23: ('sky', (70, 130, 180)),
    24: ('person', (220, 20, 60)),
    25: ('rider', (255, 0, 0)),
    26: ('car', (0, 0, 142)),
    27: ('truck', (0, 0, 70)),
    28: ('bus', (0, 60, 100)),
    31: ('train', (0, 80, 100)),
    32: ('motorcycle', (0, 0, 230)),
    33: ('bicycle', (119, 11, 32)),
}
# The other ids up to 33 are not evaluated: void.
read_label_ids = Codes(dict.fromkeys(range(34), IGNORE_INDEX)
                       | {code: index for index, code in enumerate(CLASSES)})

IMAGE = '_leftImg8bit.png'
LABEL_IDS, TRAIN_IDS = '_gtFine_labelIds.png', '_gtFine_labelTrainIds.png'


def samples(root: Path, part: str) -> list[Sample]:
    """List the images of a part with their label ids, or train ids where only those are there."""
    images = files_below(root / 'leftImg8bit' / part, [IMAGE], 'leftImg8bit_trainvaltest.zip')
    labels = root / 'gtFine' / part
    if not labels.is_dir():
        raise DataError(f'{labels}: no such folder; gtFine_trainvaltest.zip holds it')
    readers: dict[str, LabelReader] = {LABEL_IDS: read_label_ids, TRAIN_IDS: read_label}
    return complete(samples_beside(images, labels, readers, LABEL_IDS, root), root)


def extra(root: Path) -> list[Sample]:
    """List the images of train_extra."""
    images = files_below(root / 'leftImg8bit' / 'train_extra', [IMAGE],
                         'leftImg8bit_trainextra.zip')
    return [Sample(image, root=root) for image in images]


LAYOUT = Layout(
    classes=tuple(name for name, _ in CLASSES.values()),
    palette=tuple(colour for _, colour in CLASSES.values()),
    samples=samples,
    held_out=('val',),
    counts={'train': (2975,), 'val': (500,), 'extra': (19998,)},
    extra=extra,
)
