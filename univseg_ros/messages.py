"""Arrays → sensor_msgs Image; univseg_core.pictures.image_messages goes the other way."""

import array

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header


def mask_message(mask: np.ndarray, header: Header) -> Image:
    """Return a mask (H, W) uint8 as a mono8 image with the header of the image it belongs to."""
    return _message(mask, 'mono8', header)


def rgb_message(image: np.ndarray, header: Header) -> Image:
    """Return a picture (H, W, 3) uint8 RGB as an rgb8 image."""
    return _message(image, 'rgb8', header)


def _message(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    # An array.array is what rclpy takes as it is; it copies anything else byte by byte.
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(pixels).data.cast('B'))
    height, width = pixels.shape[:2]
    return Image(header=header, height=height, width=width, encoding=encoding,
                 step=len(data) // height, data=data)
