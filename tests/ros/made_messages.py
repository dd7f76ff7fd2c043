"""Messages and files that are made by hand."""

import array

import cv2
from sensor_msgs.msg import CompressedImage, Image

HUGE = 2 ** 32 - 1
RED, GREEN, BLUE, GREY = (200, 0, 0), (0, 150, 0), (0, 0, 100), (70, 70, 70)
PICTURE = [[RED, GREEN], [BLUE, GREY]]


def image(encoding, rows, step=None, **fields):
    """Return an Image message of rows of bytes, each padded with 99 up to `step`."""
    step = step or len(rows[0])
    data = b''.join(bytes(row) + b'\x63' * (step - len(row)) for row in rows)
    defaults = {'height': len(rows), 'width': 2, 'encoding': encoding, 'step': step,
                'data': array.array('B', data)}
    return Image(**{**defaults, **fields})


def png(picture):
    return cv2.imencode('.png', picture)[1].tobytes()


def jpeg(picture):
    return cv2.imencode('.jpg', picture)[1].tobytes()


def compressed(data, format_='jpeg'):
    return CompressedImage(format=format_, data=data)
