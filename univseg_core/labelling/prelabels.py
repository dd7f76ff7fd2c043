"""A model's masks as a folder from which a person's labelling starts."""

from collections.abc import Sequence
import os
from pathlib import Path
import shutil

import numpy as np
from univseg_core.annotations.formats import FORMATS, Writer
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import UnivsegError

DEFAULT = 'masks'
"""The format that is written where none is named."""


def written_formats() -> dict[str, str]:
    """Return the formats that masks can be written in: a line of each by its name."""
    return {name: each.says for name, each in FORMATS.items() if each.write}


class PrelabelFolder:
    """
    A folder of frames and masks, in one or several of the formats that `FORMATS` can write.

    It has the frames in images/, and beside them what the format has; of several formats, each
    has a folder of its name, with the frames and all. Raises AnnotationError for a domain that a
    format cannot hold.
    """

    def __init__(self, folder: Path, domain: Domain, formats: Sequence[str] = (DEFAULT,)):
        self.names: list[str] = []
        self.linked = 0
        self._writers: dict[Path, Writer] = {}
        for name in dict.fromkeys(formats):
            of_format = folder / name if len(set(formats)) > 1 else folder
            (of_format / 'images').mkdir(parents=True, exist_ok=True)
            write = FORMATS[name].write
            assert write is not None  # it is one of `written_formats`
            self._writers[of_format] = write(of_format, domain)

    def add(self, frame: Path, mask: np.ndarray, confidence: float) -> None:
        """Add a frame's file, its mask (H, W) uint8 and its mean confidence, 0..1."""
        source = frame
        for folder, writer in self._writers.items():
            copy = folder / 'images' / frame.name
            linked = link_or_copy(source, copy)
            if source is frame:
                self.linked += linked
                source = copy  # where the frame lies on another disk, this one does not
            writer.add(copy, mask, confidence)
        self.names.append(frame.stem)

    def finish(self) -> None:
        """Write what is of all frames."""
        for writer in self._writers.values():
            writer.finish()


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
