"""Grey pictures in YUV, made by OpenCV or byte by byte, and colours, which are none."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from univseg_core.pictures.grey_in_yuv import grey_in_yuv
from univseg_core.pictures.image_messages import decode

H, W = 64, 48


def message(encoding, data, step):
    return SimpleNamespace(encoding=encoding, height=H, width=W, step=step, is_bigendian=0,
                           data=np.ascontiguousarray(data, np.uint8).tobytes())


@pytest.fixture
def grey():
    """Return a smooth grey picture (H, W) uint8 with a little noise."""
    ramp = np.linspace(20, 220, H * W).reshape(H, W)
    return (ramp + np.random.default_rng(0).normal(0, 3, (H, W))).astype(np.uint8)


def packed(luma, chroma, encoding, padding=0):
    order = (chroma, luma) if encoding in ('uyvy', 'yuv422') else (luma, chroma)
    rows = np.stack(order, axis=-1).reshape(H, 2 * W)
    return message(encoding, np.pad(rows, ((0, 0), (0, padding)), constant_values=7),
                   2 * W + padding)


@pytest.mark.parametrize('padding', [0, 8])
@pytest.mark.parametrize('encoding', ['uyvy', 'yuv422', 'yuyv', 'yuv422_yuy2'])
def test_neutral_chroma_is_grey(grey, encoding, padding):
    image = packed(grey, np.full_like(grey, 128), encoding, padding)
    assert grey_in_yuv(image) == 'U and V are 128 everywhere'
    pixels = decode(image)
    assert (pixels == pixels[..., :1]).all()  # as OpenCV has it


@pytest.mark.parametrize(('encoding', 'rows'), [
    ('nv12', H // 2), ('nv21', H // 2), ('nv24', 2 * H)])
def test_a_neutral_plane_is_grey(grey, encoding, rows):
    plane = np.full((rows, W), 128)
    assert grey_in_yuv(message(encoding, np.vstack([grey, plane]), W)) == (
        'U and V are 128 everywhere')
    plane[0, 2] = 131
    assert grey_in_yuv(message(encoding, np.vstack([grey, plane]), W)) == ''


@pytest.mark.parametrize('encoding', ['uyvy', 'yuyv'])
def test_two_grey_pixels_packed_as_one_are_told(grey, encoding):
    neighbour = np.clip(grey.astype(int) + np.random.default_rng(1).normal(0, 3, (H, W)), 0, 255)
    assert 'two grey pixels' in grey_in_yuv(packed(grey, neighbour.astype(np.uint8), encoding))


def test_colours_are_no_grey(grey):
    # Yellow to blue: Y falls, U rises and V falls with it.
    rgb = np.stack([grey, grey, 255 - grey], axis=-1)
    yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)
    chroma = np.where(np.arange(W) % 2, yuv[..., 2], yuv[..., 1])
    assert grey_in_yuv(packed(yuv[..., 0], chroma, 'uyvy')) == ''


@pytest.mark.parametrize('image', [
    packed(np.full((H, W), 16), np.full((H, W), 128), 'uyvy'),  # night
    message('rgb8', np.repeat(np.arange(H * W)[:, None] % 256, 3, axis=1), 3 * W),
    SimpleNamespace(format='jpeg', data=b'')])
def test_of_others_nothing_is_said(image):
    assert grey_in_yuv(image) == ''
