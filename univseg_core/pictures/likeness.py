"""
How alike pictures look: small grey pictures, and their dHash.

A dHash tells whether each of 8x8 cells is darker than the next to its right (N. Krawetz, "Kind of
Like That", 2013).
"""

import cv2
import numpy as np
from univseg_core.pictures.compressed import decode_small
from univseg_core.pictures.image_messages import CompressedImage, decode_bgr, file_inside, Image

SMALL_SIDE = 64
"""Pixels a side that are enough for a dHash."""


def dhash(grey: np.ndarray) -> int:
    """Return the 64 bits of a grey picture's dHash, (H, W) uint8, as a number."""
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), 'big')


def few_grey(picture: np.ndarray) -> np.ndarray:
    """Return some of the pixels of a picture (H, W, 3) uint8 BGR, (h, w) uint8."""
    height, width = picture.shape[:2]
    step = max(1, min(height, width) // (2 * SMALL_SIDE))
    few = cv2.resize(picture, (width // step, height // step), interpolation=cv2.INTER_NEAREST)
    return cv2.cvtColor(few, cv2.COLOR_BGR2GRAY)


def small_grey(message: Image | CompressedImage) -> np.ndarray:
    """
    Return a small grey picture of a message's, (h, w) uint8, as cheaply as it can be had.

    Raises MessageError or ImageError, as decoding does.
    """
    data = file_inside(message)
    return decode_small(data, SMALL_SIDE)[0] if data else few_grey(decode_bgr(message))
