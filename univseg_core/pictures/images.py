"""Images and label maps: reading, sizes, writing."""

from pathlib import Path

import cv2
import numpy as np
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import UnivsegError
from univseg_core.files import replacing
from univseg_core.pictures.encoded import encoded_size, PNG_SIGNATURE

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')

COLOURS_IN_PLACE = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
"""OpenCV's flags for colours whose pixels stay where the file has them."""

LARGEST_JPEG = 65500
"""Pixels a side that libjpeg can write."""

PNG_BIT_DEPTH = 24
"""Where in a PNG file the bits of a pixel's channel stand."""


class ImageError(UnivsegError):
    """A file that is not the image or label map that it should be."""


def _read(path: Path | str, flags: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image file's bytes (N,) uint8, and its picture as OpenCV's `flags` ask for it."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageError(f'{path}: cannot be read: {error.strerror}') from error
    if data.size == 0:
        raise ImageError(f'{path}: the file is empty; expected an image')
    try:
        return data, _whole_image(data, flags)
    except ImageError as error:
        raise ImageError(f'{path}: {error}') from None


def opencv_image(data: np.ndarray, flags: int) -> np.ndarray | None:
    """Return what OpenCV makes of an encoded image, uint8 bytes (N,); None of what it cannot."""
    try:
        return cv2.imdecode(data, flags)
    except cv2.error:
        return None


def _whole_image(data: np.ndarray, flags: int) -> np.ndarray:
    try:
        encoded_size(data.tobytes())
    except ValueError as error:
        raise ImageError(f'not a readable image ({error})') from None
    if (image := opencv_image(data, flags)) is None:
        raise ImageError('not a readable image (damaged, or of an unknown format)')
    return image


def decode_image(data: np.ndarray) -> np.ndarray:
    """
    Return an encoded image (JPEG, PNG, …), given as uint8 bytes (N,), as (H, W, 3) uint8 RGB.

    Pixels stay where the file has them: an orientation in its EXIF data, of which a label map
    knows nothing, is not applied. Raises ImageError for what is not a whole image.
    """
    return cv2.cvtColor(_whole_image(data, COLOURS_IN_PLACE), cv2.COLOR_BGR2RGB)


def read_image(path: Path | str) -> np.ndarray:
    """
    Return an image file as (H, W, 3) uint8 RGB, as `decode_image` does.

    Raises ImageError, which names the file, where it is missing, empty or damaged.
    """
    return cv2.cvtColor(_read(path, COLOURS_IN_PLACE)[1], cv2.COLOR_BGR2RGB)


def read_codes(path: Path | str) -> np.ndarray:
    """
    Return an image file of one 8-bit channel as (H, W) uint8, its values unchanged.

    Raises ImageError, which names the file, where it is missing, damaged or another image.
    """
    data, codes = _read(path, cv2.IMREAD_UNCHANGED)
    is_png = data[:8].tobytes() == PNG_SIGNATURE
    if is_png and data[PNG_BIT_DEPTH] < 8:
        # OpenCV would spread such values over 0..255.
        raise ImageError(f'{path}: expected a label map of 8 bits a pixel (class indices), got '
                         f'{data[PNG_BIT_DEPTH]}')
    if codes.ndim != 2 or codes.dtype != np.uint8:
        raise ImageError(
            f'{path}: expected a label map of one 8-bit channel (class indices), got shape '
            f'{codes.shape} of {codes.dtype}')
    return codes


def read_label(path: Path | str, domain: Domain) -> np.ndarray:
    """
    Return a label map as (H, W) uint8 class indices of `domain`, 255 where void.

    Raises ImageError, which names the file, where it is missing, damaged, not a single-channel
    8-bit image, or holds an index that is neither one of the domain's classes nor 255.
    """
    label = read_codes(path)
    if (label + np.uint8(1)).max() > len(domain.classes):  # 255 wraps round to 0
        foreign = np.unique(label[(label >= len(domain.classes)) & (label != IGNORE_INDEX)])
        raise ImageError(
            f'{path}: label indices {foreign.tolist()[:8]} are outside domain {domain.name}, '
            f'which has classes 0..{len(domain.classes) - 1}, and 255 for void')
    return label


def fit_size(height: int, width: int, longest_side: int | None) -> tuple[int, int]:
    """Return (height, width) scaled so that the longer is `longest_side`; None keeps them."""
    if longest_side is None:
        return height, width
    scale = longest_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """
    Return an image (H, W, 3) at another size, averaged over areas where it shrinks by a third.

    Above that, bilinear interpolation misses hardly a pixel, and takes a sixth of the time.
    """
    if image.shape[:2] == (height, width):
        return image
    shrinks = 3 * max(height / image.shape[0], width / image.shape[1]) <= 2
    return cv2.resize(image, (width, height),
                      interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_label(label: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a label map (H, W) at another size; each pixel is one of the original's."""
    if label.shape == (height, width):
        return label
    return cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write (H, W) uint8 or (H, W, 3) uint8 RGB as a PNG, whole or not at all."""
    try:
        if image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode('.png', image)
    except cv2.error as error:
        raise ImageError(
            f'{path}: an array of shape {image.shape} cannot be written as PNG') from error
    with replacing(path) as temporary:
        data.tofile(temporary)
