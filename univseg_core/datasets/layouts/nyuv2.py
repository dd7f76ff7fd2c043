"""
NYU Depth V2, the labelled part: rooms, 40 or 13 classes; the colour images alone.

https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html; 40 classes: Gupta et al., CVPR 2013; 13:
Couprie et al., ICLR 2013.
"""

from functools import cache as once
from functools import partial
from pathlib import Path

import numpy as np
from univseg_core.datasets.cache import extracted_once
from univseg_core.datasets.folders import DataError, LabelReader, list_images, Sample
from univseg_core.datasets.layouts import sun_rgbd
from univseg_core.datasets.layouts.layout import (
    check_present,
    Codes,
    codes_from_one,
    complete,
    EXTRACTED,
    folder_of,
    Layout,
    listed_samples,
)
from univseg_core.datasets.layouts.matlab import opened
from univseg_core.domains import IGNORE_INDEX
from univseg_core.pictures.images import write_png
from univseg_core.progress import progress_bar

MAT = 'nyu_depth_v2_labeled.mat'

CLASSES_40 = (
    'wall', 'floor', 'cabinet', 'bed', 'chair', 'sofa', 'table', 'door', 'window', 'bookshelf',
    'picture', 'counter', 'blinds', 'desk', 'shelves', 'curtain', 'dresser', 'pillow', 'mirror',
    'floor mat', 'clothes', 'ceiling', 'books', 'refrigerator', 'television', 'paper', 'towel',
    'shower curtain', 'box', 'whiteboard', 'person', 'night stand', 'toilet', 'sink', 'lamp',
    'bathtub', 'bag', 'otherstructure', 'otherfurniture', 'otherprop')
# The first 37 are those of SUN RGB-D.
PALETTE_40 = (*sun_rgbd.CLASSES.values(), (82, 84, 163), (100, 85, 144), (94, 106, 211))

CLASSES_13 = {
    'bed': (0, 0, 255),
    'books': (232, 88, 47),
    'ceiling': (0, 217, 0),
    'chair': (148, 0, 240),
    'floor': (222, 241, 23),
    'furniture': (255, 205, 205),
    'objects': (0, 223, 228),
    'picture': (106, 135, 204),
    'sofa': (116, 28, 41),
    'table': (240, 35, 235),
    'tv': (0, 166, 156),
    'wall': (249, 139, 0),
    'window': (225, 228, 194),
}
# Of each of the 40 classes: which of the 13, from 1 on.
OF_13 = (12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5, 7, 3, 2, 6, 11, 7, 7,
         7, 7, 7, 7, 6, 7, 7, 7, 7, 7, 7, 6, 7)

# The archive's 894 labels: the one of each of the first 37 classes; those of otherstructure and of
# otherfurniture; all others are otherprop.
OBJECTS = 894
SINGLE = (21, 11, 3, 157, 5, 83, 19, 28, 59, 88, 64, 7, 80, 36, 42, 89, 169, 119, 122, 143, 141, 4,
          85, 17, 172, 15, 135, 123, 26, 45, 331, 158, 124, 24, 144, 136, 55)
OTHER_STRUCTURE = (
    8, 25, 33, 38, 51, 53, 57, 58, 62, 65, 79, 94, 104, 112, 134, 153, 215, 216, 223, 225, 238,
    241, 242, 256, 295, 301, 339, 342, 354, 363, 372, 380, 392, 408, 412, 453, 456, 463, 477, 497,
    541, 550, 553, 567, 573, 582, 591, 609, 612, 615, 642, 645, 657, 658, 659, 663, 667, 668, 686,
    700, 702, 777, 778, 782, 850, 861, 868, 874)
OTHER_FURNITURE = (
    12, 43, 48, 50, 87, 106, 111, 161, 163, 174, 183, 204, 214, 219, 221, 224, 236, 262, 278, 291,
    298, 313, 343, 344, 356, 359, 373, 393, 401, 414, 418, 419, 430, 443, 444, 447, 448, 457, 458,
    460, 462, 475, 479, 485, 486, 493, 494, 498, 499, 509, 510, 515, 521, 524, 540, 549, 551, 554,
    556, 558, 576, 580, 608, 625, 703, 734, 770, 772, 797, 800, 803, 804, 813, 814, 815, 820, 829,
    835, 858, 863, 882, 892)

