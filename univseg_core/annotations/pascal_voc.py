"""What tells the label maps of Pascal VOC, whose indices no list beside them names."""

from collections.abc import Iterable
from pathlib import Path
import re

from univseg_core.pictures.palette_png import decode_palette_png
from univseg_core.pictures.picture_files import file_bytes, ImageError

CLASSES = (
    'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair',
    'cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa',
    'train', 'tvmonitor')
"""Its classes by index."""

NAME = re.compile(r'20\d\d_\d{6}')
"""How its images are called, and others that a date names: 2024_060112."""


def are_called_so(masks: Iterable[Path]) -> bool:
    """Return whether all label maps are called as images of Pascal VOC."""
    return all(NAME.fullmatch(mask.stem) for mask in masks)


def is_laid_out_so(folder: Path, mask: Path) -> bool:
    """Return whether a folder has what Pascal VOC has beside its masks, or a mask its palette."""
    if (folder / 'JPEGImages').is_dir() and (folder / 'ImageSets').is_dir():
        return True
    try:
        decoded = decode_palette_png(file_bytes(mask))
    except ImageError:
        return False
    return decoded is not None and decoded[1][:len(CLASSES)].tolist() == [
        colour(index) for index in range(len(CLASSES))]


def colour(index: int) -> list[int]:
    """Return red, green and blue of an index: each has every third bit, its lowest as highest."""
    return [sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3))
            for channel in range(3)]
