"""How the pixels of a sensor_msgs/Image lie in its data, and how they become RGB."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np


@dataclass(frozen=True)
class Encoding:
    """
    How pixels lie in a message, and the function that makes them RGB (None: they are).

    A pixel has some `channels` of a `dtype`, uint8 or uint16. With `chroma`, these are Y alone,
    and a plane of pairs (U, V) follows, one for every `chroma` pixels and rows. OpenCV fails, or
    makes a picture black, that has fewer than `smallest` pixels a side, or a height and a width
    that are not `multiples` of these.
    """

    channels: int
    to_rgb: Callable[..., np.ndarray] | None
    dtype: type[np.generic] = np.uint8
    chroma: int | None = None
    smallest: int = 1
    multiples: tuple[int, int] = (1, 1)

    def rows(self, height: int) -> int:
        """Return how many rows of data, `step` bytes each, a picture of some height has."""
        return height if self.chroma is None else height + 2 * height // self.chroma ** 2

    def wrong_size(self, height: int, width: int) -> str | None:
        """Return what was expected of the size of a picture, None if it is right."""
        if min(height, width) < self.smallest:
            return f'expected at least {self.smallest}x{self.smallest} pixels'
        if height % self.multiples[0]:
            return f'expected a height that is a multiple of {self.multiples[0]}'
        if width % self.multiples[1]:
            return f'expected a width that is a multiple of {self.multiples[1]}'
        return None

    def convert(self, *planes: np.ndarray) -> np.ndarray:
        """
        Return (H, W, 3) uint8 RGB of the planes' pixels, each (rows, columns, channels).

        What is 8-bit RGB already is returned as it is; 16 bits are scaled to 8 as by cv_bridge.
        """
        picture = planes[0] if self.to_rgb is None else self.to_rgb(*planes)
        if self.dtype == np.uint16:
            picture = cv2.convertScaleAbs(picture, alpha=255 / 65535)
        return picture


def _by_opencv(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return partial(cv2.cvtColor, code=code)


def _two_planes_by_opencv(code: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return partial(cv2.cvtColorTwoPlane, code=code)


def _nv24_to_rgb(luma: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    # OpenCV knows no NV24. These are the numbers of its other conversions: BT.601, Y from 16
    # (what is below it is black) to 235, U and V around 128.
    to_rgb = np.array([[1.164, 0, 1.596], [1.164, -0.391, -0.813], [1.164, 2.018, 0]])
    shift = -to_rgb @ [16, 128, 128]
    yuv = cv2.merge([np.maximum(luma, 16), chroma])
    return cv2.transform(yuv, np.column_stack([to_rgb, shift]))


COLOURS = {
    'rgb': (3, None),
    'bgr': (3, _by_opencv(cv2.COLOR_BGR2RGB)),
    'rgba': (4, _by_opencv(cv2.COLOR_RGBA2RGB)),
    'bgra': (4, _by_opencv(cv2.COLOR_BGRA2RGB)),
    'mono': (1, _by_opencv(cv2.COLOR_GRAY2RGB)),
}
# ROS names a Bayer pattern by its first two rows; OpenCV by the pixels one row and one column
# further in.
BAYER_PATTERNS = {
    'bayer_rggb': (1, _by_opencv(cv2.COLOR_BayerBG2RGB)),
    'bayer_bggr': (1, _by_opencv(cv2.COLOR_BayerRG2RGB)),
    'bayer_gbrg': (1, _by_opencv(cv2.COLOR_BayerGR2RGB)),
    'bayer_grbg': (1, _by_opencv(cv2.COLOR_BayerGB2RGB)),
}
UYVY = Encoding(2, _by_opencv(cv2.COLOR_YUV2RGB_UYVY), multiples=(1, 2))
YUYV = Encoding(2, _by_opencv(cv2.COLOR_YUV2RGB_YUY2), multiples=(1, 2))

ENCODINGS = {
    **{f'{name}8': Encoding(*pixels) for name, pixels in COLOURS.items()},
    **{f'{name}16': Encoding(*pixels, np.uint16) for name, pixels in COLOURS.items()},
    # OpenCV's own type names say nothing of colours; BGR is its order.
    '8UC1': Encoding(*COLOURS['mono']),
    '8UC3': Encoding(*COLOURS['bgr']),
    '8UC4': Encoding(*COLOURS['bgra']),
    # An older and a newer name each.
    'yuv422': UYVY,
    'uyvy': UYVY,
    'yuv422_yuy2': YUYV,
    'yuyv': YUYV,
    'nv12': Encoding(1, _two_planes_by_opencv(cv2.COLOR_YUV2RGB_NV12), chroma=2,
                     multiples=(2, 2)),
    'nv21': Encoding(1, _two_planes_by_opencv(cv2.COLOR_YUV2RGB_NV21), chroma=2,
                     multiples=(2, 2)),
    'nv24': Encoding(1, _nv24_to_rgb, chroma=1),
    **{f'{name}8': Encoding(*pixels, smallest=3) for name, pixels in BAYER_PATTERNS.items()},
    **{f'{name}16': Encoding(*pixels, np.uint16, smallest=3)
       for name, pixels in BAYER_PATTERNS.items()},
}
"""The image encodings that can be decoded, by their names in sensor_msgs/image_encodings.hpp."""

DEPTH_ENCODINGS = ('16UC1', '32FC1')
"""What depth cameras send: distances in millimetres or metres."""
