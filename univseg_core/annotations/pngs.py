"""Masks that annotation files hold as PNGs in base64."""

import base64
import binascii
from dataclasses import dataclass

import cv2
import numpy as np
from univseg_core.annotations.json_files import checked_size
from univseg_core.annotations.regions import AnnotationError, Bits
from univseg_core.pictures.encoded import encoded_size, PNG_SIGNATURE
from univseg_core.pictures.images import opencv_image

COVERED = 128
"""From which opacity on, of 0..255, a pixel counts as painted: half of it or more."""


def from_base64(text: str) -> bytes:
    """Return the bytes of a text in base64; raise AnnotationError where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AnnotationError('expected a PNG in base64, got what is no base64') from None


def png_size(data: bytes) -> tuple[int, int]:
    """Return a whole PNG's height and width; raise AnnotationError for any other bytes."""
    try:
        size = encoded_size(data) if data.startswith(PNG_SIGNATURE) else None
    except ValueError as error:
        raise AnnotationError(f'a damaged PNG ({error})') from None
    if size is None:
        raise AnnotationError('expected a PNG')
    return checked_size(*size)


@dataclass(frozen=True)
class PngMask:
    """
    A mask as the bytes of a PNG, whose first pixel is in column `left` and row `top`.

    Of a PNG with opacity, what is opaque by half or more is covered, of one of a single channel
    what is `fewest` or more.
    """

    data: bytes
    left: int = 0
    top: int = 0
    fewest: int = 1

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return which pixels it covers; see `regions.Shape`."""
        rows, columns = png_size(self.data)
        pixels = opencv_image(np.frombuffer(self.data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.shape[:2] != (rows, columns):
            raise AnnotationError('a damaged PNG')
        if pixels.ndim == 3 and pixels.shape[2] != 4:
            raise AnnotationError('expected a PNG of one channel, or with opacity; got '
                                  f'{pixels.shape[2]} channels')
        covered = pixels >= self.fewest if pixels.ndim == 2 else pixels[..., 3] >= COVERED
        return Bits(covered, self.left, self.top).mask(height, width)
