"""A mask in few numbers: what a behaviour tree reads of it."""

import json

import cv2
import numpy as np
from std_msgs.msg import Header
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.inference.segmenter import Segmentation
from univseg_core.pictures.image_messages import nanoseconds

DIGITS = 6
"""Decimal places of shares and confidences: a pixel of a large image still counts."""

LEVELS = np.arange(256)


def class_summary(domain: Domain, segmentation: Segmentation, header: Header) -> str:
    """
    Return each class's share of an image's pixels, and how sure the model is of them, as JSON.

    Shares are 0..1, and add up to 1 with that of unknown pixels. A class's confidence is the mean
    of its pixels, 0..1; null where it has none, or where the segmentation has no confidence.
    """
    counts, sums = _counts_and_sums(segmentation)
    pixels = segmentation.mask.size
    classes = {
        name: {'share': round(float(counts[index]) / pixels, DIGITS),
               'confidence': None if sums is None or not counts[index] else
               round(float(sums[index]) / float(counts[index]) / 255, DIGITS)}
        for index, name in enumerate(domain.classes)}
    return json.dumps({
        'stamp': nanoseconds(header.stamp), 'frame_id': header.frame_id, 'classes': classes,
        'unknown': round(float(counts[IGNORE_INDEX]) / pixels, DIGITS)})


def _counts_and_sums(segmentation: Segmentation) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the number of pixels of each index (256,), and the sum of their confidences."""
    # OpenCV takes half the time of np.bincount, which widens all pixels to 64 bits.
    if segmentation.confidence is None:
        return cv2.calcHist([segmentation.mask], [0], None, [256], [0, 256]).ravel(), None
    both = cv2.calcHist([segmentation.mask, segmentation.confidence], [0, 1], None, [256, 256],
                        [0, 256, 0, 256]).astype(float)
    return both.sum(1), both @ LEVELS
