"""PNGs of one 8-bit channel with a palette: indices for programs, colours for eyes."""

from collections.abc import Sequence
import io
from pathlib import Path

import numpy as np
from PIL import Image
from univseg_core.files import replacing
from univseg_core.pictures.encoded import PNG_SIGNATURE
from univseg_core.pictures.picture_files import ImageError, read_header

COLOUR_TYPE, INDEXED = 25, 3
"""Where in a PNG its colour type stands, and that of pixels that are indices of a palette."""


def write_palette_png(path: Path, mask: np.ndarray, palette: Sequence[Sequence[int]]) -> None:
    """
    Write a mask (H, W) uint8 as a PNG with a palette, whole or not at all.

    `palette` has (red, green, blue), 0..255, of each of the 256 indices.
    """
    image = Image.fromarray(mask)
    image.putpalette(np.array(palette, np.uint8).reshape(256, 3).tobytes())
    with replacing(path) as temporary:
        image.save(temporary, 'PNG')


def decode_palette_png(data: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Return the indices (H, W) uint8 and palette (n, 3) uint8 RGB of a PNG file with a palette.

    None for any other file. Raises ImageError for one that is damaged or too large, or has an
    index that its palette lacks.
    """
    if not data.startswith(PNG_SIGNATURE):
        return None
    read_header(data)  # of a file that is cut off, Pillow says nothing so clear
    if data[COLOUR_TYPE] != INDEXED:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=['PNG']) as image:
            palette = _palette_of(image)
            indices = np.array(image)
    except MemoryError:
        raise
    except Exception:  # whatever damage makes Pillow raise, in words of its insides
        palette, indices = b'', np.empty((0, 0), np.uint8)
    if not palette or len(palette) % 3 or indices.ndim != 2 or not indices.size:
        raise ImageError('not a readable image (damaged, or of an unknown format)')
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    if indices.max() >= len(colours):
        raise ImageError(f'a damaged PNG: index {indices.max()} of a palette of {len(colours)}')
    return indices, colours


def png_palette(data: bytes) -> np.ndarray | None:
    """Return the palette (n, 3) uint8 RGB of a whole PNG file; None of one without, or another."""
    if not data.startswith(PNG_SIGNATURE) or data[COLOUR_TYPE] != INDEXED:
        return None
    with Image.open(io.BytesIO(data), formats=['PNG']) as image:
        return np.frombuffer(_palette_of(image), np.uint8).reshape(-1, 3)


def _palette_of(image: Image.Image) -> bytes:
    return b'' if image.palette is None else bytes(image.palette.palette)
