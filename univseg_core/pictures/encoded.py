"""What JPEG and PNG files say of themselves before anything is decoded."""

import re

JPEG_START, JPEG_END = b'\xff\xd8', b'\xff\xd9'
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'

JPEG_PIXELS_PER_BYTE = 512
"""A block of 64 pixels is at least one bit of a JPEG."""

DEFLATE_RATIO = 1032
"""Bytes that one byte of a PNG's compressed pixels stands for, at most."""

PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a PNG's colour types."""

ANIMATION = (b'acTL', b'fcTL', b'fdAT')
"""Chunks of an animated PNG."""

MOST_SCANS, FEW_SCANS, SCANNED = 100, 30, 2**31
"""
Of a JPEG: each is a pass over all of its pixels, whose few bytes may stand for none. Encoders
write one to three, of progressive pictures ten to twenty. More than FEW_SCANS may have SCANNED
pixels together.
"""

MARKER = re.compile(rb'\xff[^\x00\xff\xd0-\xd7]', re.DOTALL)
"""Of a segment; in the pixels of a scan there are others."""

FILLING = re.compile(rb'\xff{2,}')
"""What may precede a marker of a JPEG, with the marker's own first byte."""

# Markers of a JPEG's segments, the second byte after 0xff.
START_OF_SCAN, END_OF_IMAGE = 0xda, 0xd9
START_OF_FRAME = set(range(0xc0, 0xd0)) - {0xc4, 0xc8, 0xcc}


def encoded_size(data: bytes) -> tuple[int, int] | None:
    """
    Return the height and width of a whole JPEG or PNG file; None for any other file.

    Raises ValueError where its end is missing, or where it claims more than its bytes can hold:
    OpenCV would take memory for that, or fill a picture with grey, without a word.
    """
    if data.startswith(JPEG_START):
        return _jpeg_size(data)
    if data.startswith(PNG_SIGNATURE):
        return _png_size(data)
    return None


def _png_size(data: bytes) -> tuple[int, int]:
    """Return a whole PNG's height and width; raise ValueError if its end is missing."""
    size = None
    stored = 0
    at = len(PNG_SIGNATURE)
    # Chunks of a length of four bytes, a name of four, content and four bytes of checksum.
    # OpenCV takes memory for the length that a chunk claims, up to 4 GB, before it reads it; and
    # it goes on behind the end where it has found no pixels.
    while at + 8 <= len(data):
        length, name = int.from_bytes(data[at:at + 4], 'big'), data[at + 4:at + 8]
        if (name == b'IHDR') != (size is None) or name in ANIMATION:
            raise ValueError('a PNG that is damaged at its beginning, or an animation')
        if name == b'IHDR':
            size = (int.from_bytes(data[at + 12:at + 16], 'big'),
                    int.from_bytes(data[at + 8:at + 12], 'big'))
        if name == b'IEND':
            if length or not stored:
                raise ValueError('a PNG with a damaged end, or without pixels')
            assert size is not None  # IHDR came first
            depth, kind = data[24:26]
            bits = size[0] * size[1] * depth * PNG_CHANNELS.get(kind, 1)
            if bits // 8 > DEFLATE_RATIO * stored:
                raise ValueError(f'too few bytes for {size[1]}x{size[0]} pixels')
            return size
        stored += length if name == b'IDAT' else 0
        at += 12 + length
    raise ValueError('a truncated PNG')


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return a whole JPEG's height and width; raise ValueError if its end is missing."""
    size = None
    at = len(JPEG_START)
    # Segments of a marker of two bytes, a length of two bytes (which counts itself), and content.
    while at + 4 <= len(data) and data[at] == 0xff:
        marker = data[at + 1]
        if marker == START_OF_SCAN and size is not None:
            # OpenCV fills what is missing of a truncated JPEG with grey, and says nothing. What
            # stands behind the end is of no matter: usb_cam sends the whole of its buffer.
            if data.find(JPEG_END, at) < 0:
                raise ValueError('a truncated JPEG')
            most = min(MOST_SCANS, max(FEW_SCANS, SCANNED // max(1, size[0] * size[1])))
            if _scans(data, at) > most:
                raise ValueError(f'a JPEG of more than {most} scans')
            if size[0] * size[1] > JPEG_PIXELS_PER_BYTE * len(data):
                raise ValueError(f'too few bytes for {size[1]}x{size[0]} pixels')
            return size
        if marker in START_OF_FRAME:
            size = (int.from_bytes(data[at + 5:at + 7], 'big'),
                    int.from_bytes(data[at + 7:at + 9], 'big'))
        if filling := FILLING.match(data, at):
            at = filling.end() - 1
        else:
            at += 2 + int.from_bytes(data[at + 2:at + 4], 'big')
    raise ValueError('a JPEG that is damaged at its beginning, or truncated')


def _scans(data: bytes, at: int) -> int:
    """Return how many scans a JPEG has from its first one on, counted to one above MOST_SCANS."""
    scans = 0
    while scans <= MOST_SCANS and (marker := MARKER.search(data, at)):
        at, kind = marker.end(), marker[0][1]
        if kind == END_OF_IMAGE:  # what stands behind is no part of it, such as a phone's video
            break
        scans += kind == START_OF_SCAN
        at += int.from_bytes(data[at:at + 2], 'big')
    return scans
