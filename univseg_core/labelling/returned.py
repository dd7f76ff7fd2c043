"""What came back of a frame from a tool, whatever the tool wrote."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np


class Returned(Protocol):
    """The labels of one frame, which are read when they are asked for."""

    @property
    def frame(self) -> Path:
        """Return the frame's file."""

    @property
    def source(self) -> str:
        """Return what errors call it: a file, or an image and its file."""

    @property
    def paths(self) -> Collection[Path]:
        """Return the files that have its labels, one at least."""

    @property
    def is_labelled(self) -> bool:
        """Return whether anybody has labelled anything of it, be it void."""

    @property
    def objects(self) -> Mapping[int, int] | None:
        """Return how many objects there are of each class; None where nothing tells objects."""

    @property
    def thin(self) -> Sequence[str]:
        """Return which objects have no pixel, once it has been read."""

    def read(self, height: int, width: int) -> np.ndarray:
        """
        Return the classes (h, w) uint8 of its pixels, 255 where void.

        Those of a label map may be of another size than the frame's; regions are painted at that.
        Raises UnivsegError, which names file and object.
        """
