"""Images and label maps: reading, sizes, writing."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from univseg_core.domains import Domain
from univseg_core.files import replacing
from univseg_core.pictures.encoded import PNG_SIGNATURE
from univseg_core.pictures.label_meaning import (
    LabelMeaning,
    QuestionError,
    UNSAID,
    WHERE_TO_SAY,
)
from univseg_core.pictures.picture_files import (
    file_bytes,
    ImageError,
    NotCodesError,
    PNG_BIT_DEPTH,
    read_header,
)

COLOURS_IN_PLACE = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
"""OpenCV's flags for colours whose pixels stay where the file has them."""

LARGEST_JPEG = 65500
"""Pixels a side that libjpeg can write."""

BRING_IN = '`univseg import-labels` makes such label maps of what annotation tools write'


def opencv_image(data: np.ndarray, flags: int) -> np.ndarray | None:
    """Return what OpenCV makes of an encoded image, uint8 bytes (N,); None of what it cannot."""
    try:
        return cv2.imdecode(data, flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:  # the picture may be good
            raise MemoryError(str(error)) from error
        return None


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Return a picture (H, W, …) turned and mirrored as an EXIF orientation, 1 to 8, asks for."""
    if orientation >= 5:
        picture = picture.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


def decode_image(data: bytes) -> np.ndarray:
    """
    Return an encoded image (JPEG, PNG, BMP, TIFF, WebP) as (H, W, 3) uint8 RGB, upright.

    An orientation in its EXIF data is applied, here and nowhere else. Opacity is left out, and
    the lower 8 of 16 bits. Raises ImageError for what is not a whole image, before it is decoded
    for one of more than limits.PIXELS.
    """
    return cv2.cvtColor(_decoded(data, COLOURS_IN_PLACE), cv2.COLOR_BGR2RGB)


def _decoded(data: bytes, flags: int) -> np.ndarray:
    """Return an encoded image, upright, as OpenCV's `flags` ask for it."""
    header = read_header(data)
    if (image := opencv_image(np.frombuffer(data, np.uint8), flags)) is None:
        raise ImageError('not a readable image (damaged, or of an unknown format)')
    # OpenCV turns what it reads of a TIFF, whatever its flags say.
    return image if header.kind == 'TIFF' else upright(image, header.orientation)


def read_image(path: Path | str) -> np.ndarray:
    """
    Return an image file as (H, W, 3) uint8 RGB, as `decode_image` does.

    Raises ImageError, which names the file, where it is missing, empty or damaged.
    """
    data = file_bytes(path)
    try:
        return decode_image(data)
    except ImageError as error:
        raise ImageError(f'{path}: {error}') from None


def read_codes(path: Path | str) -> np.ndarray:
    """
    Return an image file of one 8-bit channel as (H, W) uint8, its values unchanged.

    Those of a PNG with a palette are its indices. Raises ImageError, which names the file, where
    it is missing or damaged, NotCodesError where it is another image.
    """
    data = file_bytes(path)
    try:
        return decode_codes(data)
    except ImageError as error:
        raise type(error)(f'{path}: {error}') from None


def decode_codes(data: bytes) -> np.ndarray:
    """Return what `read_codes` does of an encoded image; ImageError, which names no file."""
    from univseg_core.pictures.palette_png import decode_palette_png  # and with it Pillow
    with_palette = decode_palette_png(data)
    if with_palette is not None:
        return upright(with_palette[0], read_header(data).orientation)
    return _grey_codes(data)


def _grey_codes(data: bytes) -> np.ndarray:
    """Return an encoded image of one 8-bit channel without a palette, (H, W) uint8, upright."""
    codes = _decoded(data, cv2.IMREAD_UNCHANGED)
    if data.startswith(PNG_SIGNATURE) and data[PNG_BIT_DEPTH] < 8:
        # OpenCV would spread such values over 0..255.
        raise NotCodesError('expected a label map of 8 bits a pixel (class indices), got '
                            f'{data[PNG_BIT_DEPTH]}')
    if codes.ndim != 2 or codes.dtype != np.uint8:
        raise NotCodesError('expected a label map of one 8-bit channel (class indices), got '
                            f'shape {codes.shape} of {codes.dtype}')
    return codes


@dataclass(frozen=True)
class PlainLabels:
    """
    The reader of label maps whose values are class indices, or what a `meaning` makes of them.

    As a value, it can be compared and pickled: other processes need it, too.
    """

    meaning: LabelMeaning = UNSAID

    def __call__(self, path: Path | str, domain: Domain) -> np.ndarray:
        """
        Return a label map as (H, W) uint8 class indices of `domain`, 255 where void.

        Raises ImageError, which names the file, where it is missing, damaged, not a single-channel
        8-bit PNG, or holds an index that is neither one of the domain's classes nor 255;
        QuestionError where it is black and white, or has a palette that begins as one with a
        background, and `meaning` does not say what that is.
        """
        return self.read(file_bytes(path), path, domain)

    def read(self, data: bytes, path: Path | str, domain: Domain) -> np.ndarray:
        """Return what a label map is whose bytes were read from a path; raise as a call does."""
        from univseg_core.pictures.palette_png import decode_palette_png  # and with it Pillow
        try:
            if not data.startswith(PNG_SIGNATURE):
                read_header(data)  # or why it is no picture at all
                raise ImageError('expected a PNG; other formats may change class indices')
            with_palette = decode_palette_png(data)
            if with_palette is not None:
                return upright(self.meaning.of_palette(*with_palette, domain),
                               read_header(data).orientation)
            if data[PNG_BIT_DEPTH] == 1:
                return self.meaning.of_mask(_decoded(data, cv2.IMREAD_UNCHANGED), domain)
            return self.meaning.of_grey(_grey_codes(data), domain)
        except QuestionError as error:
            raise QuestionError(f'{path}: {error}{WHERE_TO_SAY}') from None
        except NotCodesError as error:
            raise ImageError(f'{path}: {error}; {BRING_IN}') from None
        except ImageError as error:
            raise ImageError(f'{path}: {error}') from None


read_label = PlainLabels()
"""The reader of label maps whose values are class indices."""


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
