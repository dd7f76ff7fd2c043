"""The JPEG and PNG files in compressed image messages."""

import cv2
import numpy as np
from univseg_core.images import ImageError, JPEG_END, JPEG_START, PNG_SIGNATURE

MAX_PIXELS = 2 ** 26
"""The most pixels that a file may claim to hold before memory is taken for them (two of 8K)."""

JPEG_PIXELS_PER_BYTE = 512
"""A block of 64 pixels is at least one bit of a JPEG. (A PNG's rows are counted when decoded.)"""

# Markers of a JPEG's segments, the second byte after 0xff.
START_OF_SCAN = 0xda
START_OF_FRAME = set(range(0xc0, 0xd0)) - {0xc4, 0xc8, 0xcc}


def decode_file(data: bytes) -> np.ndarray:
    """
    Return the picture of a JPEG or PNG file as (H, W, 1) grey or (H, W, 3) BGR, uint8 or uint16.

    Pixels stay where the file has them, whatever its EXIF data says of its orientation; a
    channel of opacity is dropped. Raises ImageError for what is not a whole JPEG or PNG of at
    most MAX_PIXELS.
    """
    if data.startswith(JPEG_START):
        height, width = _jpeg_size(data)
    elif data.startswith(PNG_SIGNATURE):
        height, width = _png_size(data)
    else:
        raise ImageError('neither a JPEG nor a PNG')
    if height * width > MAX_PIXELS:
        raise ImageError(f'{width}x{height} pixels, more than {MAX_PIXELS}')
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        picture = None
    if picture is None:
        raise ImageError('damaged')
    return picture.reshape(*picture.shape[:2], -1)


def _png_size(data: bytes) -> tuple[int, int]:
    """Return a whole PNG's height and width; raise ImageError if its end is missing."""
    size = None
    at = len(PNG_SIGNATURE)
    # Chunks of a length of four bytes, a name of four, content and four bytes of checksum.
    # OpenCV takes memory for the length that a chunk claims, up to 4 GB, before it reads it.
    while at + 8 <= len(data):
        length, name = int.from_bytes(data[at:at + 4], 'big'), data[at + 4:at + 8]
        if (name == b'IHDR') != (size is None) or name == b'acTL':
            raise ImageError('damaged at its beginning, or an animation')
        if name == b'IHDR':
            size = (int.from_bytes(data[at + 12:at + 16], 'big'),
                    int.from_bytes(data[at + 8:at + 12], 'big'))
        if name == b'IEND':
            return size
        at += 12 + length
    raise ImageError('truncated')


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return a whole JPEG's height and width; raise ImageError if its end is missing."""
    size = None
    at = len(JPEG_START)
    # Segments of a marker of two bytes, a length of two bytes (which counts itself), and content.
    while at + 4 <= len(data) and data[at] == 0xff:
        marker = data[at + 1]
        if marker == START_OF_SCAN and size is not None:
            # OpenCV fills what is missing of a truncated JPEG with grey, and says nothing. What
            # stands behind the end is of no matter: usb_cam sends the whole of its buffer.
            if data.find(JPEG_END, at) < 0:
                raise ImageError('truncated')
            if size[0] * size[1] > JPEG_PIXELS_PER_BYTE * len(data):
                raise ImageError(f'too few bytes for {size[1]}x{size[0]} pixels')
            return size
        if marker in START_OF_FRAME:
            size = (int.from_bytes(data[at + 5:at + 7], 'big'),
                    int.from_bytes(data[at + 7:at + 9], 'big'))
        # A marker may be preceded by further bytes 0xff.
        at += 1 if marker == 0xff else 2 + int.from_bytes(data[at + 2:at + 4], 'big')
    raise ImageError('damaged at its beginning, or truncated')
