"""Which images of a source become frames, and what is taken of them."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from univseg_core.datasets.manifest import KEPT, Row
from univseg_core.datasets.sources.source import Item, Picture
from univseg_core.errors import UnivsegError
from univseg_core.pictures.compressed import decode_small
from univseg_core.pictures.encoded import JPEG_START, PNG_SIGNATURE
from univseg_core.pictures.images import fit_size, ImageError, LARGEST_JPEG
from univseg_core.pictures.likeness import dhash, few_grey, SMALL_SIDE

START = {'jpg': JPEG_START, 'png': PNG_SIGNATURE}
"""With which bytes a file of each format begins."""

NOT_EVERY, TOO_SOON, DUPLICATE, UNREADABLE = 'every', 'min-interval', 'duplicate', 'unreadable'


@dataclass(frozen=True)
class ExtractionSettings:
    """
    Which images become frames, and of what kind.

    Of each topic every n-th image, `min_interval` seconds or more behind the last that was kept,
    recorded from `start` to `end` seconds after the bag's first message; but none whose dHash
    differs in at most `duplicate_bits` of 64 bits from that of the last that was kept (None: all
    are). Pictures whose longest side is above `size` are shrunk to it. `quality` is that of JPEGs
    that are encoded here. `split_by` is the SHA-256 of the model file that names each frame's
    folder; None: there are no folders.
    """

    every: int = 1
    min_interval: float = 0.0
    start: float = 0.0
    end: float | None = None
    duplicate_bits: int | None = 4
    size: int | None = None
    codec: Literal['jpg', 'png'] = 'jpg'
    quality: int = 95
    split_by: str | None = None


class Judge:
    """Decides which images of one topic of a bag, of a video or a folder become frames."""

    def __init__(self, settings: ExtractionSettings):
        self._settings = settings
        self._number = 0
        self._kept_stamp: int | None = None
        self._kept_dhash: int | None = None

    def recall(self, row: Row) -> None:
        """Take over what was decided of the next image in an earlier call."""
        self._number += 1
        if row.outcome == KEPT:
            self._kept_stamp, self._kept_dhash = row.stamp, int(row.dhash, 16)

    def judge(self, source: str, item: Item) -> tuple[Row, bytes | np.ndarray | None]:
        """
        Return the row of the next image, without its file's name, and its frame if it is kept.

        That is a JPEG or PNG file as it was recorded, or a picture (H, W, 3) uint8 BGR.
        """
        row = Row('', source, item.topic, item.time, item.known_by, 0, 0, '', KEPT)
        number, self._number = self._number, self._number + 1
        if number % self._settings.every:
            return replace(row, outcome=NOT_EVERY), None
        try:
            picture = item.open()
            row = replace(row, stamp=picture.stamp)
            if self._is_too_soon(row.stamp):
                return replace(row, outcome=TOO_SOON), None
            frame, grey, (height, width) = self._frame(picture)
        except UnivsegError as error:
            return replace(row, outcome=f'{UNREADABLE}: {" ".join(str(error).split())}'), None
        new_dhash = dhash(grey)
        row = replace(row, width=width, height=height, dhash=f'{new_dhash:016x}')
        if self._is_duplicate(new_dhash):
            return replace(row, outcome=DUPLICATE), None
        self._kept_stamp, self._kept_dhash = row.stamp, new_dhash
        return row, frame

    def _is_too_soon(self, stamp: int) -> bool:
        # A clock that was set back does not end the recording.
        return (self._kept_stamp is not None
                and abs(stamp - self._kept_stamp) < self._settings.min_interval * 1e9)

    def _is_duplicate(self, new_dhash: int) -> bool:
        bits = self._settings.duplicate_bits
        return (bits is not None and self._kept_dhash is not None
                and (new_dhash ^ self._kept_dhash).bit_count() <= bits)

    def _frame(self, picture: Picture) -> tuple[bytes | np.ndarray, np.ndarray, tuple[int, int]]:
        """Return the frame of a picture, a small grey one of it, and its height and width."""
        data = picture.file()
        if data and data.startswith(START[self._settings.codec]):
            grey, size = decode_small(data, SMALL_SIDE)
            if self._fitted(size) == size:
                return data, grey, size
        # A file that is kept as it is has its orientation in it.
        pixels = picture.upright()
        size = self._fitted(pixels.shape[:2])
        if self._settings.codec == 'jpg' and max(size) > LARGEST_JPEG:
            raise ImageError(f'{size[1]}x{size[0]} pixels are too many for a JPEG')
        return pixels, few_grey(pixels), size

    def _fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        longest, (height, width) = self._settings.size, size
        return fit_size(height, width, longest if longest and max(size) > longest else None)
