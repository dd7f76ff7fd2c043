"""A model's masks as a folder from which a person's labelling starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
import os
from pathlib import Path
import shutil
from tempfile import TemporaryDirectory

import numpy as np
from univseg_core.annotations.formats import Format, FORMATS, Writer
from univseg_core.annotations.regions import AnnotationError
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import UnivsegError
from univseg_core.labelling.as_prelabelled import content_of, write_list
from univseg_core.labelling.class_names import ClassNames
from univseg_core.labelling.frame_names import FrameNames
from univseg_core.labelling.returned_regions import regions_by_frame

DEFAULT = 'masks'
"""The format that is written where none is named."""


def written_formats() -> dict[str, str]:
    """Return the formats that masks can be written in: a line of each by its name."""
    return {name: each.says for name, each in FORMATS.items() if each.write}


class PrelabelFolder:
    """
    A folder of frames and masks, in one or several of the formats that `FORMATS` can write.

    It has the frames in images/, and beside them what the format has, and a list of what the
    masks show (`as_prelabelled`); of several formats, each has a folder of its name, with the
    frames and all. Raises AnnotationError for a domain that a format cannot hold.
    """

    def __init__(self, folder: Path, domain: Domain, formats: Sequence[str] = (DEFAULT,)):
        self.names: list[str] = []
        self.linked = 0
        self._domain = domain
        self._parts: list[_Part] = []
        for name in dict.fromkeys(formats):
            of_format = folder / name if len(set(formats)) > 1 else folder
            (of_format / 'images').mkdir(parents=True, exist_ok=True)
            write = FORMATS[name].write
            assert write is not None  # it is one of `written_formats`
            self._parts.append(_Part(of_format, FORMATS[name], write(of_format, domain)))

    def add(self, frame: Path, mask: np.ndarray, confidence: float) -> None:
        """Add a frame's file, its mask (H, W) uint8 and its mean confidence, 0..1."""
        source = frame
        for part in self._parts:
            copy = part.folder / 'images' / frame.name
            linked = link_or_copy(source, copy)
            if source is frame:
                self.linked += linked
                source = copy  # where the frame lies on another disk, this one does not
            part.writer.add(copy, mask, confidence)
            shown = as_it_comes_back(part.format, self._domain, mask)
            if shown is not None:
                part.contents[frame] = content_of(shown, self._domain.classes)
        self.names.append(frame.stem)

    def finish(self) -> None:
        """Write what is of all frames."""
        for part in self._parts:
            part.writer.finish()
            write_list(part.folder, part.contents)


@dataclass
class _Part:
    """The folder of a format, and what is known of the label maps that came into it."""

    folder: Path
    format: Format
    writer: Writer
    contents: dict[Path, str] = field(default_factory=dict)


def as_it_comes_back(form: Format, domain: Domain, mask: np.ndarray) -> np.ndarray | None:
    """
    Return the classes (H, W) uint8 that a format's reader makes of what is written of a mask.

    None where it cannot be read here, as polygons without pycocotools.
    """
    if form.read_again is None:
        return mask
    assert form.write is not None  # it is a format that is written
    with TemporaryDirectory() as folder:
        frame = Path(folder) / 'images' / 'frame.png'
        frame.parent.mkdir()
        writer = form.write(Path(folder), domain)
        writer.add(frame, mask, 0)
        writer.finish()
        try:
            (found,) = regions_by_frame(form.read_again(Path(folder)), FrameNames([frame]),
                                        ClassNames(domain))
            return None if isinstance(found, str) else found.read(*mask.shape)
        except AnnotationError:
            return None


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