# The official split: the numbers of the training images, from 1 on; all others are test images.
IMAGES = 1449
TRAIN = """
3-8 10-13 19-20 22-27 44-45 48-55 58 64-75 80-83 92-116 120-124 130 135-136 138-152 156-166 170
177-179 203-206 213-219 223-249 251-263 265-270 274-278 286-295 303-309 313-314 318-324 336-350
353-354 365-383 391-394 398-410 415-429 436-440 449-461 467-468 478-507 514 527-530 534-536 540-548
552-554 572-578 584-590 595-602 608-611 614-616 622-632 639-643 646-649 652-655 659-662 665-667
674-675 682-685 691-692 695-696 700-705 714-716 719-723 729-730 735-742 745-758 788-799 805-809
815-820 824-832 847-849 853-856 863-868 872-905 909-916 920-925 929-931 936-944 948-958 963-964
968-969 978-990 996-1000 1005-1009 1013-1020 1024-1031 1035-1037 1040-1047 1050-1051 1054-1056
1059-1074 1085-1087 1097 1105 1110-1116 1120-1122 1132-1134 1137-1143 1159-1161 1168-1169 1172-1173
1177-1178 1185-1191 1197-1200 1213-1215 1221-1225 1231-1232 1236-1246 1251-1253 1266-1274 1281-1284
1296 1300-1301 1309-1313 1316-1328 1333-1334 1341-1346 1350-1352 1357-1363 1366-1367 1370-1383
1392-1393 1402-1406 1415-1420 1425-1429 1434-1440
"""

read_40, read_13 = codes_from_one(40), codes_from_one(13)
read_13_of_40 = Codes({0: IGNORE_INDEX} | {
    code: of_13 - 1 for code, of_13 in enumerate(OF_13, start=1)})


@once
def train_numbers() -> frozenset[int]:
    """Return the 795 numbers of the training images, from 1 on."""
    ranges = (text.partition('-') for text in TRAIN.split())
    return frozenset(number for first, _, last in ranges
                     for number in range(int(first), int(last or first) + 1))


@once
def codes_of_objects() -> np.ndarray:
    """Return (895,) uint8: of each of the archive's labels, its code 1..40; 0 is void."""
    codes = np.full(OBJECTS + 1, 40, np.uint8)
    codes[0] = 0
    codes[list(SINGLE)] = range(1, 38)
    codes[list(OTHER_STRUCTURE)] = 38
    codes[list(OTHER_FURNITURE)] = 39
    return codes


def samples_40(root: Path, part: str) -> list[Sample]:
    """List a part's images with labels of 40 classes."""
    return _samples(root, part, read_40)


def samples_13(root: Path, part: str) -> list[Sample]:
    """List a part's images with labels of 13 classes: made from the 40 where those are there."""
    if (root / part / 'rgb').is_dir() and not (root / part / 'labels_40').is_dir():
        return _folders(root, part, 'labels_13', read_13)
    return _samples(root, part, read_13_of_40)


def _samples(root: Path, part: str, reader: LabelReader) -> list[Sample]:
    if (root / MAT).is_file():
        return _archive(root, part, reader)
    if (root / part / 'rgb').is_dir():
        return _folders(root, part, 'labels_40', reader)
    if (root / f'{part}.txt').is_file() and (root / 'RGB').is_dir():
        return listed_samples(root, part, reader)
    raise DataError(f'{root}: has neither {MAT}, nor {part}/rgb with {part}/labels_40, nor RGB '
                    f'and Label with {part}.txt')


def _folders(root: Path, part: str, labels: str, reader: LabelReader) -> list[Sample]:
    folder = folder_of(root / part, [labels], 'the label maps')
    return complete([Sample(image, folder / f'{image.stem}.png', reader, root)
                     for image in list_images(root / part / 'rgb')], root)


def _archive(root: Path, part: str, reader: LabelReader) -> list[Sample]:
    """List what has been extracted from the archive, when it has been."""
    folder, done = extracted_once('nyuv2', root / MAT, partial(_extract, root / MAT))
    names = [f'{number:04}.png' for number in range(1, done['images'] + 1)
             if (number in train_numbers()) == (part == 'train')]
    check_present([folder / kind / name for name in names for kind in ('image', 'label')],
                  folder, EXTRACTED)
    return [Sample(folder / 'image' / name, folder / 'label' / name, reader, folder / 'image')
            for name in names]


def _extract(mat: Path, folder: Path) -> dict[str, int]:
    """Write each image and its label's 40 codes as PNGs, if not there; say how many there are."""
    with opened(mat) as file:
        images, labels = file['images'], file['labels']
        count = len(images)
        if len(labels) != count:
            raise DataError(f'{mat}: has {count} images, but {len(labels)} labels')
        for i in progress_bar(range(count), f'images → {folder}'):
            name = f'{i + 1:04}.png'
            if (folder / 'label' / name).is_file():
                continue
            objects = labels[i].T  # MATLAB stores columns first
            if objects.max() > OBJECTS:
                raise DataError(f'{mat}: label {i + 1} has {objects.max()}, expected 0..{OBJECTS}')
            write_png(folder / 'image' / name, np.ascontiguousarray(images[i].transpose(2, 1, 0)))
            write_png(folder / 'label' / name, codes_of_objects()[objects])
    return {'images': count}


COUNTS = {'train': (795,), 'test': (654,)}

LAYOUT_40 = Layout(classes=CLASSES_40, palette=PALETTE_40, samples=samples_40,
                   held_out=('test',), counts=COUNTS)
LAYOUT_13 = Layout(classes=tuple(CLASSES_13), palette=tuple(CLASSES_13.values()),
                   samples=samples_13, held_out=('test',), counts=COUNTS)
