"""Messages of random wrongness: each is a picture or an error."""

import array

import cv2
from made_messages import HUGE, png
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from univseg_core.pictures.encodings import ENCODINGS
from univseg_core.pictures.image_messages import decode, MessageError


def random_image(rng):
    """Return an Image that is right, nearly right or absurd."""
    encoding = str(rng.choice([*ENCODINGS] * 4 + ['', '16UC1', 'RGB8', 'x' * 200]))
    height, width = (int(rng.choice([*range(20)] * 5 + [2 ** 16, 2 ** 31, HUGE])) for _ in '12')
    spec = ENCODINGS.get(encoding, ENCODINGS['rgb8'])
    row = width * spec.channels * np.dtype(spec.dtype).itemsize
    step = min(HUGE, int(rng.choice([row, row + rng.integers(9), rng.integers(99), HUGE],
                                    p=[0.4, 0.5, 0.05, 0.05])))
    length = spec.rows(height) * step + int(rng.choice([0, -1, 1, step, rng.integers(-99, 9999)],
                                                       p=[0.8, 0.05, 0.05, 0.05, 0.05]))
    return Image(encoding=encoding, height=height, width=width, step=step,
                 is_bigendian=int(rng.integers(3)),
                 data=array.array('B', rng.bytes(max(0, min(length, 10_000)))))


def seeds_of_files():
    rng = np.random.default_rng(0)
    files = []
    for dtype, channels in [(np.uint8, 1), (np.uint8, 3), (np.uint8, 4), (np.uint16, 3)]:
        picture = rng.integers(0, np.iinfo(dtype).max, (16, 24, channels), dtype)
        files.append(png(picture))
        if dtype == np.uint8 and channels < 4:
            for progressive in (0, 1):
                files.append(cv2.imencode('.jpg', picture, [
                    cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes())
    return files


FILES = seeds_of_files()


def random_file(rng):
    """Return a CompressedImage in which some bytes are other ones, missing or added."""
    data = bytearray(FILES[rng.integers(len(FILES))])
    for _ in range(rng.integers(4)):
        # Most of what can go wrong stands at the beginning.
        at = int(len(data) * rng.random() ** rng.integers(1, 4))
        change = rng.integers(4)
        if change == 0:
            data[at:at + 1] = rng.bytes(1)
        elif change == 1:
            data[at:at + int(rng.integers(1, 9))] = rng.bytes(rng.integers(9))
        elif change == 2:
            del data[at:]
        else:
            data[at:at] = data[:int(rng.integers(len(data) + 1))]
    name = str(rng.choice(['jpeg', 'png', 'bayer_rggb8; jpeg compressed ', 'x' * 99, '16UC1;']))
    return CompressedImage(format=name, data=array.array('B', data))


@pytest.mark.parametrize(('make', 'count'), [(random_image, 3000), (random_file, 3000)])
def test_whatever_comes_is_a_picture_or_an_error(make, count):
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        message = make(rng)
        try:
            picture = decode(message)
        except MessageError as error:
            assert len(str(error)) < 1000
            continue
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        if isinstance(message, Image):
            assert picture.shape[:2] == (message.height, message.width)
            pictures.append(message.encoding)
        else:
            pictures.append(message.format)
    assert count / 5 < len(pictures) < count * 4 / 5
    if make is random_image:
        assert set(pictures) == set(ENCODINGS)
