"""Grey images that a driver packs as YUV: what they are is seen from their bytes alone."""

import numpy as np
from univseg_core.pictures.encodings import ENCODINGS, UYVY, YUYV
from univseg_core.pictures.image_messages import Image

NEUTRAL = 128
"""U and V of a pixel without a colour."""

EVERY = 16
"""Of so many rows, one is looked at."""

CONTRAST = 32
"""Less is too dark or too even a picture to say anything of."""

ALIKE = 0.95
"""Correlation with their pixels' brightness above which U and V are no colours."""


def grey_in_yuv(message: Image) -> str:
    """
    Say why an image of a YUV encoding is grey all the same; an empty text where it is not.

    Either U and V are neutral everywhere, or a driver packs two grey pixels as one. The message
    is one that `decode` can read.
    """
    encoding = ENCODINGS.get(getattr(message, 'encoding', ''))
    if encoding is None or not (encoding.chroma or encoding in (UYVY, YUYV)):
        return ''
    height, width, step = message.height, message.width, message.step
    data = np.frombuffer(message.data, np.uint8)
    luma = data[:height * step].reshape(height, step)[::EVERY]
    if encoding.chroma:
        luma = luma[:, :width]
        rows, row = height // encoding.chroma, 2 * step // encoding.chroma
        plane = data[height * step:][:rows * row].reshape(rows, row)
        chroma = plane[::EVERY, :2 * width // encoding.chroma]
    else:
        pixels = luma[:, :2 * width].reshape(len(luma), width, 2)
        luma, chroma = (pixels[..., 1], pixels[..., 0]) if encoding is UYVY else (
            pixels[..., 0], pixels[..., 1])
    if np.ptp(luma) < CONTRAST:
        return ''
    if (chroma == NEUTRAL).all():
        return f'U and V are {NEUTRAL} everywhere'
    if not encoding.chroma and all(
            _correlation(chroma[:, each::2], luma[:, each::2]) > ALIKE for each in (0, 1)):
        return 'U and V are as bright as Y: two grey pixels seem to be packed as one'
    return ''


def _correlation(some: np.ndarray, others: np.ndarray) -> float:
    if not (np.ptp(some) and np.ptp(others)):
        return 0.0
    return float(np.corrcoef(some.ravel(), others.ravel())[0, 1])
