"""The label maps that are most likely to have mistakes, on one page: image, label and model."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from univseg_core.datasets.folders import read_sample
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import Segmenter
from univseg_core.labelling.contact_sheet import contact_sheet
from univseg_core.labelling.contradictions import Contradiction
from univseg_core.labelling.label_check import CheckedLabel, reason
from univseg_core.pictures.images import fit_size, resize_image, resize_label
from univseg_core.pictures.overlay import overlay, with_legend
from univseg_core.progress import progress_bar

COLUMNS, WIDTH = 2, 320
"""Label maps in a row, and pixels of each of the three pictures of one."""

INNER, OUTER = (255, 255, 0), (0, 0, 0)
"""Colours of an outline, and of what sets it off."""


def sheet_of_checked(segmenter: Segmenter, checked: Sequence[CheckedLabel], name: str
                     ) -> np.ndarray:
    """
    Return some label maps (H, W, 3) uint8 RGB, each as image, label map and model's mask.

    The worst region of each is outlined. The model looks at each image once more. Raises as
    `read_sample` does for a file that cannot be read any more.
    """
    domain = segmenter.domains[name]

    def pictures() -> Iterator[tuple[np.ndarray, str, list[str]]]:
        for rank, each in enumerate(progress_bar(checked, 'sheet'), 1):
            image, label = read_sample(each.sample, domain)
            mask = segmenter(image, [name])[name].mask
            yield (_side_by_side(image, label, mask, each.worst, domain), str(rank),
                   [f'{each.sample.name}: image, label map, model', reason(each, domain)])

    return with_legend(contact_sheet(pictures(), COLUMNS, 3 * WIDTH), domain)


def _side_by_side(image: np.ndarray, label: np.ndarray, mask: np.ndarray, region: Contradiction,
                  domain: Domain) -> np.ndarray:
    """Return image, label map and mask beside each other, with a region's outline in each."""
    height, width = image.shape[:2]
    size = fit_size(height, width, min(WIDTH, max(height, width)))
    inside = np.zeros((height, width), np.uint8)
    left, top, right, bottom = region.box
    box = slice(top, bottom), slice(left, right)
    inside[box] = (label[box] == region.label) & (mask[box] == region.model)
    outlines, _ = cv2.findContours(resize_label(inside, *size), cv2.RETR_EXTERNAL,
                                   cv2.CHAIN_APPROX_NONE)
    small = resize_image(image, *size)
    pictures = [small.copy(), overlay(small, resize_label(label, *size), domain),
                overlay(small, resize_label(mask, *size), domain)]
    for picture in pictures:
        cv2.drawContours(picture, outlines, -1, OUTER, 3)
        cv2.drawContours(picture, outlines, -1, INNER, 1)
    return np.hstack(pictures)
