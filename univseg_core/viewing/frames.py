"""The frames that are looked at, by their number: of pictures, a bag or a video, or dropped."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, ExitStack
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import cv2
import numpy as np
from univseg_core.bags.reading import is_bag
from univseg_core.datasets.folders import unread_pictures
from univseg_core.datasets.sources.names import SourceNames
from univseg_core.datasets.sources.opening import open_source
from univseg_core.datasets.sources.source import Item, SourceError
from univseg_core.errors import in_one_line, told_with, UnivsegError
from univseg_core.pictures.images import decode_image, read_image
from univseg_core.pictures.picture_files import image_files, is_picture

MOST_DROPPED = 2 ** 29
"""Bytes of all pictures that are dropped onto a page: they stay in memory."""


class Frames(Protocol):
    """
    Frames by their number, from 0 on.

    `name` is of them all; `notes` are what is to be said of them.
    """

    name: str

    @property
    def notes(self) -> list[str]:
        """Return what is to be said of them so far."""

    def count(self) -> int | None:
        """Return how many there are, about; None where nothing tells."""

    def read(self, index: int) -> tuple[str, np.ndarray]:
        """
        Return a frame's name and image (H, W, 3) uint8 RGB.

        Raises IndexError behind the last, UnivsegError where it cannot be read.
        """


def frame_index(text: str, count: int | None) -> int:
    """
    Return the index, from 0 on, of the frame whose number, from 1 on, somebody has typed.

    Raises UnivsegError for what is no whole number, or not one of `count` where that is known.
    """
    text = text.strip()
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1 or (count is not None and number > count):
        most = '' if count is None else f' to {count}'
        raise UnivsegError(f'frame {in_one_line(text)!r}: expected a number from 1{most}')
    return number - 1


class PictureFiles:
    """Picture files, in the order in which they are given."""

    def __init__(self, name: str, paths: Sequence[Path], notes: Sequence[str] = ()):
        self.name = name
        self.notes = list(notes)
        self._paths = paths

    def count(self) -> int:
        """Return how many files there are."""
        return len(self._paths)

    def read(self, index: int) -> tuple[str, np.ndarray]:
        """Return a file's name and picture, as Frames have it."""
        path = self._paths[index]
        return in_one_line(path.name), read_image(path)


class DroppedPictures:
    """Picture files as they came over the page: names, and bytes that stay in memory."""

    name = 'dropped'

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._files: list[tuple[str, bytes]] = []

    def add(self, name: str, data: bytes) -> None:
        """
        Add a file.

        Raises UnivsegError for what is no picture, is of more than limits.PIXELS, or too much
        together with the others.
        """
        name = in_one_line(name)
        if sum(len(each) for _, each in self._files) + len(data) > MOST_DROPPED:
            raise UnivsegError(f'{name}: the dropped pictures are more than {MOST_DROPPED} bytes; '
                               'give their folder to the command, which reads one at a time')
        with told_with(name):
            decode_image(data)
        self._files.append((name, data))

    def count(self) -> int:
        """Return how many there are."""
        return len(self._files)

    def read(self, index: int) -> tuple[str, np.ndarray]:
        """Return a dropped file's name and picture, as Frames have it."""
        name, data = self._files[index]
        return name, decode_image(data)


class SourceFrames:
    """
    The frames of a bag or video, which come one after another; to be closed.

    Back from where it stands it is opened anew, from the time of the frame where times tell.
    """

    def __init__(self, path: Path, topics: Sequence[str]):
        self._path, self._topics = path, topics
        self._opened = ExitStack()
        # A source writes down by which name it is known: of what is only looked at, nobody asks.
        self._names = SourceNames(Path(self._opened.enter_context(
            TemporaryDirectory(prefix='univseg_view_'))))
        self._reading = self._opened.enter_context(ExitStack())
        self._times: list[int] = []
        self._said: dict[str, None] = {}
        try:
            self._begin()
            if not self._source.topics:
                raise SourceError('; '.join(self._source.problems))
        except BaseException:
            self.close()
            raise
        self.name = self._source.name

    def close(self) -> None:
        """Close the source."""
        self._opened.close()

    @property
    def notes(self) -> list[str]:
        """Return what the source says of itself, and what was broken so far."""
        self._said |= dict.fromkeys([*self._source.notes, *self._source.problems])
        return list(self._said)

    def count(self) -> int | None:
        """Return how many frames the source says that it has."""
        return self._source.count()

    def read(self, index: int) -> tuple[str, np.ndarray]:
        """Return a frame, as Frames have it; its name is its topic and time."""
        if index < self._next:
            self._go_back(index)
        item = self._forward()
        while self._next <= index:
            item = self._forward()
        name = f'{item.topic} {(item.time - self._times[0]) / 1e9:.2f} s'.strip()
        with told_with(name):
            picture = item.open().upright()
        return name, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    def _begin(self, start: float = 0.0) -> None:
        """Stand before the first frame from some seconds on."""
        self._reading.close()
        self._source = self._reading.enter_context(
            open_source(self._path, self._topics, self._names))
        self._items = self._source.items(start, None)
        self._next = 0

    def _forward(self) -> Item:
        """Return the next item; raise IndexError behind the last."""
        for item in self._items:
            if self._next == len(self._times):
                self._times.append(item.time)
            self._next += 1
            return item
        raise IndexError(self._next)

    def _go_back(self, index: int) -> None:
        """
        Stand before a frame that has been passed, or before one that comes before it.

        A source counts seconds from its beginning, which lies at its first frame or before it: so
        what comes first is this frame or an earlier one, and its time tells which.
        """
        since = (self._times[index] - self._times[0]) / 1e9 - 1e-6
        if since > 0 and len(set(self._times)) == len(self._times):
            self._begin(since)
            first = next(self._items, None)
            if first and first.time in self._times[:index + 1]:
                self._items = chain([first], self._items)
                self._next = self._times.index(first.time)
                return
        self._begin()


@contextmanager
def open_frames(paths: Sequence[Path], topics: Sequence[str] = ()) -> Iterator[Frames]:
    """
    Give the frames of pictures and folders of them, or of one bag (of some topics) or video.

    Raises UnivsegError for what is none of them, or has no frames; the folder is not written to.
    """
    pictures, notes = [], []
    for path in paths:
        found = [path] if is_picture(path) and path.is_file() else _pictures_of(path)
        if not found and len(paths) > 1:
            raise UnivsegError(f'{path}: expected pictures or folders of pictures, or else one '
                               'bag or video alone')
        if path.is_dir() and found and (unread := unread_pictures(path)):
            notes.append(unread)
        pictures += found
    if pictures:
        yield PictureFiles(in_one_line(paths[0]) + (' …' if paths[1:] else ''), pictures, notes)
        return
    with closing(SourceFrames(paths[0], topics)) as frames:
        yield frames


def _pictures_of(path: Path) -> list[Path]:
    """Return the picture files of a folder; none of a bag's, or of what is no folder."""
    try:
        return image_files(path) if path.is_dir() and not is_bag(path) else []
    except OSError as error:
        raise UnivsegError(f'{path}: cannot be read: {error.strerror}') from error
