"""
The pictures in ROS image messages, without ROS.

A message is anything with the fields of sensor_msgs/Image or CompressedImage: one of rclpy's, or
one that was read from a bag. Its data is a buffer of bytes.
"""

from typing import Any, TypeAlias

import cv2
import numpy as np
from univseg_core.errors import UnivsegError
from univseg_core.pictures.compressed import decode_file
from univseg_core.pictures.encoded import JPEG_START, PNG_SIGNATURE
from univseg_core.pictures.encodings import BAYER_PATTERNS, DEPTH_ENCODINGS, Encoding, ENCODINGS
from univseg_core.pictures.images import ImageError, PNG_BIT_DEPTH, upright
from univseg_core.pictures.picture_files import orientation_of
from univseg_core.pictures.video import refusal, video_format

Image: TypeAlias = Any
"""A message with the fields of sensor_msgs/Image."""

CompressedImage: TypeAlias = Any
"""A message with the fields of sensor_msgs/CompressedImage: it alone has a `format`."""

PAGE = 4096
"""Bytes of memory of which drivers' buffers are whole multiples."""


class MessageError(UnivsegError):
    """An image message that cannot be decoded."""


def decode(message: Image | CompressedImage) -> np.ndarray:
    """
    Return the picture of a message as (H, W, 3) uint8 RGB.

    It may share the message's memory. Raises MessageError, which names the encoding, the sizes
    and what was expected, where the message does not hold such a picture.
    """
    if hasattr(message, 'format'):
        return _decompress(message)
    encoding = _check(message)
    return encoding.convert(*_planes(message, encoding))


def decode_bgr(message: Image | CompressedImage) -> np.ndarray:
    """Return what `decode` does in BGR, OpenCV's order, in which many cameras send it."""
    if getattr(message, 'encoding', None) in ('bgr8', '8UC3'):
        return _planes(message, _check(message))[0]
    return cv2.cvtColor(decode(message), cv2.COLOR_RGB2BGR)


def turned_upright(message: Image | CompressedImage, picture: np.ndarray) -> np.ndarray:
    """Return a message's picture (H, W, …) as the EXIF data of a file inside asks for."""
    if not hasattr(message, 'format'):
        return picture
    return upright(picture, orientation_of(bytes(message.data)))


def file_inside(message: Image | CompressedImage) -> bytes | None:
    """
    Return the JPEG or PNG file in a compressed message, where it is the picture as it should be.

    None of a raw message, and where `decode` has more to do than to decode a file: Bayer patterns,
    16 bits. The file is not checked. Raises MessageError for distances.
    """
    if not hasattr(message, 'format'):
        return None
    camera = message.format.partition(';')[0]
    _refuse_depth(message, camera)
    data = bytes(message.data)
    is_jpeg = data.startswith(JPEG_START)
    is_png = data.startswith(PNG_SIGNATURE) and data[PNG_BIT_DEPTH:PNG_BIT_DEPTH + 1] != b'\x10'
    is_bayer = camera.rstrip('168') in BAYER_PATTERNS
    return data if (is_jpeg or is_png) and not is_bayer else None


def nanoseconds(stamp: Any) -> int:
    """Return a header's stamp in nanoseconds."""
    return stamp.sec * 10**9 + stamp.nanosec


def _check(message: Image) -> Encoding:
    """Return the encoding of a message; raise MessageError where its sizes do not fit."""
    _refuse_depth(message, message.encoding)
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise _error(message, f'unsupported encoding; expected one of {", ".join(ENCODINGS)}')
    height, width, step = message.height, message.width, message.step
    if wrong := encoding.wrong_size(height, width):
        raise _error(message, wrong)
    row = width * encoding.channels * np.dtype(encoding.dtype).itemsize
    if step < row:
        raise _error(message, f'a row (step) has {step} bytes; expected at least {row}')
    rows = encoding.rows(height)
    surplus = len(message.data) - rows * step
    # Behind the picture a driver's buffer may have some rows of its own, or bytes up to a
    # whole page. With any other length, the step is wrong and the picture would be slanted.
    is_rows = surplus % step == 0 and surplus <= 32 * step
    if surplus < 0 or not (surplus < PAGE or is_rows):
        raise _error(message, f'{len(message.data)} bytes of data; expected {rows * step}, '
                     f'{rows} rows of {step}')
    return encoding


def _refuse_depth(message: Image | CompressedImage, encoding: str) -> None:
    if encoding in DEPTH_ENCODINGS:
        raise _error(message, f'{encoding} holds distances; expected colours or greys')


def _error(message: Image | CompressedImage, what: str) -> MessageError:
    # A damaged message's name may be long.
    if hasattr(message, 'format'):
        return MessageError(f'compressed image of format {message.format[:60]!r}, '
                            f'{len(message.data)} bytes: {what}')
    return MessageError(f'image of encoding {message.encoding[:60]!r}, {message.width}x'
                        f'{message.height} pixels: {what}')


def _planes(message: Image, encoding: Encoding) -> list[np.ndarray]:
    """Return the pixels of each plane, (rows, columns, channels), without the rows' padding."""
    height, width, step = message.height, message.width, message.step
    planes = [_plane(message, encoding, 0, (height, width, encoding.channels), step)]
    if every := encoding.chroma:
        shape = height // every, width // every, 2
        planes.append(_plane(message, encoding, height * step, shape, 2 * step // every))
    return planes


def _plane(message: Image, encoding: Encoding, offset: int, shape: tuple[int, int, int],
           step: int) -> np.ndarray:
    dtype = np.dtype(encoding.dtype).newbyteorder('>' if message.is_bigendian else '<')
    strides = (step, shape[2] * dtype.itemsize, dtype.itemsize)
    pixels = np.ndarray(shape, dtype, message.data, offset, strides)
    # OpenCV reads padded rows of bytes, but no words in another order or off their boundaries.
    return pixels if dtype.itemsize == 1 else pixels.astype(encoding.dtype)


def _decompress(message: CompressedImage) -> np.ndarray:
    # compressed_image_transport writes 'ENCODING; CODEC compressed ENCODING_IN_THE_FILE', others
    # just 'jpeg' or 'png'. Colours stand in the file in its own order, whatever is written.
    camera, _, rest = message.format.partition(';')
    in_file = rest.partition('compressed')[2].strip()
    _refuse_depth(message, camera)
    if codec := video_format(message):
        raise _error(message, refusal(codec))
    try:
        pixels = decode_file(bytes(message.data))
    except ImageError as error:
        raise _error(message, f'{error}; expected a whole JPEG or PNG') from error
    kind = 'bgr' if pixels.shape[2] == 3 else 'mono'
    # The grey picture is that of a Bayer sensor, unless it says that it was converted to mono8.
    pattern = camera.rstrip('168')
    if kind == 'mono' and pattern in BAYER_PATTERNS and in_file in ('', camera):
        kind = pattern
    encoding = ENCODINGS[f'{kind}{8 * pixels.itemsize}']
    if wrong := encoding.wrong_size(*pixels.shape[:2]):
        raise _error(message, wrong)
    return encoding.convert(pixels)
