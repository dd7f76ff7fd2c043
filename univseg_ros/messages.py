"""Arrays → ROS image messages; univseg_core.pictures.image_messages goes the other way."""

from typing import TypeVar

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
"""Masks are made of runs: nothing else is as fast, or makes much smaller files."""

if hasattr(cv2, 'IMWRITE_PNG_FILTER'):  # newer OpenCVs: a fifth of the time
    PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]

PNG_FORMAT = 'mono8; png compressed '
"""What image_transport's plugin writes of a mono8 image, with the space at the end."""

Message = TypeVar('Message', Image, CompressedImage)


def mask_message(mask: np.ndarray, header: Header) -> Image:
    """Return a mask (H, W) uint8 as a mono8 image with the header of the image it belongs to."""
    return _message(mask, 'mono8', header)


def compressed_mask_message(mask: np.ndarray, header: Header) -> CompressedImage:
    """Return a mask (H, W) uint8 as a grey PNG, without loss."""
    return filled(CompressedImage(header=header, format=PNG_FORMAT),
                  cv2.imencode('.png', mask, PNG)[1])


def rgb_message(image: np.ndarray, header: Header) -> Image:
    """Return a picture (H, W, 3) uint8 RGB as an rgb8 image."""
    return _message(image, 'rgb8', header)


def _message(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    height, width = pixels.shape[:2]
    return filled(Image(header=header, height=height, width=width, encoding=encoding,
                        step=pixels.nbytes // height), np.ascontiguousarray(pixels))


def filled(message: Message, data: np.ndarray | bytes) -> Message:
    """
    Return a message that had no data, with these: bytes, or a contiguous array uint8.

    A message copies what its `data` is set to, and its constructor does so twice: into new memory,
    whose pages cost more than the copying.
    """
    message.data.frombytes(data)
    return message
