"""Images of a folder, in the order of their names, as frames to take."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
import hashlib
from pathlib import Path

import cv2
import numpy as np
from univseg_core.datasets.folders import unread_pictures
from univseg_core.datasets.manifest import Row
from univseg_core.datasets.sources.names import SourceNames
from univseg_core.datasets.sources.source import in_file_name, Item, SourceError
from univseg_core.errors import first_few, in_one_line
from univseg_core.pictures.encoded import PNG_SIGNATURE
from univseg_core.pictures.images import decode_image, ImageError, PNG_BIT_DEPTH
from univseg_core.pictures.picture_files import file_bytes, image_files, IMAGE_SUFFIXES

VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.ts', '.webm')
"""How the names of videos end, as a rule: a folder's are told, and not read."""

HASH_DIGITS = 15
"""Hexadecimal digits that are kept of a content's SHA-256: a signed 64-bit number holds them."""


@dataclass(frozen=True)
class FilePicture:
    """A picture file's bytes; its stamp is when the file was last changed."""

    data: bytes
    stamp: int

    def file(self) -> bytes | None:
        """Return its bytes, but not of a PNG of 16 bits, of which a frame has the upper 8."""
        is_deep = (self.data.startswith(PNG_SIGNATURE)
                   and self.data[PNG_BIT_DEPTH:PNG_BIT_DEPTH + 1] == b'\x10')
        return None if is_deep else self.data

    def upright(self) -> np.ndarray:
        """Return it decoded; raise ImageError where it is damaged."""
        return cv2.cvtColor(decode_image(self.data), cv2.COLOR_RGB2BGR)


class FolderSource:
    """
    The images of a folder: each a topic of its file's name, with the time of its last change.

    They are known again by their content, as copies have other times.

    Raises SourceError where it holds none, or where there is to be a beginning or an end.
    """

    has_times = False

    def __init__(self, folder: Path, names: SourceNames):
        self._folder = folder
        try:
            self._paths = image_files(folder)
            others = sorted(path.name for path in folder.iterdir()
                            if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
            inside = sorted(path.name for path in folder.iterdir() if path.is_dir())
            unread = unread_pictures(folder)
        except OSError as error:
            raise SourceError(f'{folder}: cannot be read: {error.strerror}') from error
        if not self._paths:
            hints = [f'{what} {first_few(names_of, 10)}' for what, names_of in (
                ('its videos are sources of their own:', others),
                ('the folders in it are', inside)) if names_of]
            raise SourceError('; '.join([
                f'{folder}: no ROS 2 bag, and no images in it; expected '
                f'{", ".join(IMAGE_SUFFIXES)}', *hints, *([unread] if unread else [])]))
        self.identity = in_one_line(folder.resolve())
        self.name = names.name(folder, self.identity)
        self.topics = ['']
        self.notes = [f'{folder}: its images have no times, and are taken in the order of their '
                      'names']
        if others:
            self.notes.append(f'{folder}: {len(others)} videos in it were not read, as they are '
                              f'sources of their own: {first_few(others)}')
        self.problems = [unread] if unread else []

    def count(self) -> int:
        """Return how many images there are."""
        return len(self._paths)

    def items(self, start: float, end: float | None) -> Iterator[Item]:
        """Yield all of them; raise SourceError where only those of some time are wanted."""
        if start or end is not None:
            raise SourceError(f'{self._folder}: a folder of images has no times, so that '
                              '--start and --end have no meaning for it')
        for path in self._paths:
            topic = in_one_line(path.name)
            try:
                changed = path.stat().st_mtime_ns
                picture = FilePicture(file_bytes(path), changed)
            except (ImageError, OSError):  # it is told when it is opened
                yield Item(topic, 0, partial(_opened, path))
                continue
            content = int(hashlib.sha256(picture.data).hexdigest()[:HASH_DIGITS], 16)
            yield Item(topic, changed, partial(_given, picture), content)

    def counted_as(self, topic: str) -> str:
        """Return the only topic of all images."""
        return ''

    def stem(self, row: Row) -> str:
        """Return FOLDER-IMAGE."""
        return in_file_name(f'{self.name}-{row.topic.rpartition(".")[0]}')


def _opened(path: Path) -> FilePicture:
    return FilePicture(file_bytes(path), path.stat().st_mtime_ns)


def _given(picture: FilePicture) -> FilePicture:
    return picture
