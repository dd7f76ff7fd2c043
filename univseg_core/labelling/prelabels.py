"""A model's masks as a folder from which a person's labelling starts."""

from collections.abc import Sequence
import os
from pathlib import Path
import shutil

import numpy as np
from univseg_core.domains import Domain, IGNORE_INDEX, void_colour
from univseg_core.errors import UnivsegError
from univseg_core.files import write_text
from univseg_core.pictures.images import write_png
from univseg_core.pictures.palette_png import write_palette_png

VOID_NAME = 'background'
"""What annotation tools call the pixels without a class."""


def full_palette(domain: Domain) -> list[tuple[int, int, int]]:
    """Return the colours of all 256 indices: the classes', and for all others that of void."""
    rest = 256 - len(domain.palette)
    return [*domain.palette, *[void_colour(domain.palette)] * rest]


def labelmap(domain: Domain) -> str:
    """
    Return a domain's labelmap.txt: lines name:red,green,blue::, that of void first.

    It is what CVAT reads and writes beside "Segmentation mask 1.1". Raises UnivsegError for a
    class name that such a line cannot hold.
    """
    for name in domain.classes:
        if ':' in name or name == VOID_NAME:
            raise UnivsegError(f'domain {domain.name}: a labelmap.txt cannot hold the class name '
                               f'{name!r}')
    entries = [(VOID_NAME, void_colour(domain.palette)),
               *zip(domain.classes, domain.palette, strict=True)]
    return ''.join(f'{name}:{",".join(map(str, colour))}::\n' for name, colour in entries)


class PrelabelFolder:
    """
    A folder of frames and masks, laid out as CVAT imports "Segmentation mask 1.1".

    images/ has the frames, labels/ the masks as index PNGs (255: void), SegmentationClass/ the
    same as PNGs with a palette; classes.txt, labelmap.txt and ImageSets/Segmentation/default.txt
    name classes, colours and frames.
    """

    def __init__(self, folder: Path, domain: Domain):
        self.folder, self.domain = folder, domain
        self.names: list[str] = []
        self.linked = 0
        self._palette = full_palette(domain)
        self._labelmap = labelmap(domain)
        (folder / 'images').mkdir(parents=True, exist_ok=True)

    def add(self, frame: Path, mask: np.ndarray) -> None:
        """Add a frame's file and its mask (H, W) uint8."""
        self.linked += link_or_copy(frame, self.folder / 'images' / frame.name)
        write_png(self.folder / 'labels' / f'{frame.stem}.png', mask)
        write_palette_png(self.folder / 'SegmentationClass' / f'{frame.stem}.png', mask,
                          self._palette)
        self.names.append(frame.stem)

    def finish(self) -> None:
        """Write the lists of classes, colours and frames."""
        lists = {'classes.txt': self.domain.classes, 'labelmap.txt': [self._labelmap.rstrip()],
                 'ImageSets/Segmentation/default.txt': self.names}
        for name, lines in lists.items():
            write_text(self.folder / name, ''.join(f'{line}\n' for line in lines))


def link_or_copy(source: Path, target: Path) -> bool:
    """
    Make `target` a hard link of a file, or a copy where there cannot be one; say if a link.

    A hard link takes no room, and is a file as any other for programs that pack or upload it.
    """
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
        return False
    return True


def decided(mask: np.ndarray) -> float:
    """Return the share of a mask's pixels, 0..1, that have a class."""
    return float((mask != IGNORE_INDEX).mean())


def only_named(frames: Sequence[Path], names: Sequence[str], source: Path) -> list[Path]:
    """
    Return the frames of some file names, in the names' order.

    Raises UnivsegError, which names `source` and the first that are not among the frames.
    """
    by_name = {frame.name: frame for frame in frames}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise UnivsegError(f'{source}: {len(missing)} of its {len(names)} frames are not in the '
                           f'folder: {", ".join(missing[:3])} …')
    return [by_name[name] for name in names]
