"""Pictures of a video file as frames to take."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from univseg_core.datasets.manifest import Row
from univseg_core.datasets.sources.names import SourceNames
from univseg_core.datasets.sources.source import in_file_name, Item
from univseg_core.datasets.sources.video_print import print_of
from univseg_core.pictures.video_file import frame_rate, VideoError

SHORT_SECONDS, SHORT_SHARE = 0.5, 0.02
"""
A video that ends early is told where more is missing than the larger of these: seconds, and a
share of its length. Sound may go on behind its pictures.
"""

LATEST = 2**63 / 1e9
"""Seconds: a later time of a picture is not believed."""


@dataclass(frozen=True)
class CapturedPicture:
    """The picture at which a capture stands, until it goes on."""

    capture: cv2.VideoCapture
    stamp: int

    def file(self) -> None:
        """Return None: it is no file."""

    def upright(self) -> np.ndarray:
        """Return it, (H, W, 3) uint8 BGR; raise VideoError where there is none."""
        there, picture = self.capture.retrieve()
        if not there:
            raise VideoError('cannot be converted')
        return picture


class VideoSource:
    """The pictures of a video that is open, upright, at the times that the video gives them."""

    has_times = True

    def __init__(self, video: Path, capture: cv2.VideoCapture, names: SourceNames):
        self._video = video
        self._capture = capture
        self._rate = frame_rate(capture)
        self._told = max(0.0, capture.get(cv2.CAP_PROP_FRAME_COUNT))
        found = print_of(video)
        self.identity = str(found)
        self.name = names.name(video, self.identity, found.continues)
        self.topics = ['']
        self.problems: list[str] = []
        self.notes: list[str] = []

    def count(self) -> int | None:
        """Return how many pictures the video says that it has; None where it does not."""
        return round(self._told) or None

    def items(self, start: float, end: float | None) -> Iterator[Item]:
        """Yield its pictures from `start` to `end`, in seconds; note where it ends early."""
        count, time = 0, -1.0
        while self._capture.grab():
            # Some, such as bare H.264, give their pictures no times.
            told = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            step = 1 / self._rate if count else 0.0
            time = told if time < told < LATEST else max(time, 0.0) + step
            count += 1
            if end is not None and time >= end:
                return
            if time >= start:
                stamp = round(time * 1e9)
                yield Item('', stamp, partial(CapturedPicture, self._capture, stamp))
        if not count:
            raise VideoError(f'{self._video}: no picture in it can be decoded')
        length = self._told / self._rate
        if (count < self._told
                and length - time - 1 / self._rate > max(SHORT_SECONDS, SHORT_SHARE * length)):
            self.problems.append(
                f'{self._video}: broken or cut off after {count} pictures: it says that it lasts '
                f'{length:.1f} s, and ends at {time:.1f} s')

    def counted_as(self, topic: str) -> str:
        """Return the only topic."""
        return ''

    def stem(self, row: Row) -> str:
        """Return VIDEO-STAMP."""
        return f'{in_file_name(row.bag)}-{row.stamp:019d}'
