"""PNGs of one 8-bit channel with a palette: indices for programs, colours for eyes."""

from collections.abc import Sequence
from pathlib import Path
import zlib

import cv2
import numpy as np
from univseg_core.files import replacing
from univseg_core.pictures.encoded import encoded_size, PNG_SIGNATURE
from univseg_core.pictures.images import ImageError

INDEXED = 3
"""The colour type, in a PNG's header, of pixels that are indices of a palette."""

BIT_DEPTH, COLOUR_TYPE = 8, 9
"""Where in the header's content they stand, a byte each."""


def write_palette_png(path: Path, mask: np.ndarray, palette: Sequence[Sequence[int]]) -> None:
    """
    Write a mask (H, W) uint8 as a PNG with a palette, whole or not at all.

    `palette` has (red, green, blue), 0..255, of each of the 256 indices.
    """
    height, width = mask.shape
    header = (width.to_bytes(4, 'big') + height.to_bytes(4, 'big')
              + bytes([8, INDEXED, 0, 0, 0]))
    rows = np.zeros((height, width + 1), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = mask
    content = b''.join([
        PNG_SIGNATURE, _chunk(b'IHDR', header),
        _chunk(b'PLTE', np.array(palette, np.uint8).reshape(256, 3).tobytes()),
        _chunk(b'IDAT', zlib.compress(rows.tobytes())), _chunk(b'IEND', b'')])
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def decode_palette_png(data: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Return the indices (H, W) uint8 and palette (n, 3) uint8 RGB of a PNG file with a palette.

    None for any other file. Raises ImageError for one that is damaged, or has an index that its
    palette lacks.
    """
    if not data.startswith(PNG_SIGNATURE):
        return None
    try:
        encoded_size(data)
    except ValueError as error:
        raise ImageError(f'not a readable image ({error})') from None
    chunks = _chunks(data)
    header = chunks[0][1]
    if len(header) != 13 or header[COLOUR_TYPE] != INDEXED:
        return None
    palette = next((content for name, content in chunks if name == b'PLTE'), b'')
    depth = header[BIT_DEPTH]
    # OpenCV gives the colours alone. Of the same pixels in a PNG of grey values it gives the
    # indices, spread over 0..255 where they have fewer than 8 bits.
    grey = bytearray(header)
    grey[COLOUR_TYPE] = 0
    kept = [(b'IHDR', bytes(grey)), *(each for each in chunks if each[0] in (b'IDAT', b'IEND'))]
    file = PNG_SIGNATURE + b''.join(_chunk(*each) for each in kept)
    try:
        spread = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        spread = None
    if spread is None or spread.ndim != 2 or spread.dtype != np.uint8 or len(palette) % 3:
        raise ImageError('not a readable image (damaged, or of an unknown format)')
    indices = spread // np.uint8(255 // (2 ** depth - 1))
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    if indices.max() >= len(colours):
        raise ImageError(f'a damaged PNG: index {indices.max()} of a palette of {len(colours)}')
    return indices, colours


def _chunk(name: bytes, content: bytes) -> bytes:
    return (len(content).to_bytes(4, 'big') + name + content
            + zlib.crc32(name + content).to_bytes(4, 'big'))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the name and content of each chunk of a whole PNG file."""
    chunks, at = [], len(PNG_SIGNATURE)
    while not chunks or chunks[-1][0] != b'IEND':
        length = int.from_bytes(data[at:at + 4], 'big')
        chunks.append((data[at + 4:at + 8], data[at + 8:at + 8 + length]))
        at += 12 + length
    return chunks
