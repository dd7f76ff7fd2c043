"""sensor_msgs Image and CompressedImage ↔ numpy."""

import array
from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.errors import UnivsegError
from univseg_core.images import decode_image, ImageError


class MessageError(UnivsegError):
    """An image message that cannot be decoded."""


@dataclass(frozen=True)
class Encoding:
    """
    How pixels lie in a message, and OpenCV's code that makes them RGB (None: they are).

    A pixel has some `channels` of a `dtype`. A picture has at least `smallest` pixels a side and
    a width that is a multiple of `width_step`: OpenCV makes it black or fails where it is not so.
    """

    channels: int
    to_rgb: int | None
    dtype: type[np.generic] = np.uint8
    smallest: int = 1
    width_step: int = 1


ENCODINGS = {
    'rgb8': Encoding(3, None),
    'bgr8': Encoding(3, cv2.COLOR_BGR2RGB),
    'rgba8': Encoding(4, cv2.COLOR_RGBA2RGB),
    'bgra8': Encoding(4, cv2.COLOR_BGRA2RGB),
    'mono8': Encoding(1, cv2.COLOR_GRAY2RGB),
    'mono16': Encoding(1, cv2.COLOR_GRAY2RGB, np.uint16),
    # OpenCV's own type names say nothing of colours; BGR is its order.
    '8UC1': Encoding(1, cv2.COLOR_GRAY2RGB),
    '8UC3': Encoding(3, cv2.COLOR_BGR2RGB),
    '8UC4': Encoding(4, cv2.COLOR_BGRA2RGB),
    # An older and a newer name each.
    'yuv422': Encoding(2, cv2.COLOR_YUV2RGB_UYVY, width_step=2),
    'uyvy': Encoding(2, cv2.COLOR_YUV2RGB_UYVY, width_step=2),
    'yuv422_yuy2': Encoding(2, cv2.COLOR_YUV2RGB_YUY2, width_step=2),
    'yuyv': Encoding(2, cv2.COLOR_YUV2RGB_YUY2, width_step=2),
    # ROS names a Bayer pattern by its first two rows; OpenCV by the pixels one row and one
    # column further in.
    'bayer_rggb8': Encoding(1, cv2.COLOR_BayerBG2RGB, smallest=3),
    'bayer_bggr8': Encoding(1, cv2.COLOR_BayerRG2RGB, smallest=3),
    'bayer_gbrg8': Encoding(1, cv2.COLOR_BayerGR2RGB, smallest=3),
    'bayer_grbg8': Encoding(1, cv2.COLOR_BayerGB2RGB, smallest=3),
}
"""The image encodings that can be decoded."""


def decode(message: Image | CompressedImage) -> np.ndarray:
    """
    Return the picture of a message as (H, W, 3) uint8 RGB.

    It may share the message's memory. Raises MessageError, which names the encoding, the sizes
    and what was expected, where the message does not hold such a picture.
    """
    if isinstance(message, CompressedImage):
        return _decompress(message)
    encoding = _check(message)
    pixels = _pixels(message, encoding)
    if encoding.to_rgb is not None:
        pixels = cv2.cvtColor(np.ascontiguousarray(pixels), encoding.to_rgb)
    if encoding.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    return pixels


def mask_message(mask: np.ndarray, header: Header) -> Image:
    """Return a mask (H, W) uint8 as a mono8 image with the header of the image it belongs to."""
    return _message(mask, 'mono8', header)


def rgb_message(image: np.ndarray, header: Header) -> Image:
    """Return a picture (H, W, 3) uint8 RGB as an rgb8 image."""
    return _message(image, 'rgb8', header)


def _check(message: Image) -> Encoding:
    """Return the encoding of a message; raise MessageError where its sizes do not fit."""
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise _error(message, f'unsupported encoding; expected one of {", ".join(ENCODINGS)}')
    height, width, step = message.height, message.width, message.step
    smallest = encoding.smallest
    if min(height, width) < smallest:
        raise _error(message, f'expected at least {smallest}x{smallest} pixels')
    if width % encoding.width_step:
        raise _error(message, f'expected a width that is a multiple of {encoding.width_step}')
    row = width * encoding.channels * np.dtype(encoding.dtype).itemsize
    if step < row:
        raise _error(message, f'a row (step) has {step} bytes; expected at least {row}')
    if len(message.data) != height * step:
        raise _error(message, f'{len(message.data)} bytes of data; expected {height * step}, '
                     f'{height} rows of {step}')
    return encoding


def _error(message: Image, what: str) -> MessageError:
    return MessageError(f'image of encoding {message.encoding!r}, {message.width}x'
                        f'{message.height} pixels: {what}')


def _pixels(message: Image, encoding: Encoding) -> np.ndarray:
    """Return the pixels (H, W, channels) as they are, without the padding of the rows."""
    dtype = np.dtype(encoding.dtype).newbyteorder('>' if message.is_bigendian else '<')
    strides = (message.step, encoding.channels * dtype.itemsize, dtype.itemsize)
    pixels = np.ndarray((message.height, message.width, encoding.channels), dtype, message.data,
                        strides=strides)
    return pixels.astype(encoding.dtype, copy=False)


def _decompress(message: CompressedImage) -> np.ndarray:
    data = np.frombuffer(message.data, np.uint8)
    try:
        return decode_image(data)
    except ImageError as error:
        raise MessageError(f'compressed image of format {message.format!r}, {data.size} bytes: '
                           f'{error}; expected a whole JPEG or PNG') from error


def _message(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    # An array.array is what rclpy takes as it is; it copies anything else byte by byte.
    data = array.array('B')
    data.frombytes(memoryview(np.ascontiguousarray(pixels)).cast('B'))
    height, width = pixels.shape[:2]
    return Image(header=header, height=height, width=width, encoding=encoding,
                 step=len(data) // height, data=data)
