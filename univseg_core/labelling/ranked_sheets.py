"""Sheets of the frames that were chosen for labelling: what they show, and the reasons."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.inference.segmenter import Segmenter
from univseg_core.labelling.contact_sheet import contact_sheet
from univseg_core.labelling.frame_views import Cells, cells_of
from univseg_core.labelling.ranking import RankedFrame
from univseg_core.pictures.images import fit_size, read_image, resize_image, resize_label
from univseg_core.pictures.overlay import BLACK, overlay, with_legend

COLUMNS, WIDTH = 5, 300
"""Chosen frames in a row, and pixels of each."""

MOST = 200
"""Frames on a sheet, the foremost: one of more is larger than what programs show."""


def sheet_of_ranked(ranked: Sequence[RankedFrame], segmenter: Segmenter, domain: Domain,
                    temperature: float = 1.0) -> np.ndarray:
    """
    Return the foremost chosen frames (H, W, 3) uint8 RGB: masks, ranks, names and reasons.

    Raises ImageError for a file that cannot be read any more.
    """
    return with_legend(contact_sheet((
        (overlay(image, mask, domain), str(each.rank), _caption(each))
        for each, image, mask, _ in _seen(ranked, segmenter, domain, temperature)),
        COLUMNS, WIDTH), domain)


def explained_sheet(ranked: Sequence[RankedFrame], segmenter: Segmenter, domain: Domain,
                    temperature: float = 1.0) -> np.ndarray:
    """
    Return the foremost chosen frames in rows, (H, W, 3) uint8 RGB.

    Of each there are the image, how unsure the model is of it (dark: sure, yellow: not at all),
    and the classes that it sees. Raises as `sheet_of_ranked` does.
    """
    return with_legend(contact_sheet((
        (np.hstack([image, _heat(image, cells), domain.colourise(mask)]), str(each.rank),
         _caption(each))
        for each, image, mask, cells in _seen(ranked, segmenter, domain, temperature)),
        1, 3 * WIDTH), domain, BLACK)


def _seen(ranked: Sequence[RankedFrame], segmenter: Segmenter, domain: Domain,
          temperature: float) -> Iterator[tuple[RankedFrame, np.ndarray, np.ndarray, Cells]]:
    """Yield chosen frames with their small images, masks, void where undecided, and cells."""
    for each in ranked[:MOST]:
        image = read_image(each.file)
        cells = cells_of(segmenter, image, domain.name, temperature)
        height, width = image.shape[:2]
        size = fit_size(height, width, min(WIDTH, max(height, width)))
        mask = np.where(cells.undecided, IGNORE_INDEX, cells.order[0]).astype(np.uint8)
        yield each, resize_image(image, *size), resize_label(mask, *size), cells


def _heat(image: np.ndarray, cells: Cells) -> np.ndarray:
    """Return an image (H, W, 3) uint8 RGB in grey, under the colours of its uncertainty."""
    unsure = np.round(255 * cells.uncertainty).astype(np.uint8)
    colours = cv2.applyColorMap(cv2.resize(unsure, image.shape[1::-1]), cv2.COLORMAP_INFERNO)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(grey, 0.3, colours[..., ::-1], 0.7, 0)


def _caption(each: RankedFrame) -> list[str]:
    return [each.file.name, *each.reason.split('; ')]
