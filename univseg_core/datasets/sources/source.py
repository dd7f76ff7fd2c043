"""
What frames are taken from, seen alike: a bag, a video file or a folder of images.

Each kind is a file of this package; `opening.py` tells which of them a path is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import re
from typing import Protocol

import numpy as np
from univseg_core.datasets.manifest import Row
from univseg_core.errors import UnivsegError

LONGEST_NAME = 150


class SourceError(UnivsegError):
    """What is no source of frames, or holds none."""


class Picture(Protocol):
    """A picture that has not been decoded."""

    @property
    def stamp(self) -> int:
        """Return when it was taken, in nanoseconds."""

    def file(self) -> bytes | None:
        """Return the JPEG or PNG file that it is, unchecked; None where it is no such file."""

    def upright(self) -> np.ndarray:
        """Return it decoded, (H, W, 3) uint8 BGR, as EXIF data asks for; may raise ImageError."""


@dataclass(frozen=True)
class Item:
    """
    One of a source's images: its topic, and when it was recorded, in nanoseconds.

    `content`, 0 to 2**60, stands for the time in the manifest where that says nothing: the image
    is known again by it.
    `open` returns the picture; it raises a UnivsegError where there is none to be had. It is to be
    called, and the picture used, before the next item is asked for.
    """

    topic: str
    time: int
    open: Callable[[], Picture]
    content: int | None = None

    @property
    def known_by(self) -> int:
        """Return by which number an image of its topic is known again."""
        return self.time if self.content is None else self.content


class Source(Protocol):
    """
    Images in order, one by one, as often as they are asked for.

    `name` stands in the manifest, `identity` tells whether two are the same. `topics` are those
    whose images `items` yields, the only one of a video or folder being ''; `problems` and `notes`
    what was found to be wrong or is to be said, all of it at the end. `has_times` tells whether
    the times of items are times.
    """

    name: str
    identity: str
    topics: list[str]
    has_times: bool
    notes: list[str]

    @property
    def problems(self) -> list[str]:
        """Return what was found to be broken or missing so far."""

    def count(self) -> int | None:
        """Return about how many items there are; None where nothing tells."""

    def items(self, start: float, end: float | None) -> Iterator[Item]:
        """Yield the items from `start` to `end`, in seconds from the first one."""

    def counted_as(self, topic: str) -> str:
        """Return with which of `topics` an item's topic is judged and counted."""

    def stem(self, row: Row) -> str:
        """Return the name of a row's frame, without ending."""


def in_file_name(text: str) -> str:
    """Return a text as a part of a file's name, of LONGEST_NAME characters at most."""
    return re.sub(r'[^\w-]', '_', text)[:LONGEST_NAME]
