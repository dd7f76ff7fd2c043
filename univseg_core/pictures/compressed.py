"""The JPEG and PNG files in compressed image messages."""

import cv2
import numpy as np
from univseg_core.files.limits import PIXELS
from univseg_core.pictures.encoded import encoded_size
from univseg_core.pictures.images import ImageError, opencv_image

REDUCED = ((8, cv2.IMREAD_REDUCED_GRAYSCALE_8), (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
           (2, cv2.IMREAD_REDUCED_GRAYSCALE_2))


def decode_file(data: bytes) -> np.ndarray:
    """
    Return the picture of a JPEG or PNG file as (H, W, 1) grey or (H, W, 3) BGR, uint8 or uint16.

    Pixels stay where the file has them, whatever its EXIF data says of its orientation; a
    channel of opacity is dropped. Raises ImageError for what is not a whole JPEG or PNG of at
    most limits.PIXELS.
    """
    _checked_size(data)
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    picture = _whole_picture(data, flags)
    return picture.reshape(*picture.shape[:2], -1)


def decode_small(data: bytes, side: int) -> tuple[np.ndarray, tuple[int, int]]:
    """
    Return a small grey picture of a JPEG or PNG file, (h, w) uint8, and its own (height, width).

    It is a half, quarter or eighth of the file's, of which a JPEG is decoded at a fraction of the
    cost, but as it is rather than less than `side` pixels a side. Raises ImageError as
    `decode_file` does.
    """
    size = _checked_size(data)
    flags = next((flags for scale, flags in REDUCED if min(size) >= scale * side),
                 cv2.IMREAD_GRAYSCALE)
    return _whole_picture(data, flags | cv2.IMREAD_IGNORE_ORIENTATION), size


def _checked_size(data: bytes) -> tuple[int, int]:
    """Return a file's height and width; raise ImageError where it should not be decoded."""
    try:
        most, size = PIXELS(), encoded_size(data)
    except ValueError as error:  # of the environment, too
        raise ImageError(str(error)) from error
    if size is None:
        raise ImageError('neither a JPEG nor a PNG')
    height, width = size
    if height * width > most:
        raise ImageError(f'{width}x{height} pixels, more than {PIXELS}')
    return size


def _whole_picture(data: bytes, flags: int) -> np.ndarray:
    picture = opencv_image(np.frombuffer(data, np.uint8), flags)
    if picture is None:
        raise ImageError('damaged')
    return picture
