"""sensor_msgs Image and CompressedImage ↔ numpy."""

import array

from builtin_interfaces.msg import Time
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.errors import UnivsegError
from univseg_core.images import ImageError
from univseg_ros.compressed import decode_file
from univseg_ros.encodings import BAYER_PATTERNS, DEPTH_ENCODINGS, Encoding, ENCODINGS

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
    if isinstance(message, CompressedImage):
        return _decompress(message)
    encoding = _check(message)
    return encoding.convert(*_planes(message, encoding))


def nanoseconds(stamp: Time) -> int:
    """Return a header's stamp in nanoseconds."""
    return stamp.sec * 10**9 + stamp.nanosec


def mask_message(mask: np.ndarray, header: Header) -> Image:
    """Return a mask (H, W) uint8 as a mono8 image with the header of the image it belongs to."""
    return _message(mask, 'mono8', header)


def rgb_message(image: np.ndarray, header: Header) -> Image:
    """Return a picture (H, W, 3) uint8 RGB as an rgb8 image."""
    return _message(image, 'rgb8', header)


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
    if isinstance(message, CompressedImage):
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


def _message(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    # An array.array is what rclpy takes as it is; it copies anything else byte by byte.
    data = array.array('B')
    data.frombytes(memoryview(np.ascontiguousarray(pixels)).cast('B'))
    height, width = pixels.shape[:2]
    return Image(header=header, height=height, width=width, encoding=encoding,
                 step=len(data) // height, data=data)
