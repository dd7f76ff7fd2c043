"""Some of the labels that are brought in, beside their images, to be looked at."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from univseg_core.datasets.folders import spread
from univseg_core.domains import Domain
from univseg_core.labelling.contact_sheet import contact_sheet
from univseg_core.pictures.images import fit_size, read_image, resize_image, resize_label
from univseg_core.pictures.overlay import overlay, with_legend

SHOWN, COLUMNS, WIDTH = 10, 2, 300
"""Images on a sheet, how many in a row, and pixels of each picture's width."""


def small_mask(classes: np.ndarray) -> np.ndarray:
    """Return the classes (H, W) uint8 of an image's pixels at the size of a sheet."""
    return resize_label(classes, *_size(*classes.shape))


def _size(height: int, width: int) -> tuple[int, int]:
    return fit_size(height, width, min(WIDTH, max(height, width)))


class SheetOfLabels:
    """
    A sheet of some of the labels that come one after another, evenly from all of them.

    It takes the memory of a few small masks, however many come.
    """

    def __init__(self, domain: Domain):
        self._domain = domain
        self._kept: list[tuple[Path, np.ndarray]] = []
        self._come, self._every = 0, 1

    def add(self, frame: Path, mask: np.ndarray) -> None:
        """Add a frame and what `small_mask` made of its classes."""
        if self._come % self._every == 0:
            self._kept.append((frame, mask))
        self._come += 1
        if len(self._kept) > 2 * SHOWN:
            self._kept, self._every = self._kept[::2], 2 * self._every

    @property
    def shown(self) -> Sequence[tuple[Path, np.ndarray]]:
        """Return the frames that are shown, and their small masks."""
        return spread(self._kept, SHOWN)

    def picture(self) -> np.ndarray:
        """
        Return each frame beside itself under its mask, (H, W, 3) uint8 RGB, with a legend.

        Raises ImageError for a frame that cannot be read any more, ValueError without any.
        """
        def tiles() -> Iterator[tuple[np.ndarray, str, list[str]]]:
            for number, (frame, mask) in enumerate(self.shown, 1):
                image = resize_image(read_image(frame), *mask.shape)
                beside = np.hstack([image, overlay(image, mask, self._domain)])
                yield beside, str(number), [frame.name]

        return with_legend(contact_sheet(tiles(), COLUMNS, 2 * WIDTH), self._domain)
