"""Tiny images whose RGB was worked out by hand, in every encoding, and every way to be wrong."""

import array

from builtin_interfaces.msg import Time
import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_ros.messages import (
    decode,
    ENCODINGS,
    mask_message,
    MessageError,
    rgb_message,
)

RED, GREEN, BLUE, GREY = (200, 0, 0), (0, 150, 0), (0, 0, 100), (70, 70, 70)
PICTURE = [[RED, GREEN], [BLUE, GREY]]


def image(encoding, rows, step=None, **fields):
    """Return an Image message of rows of bytes, each padded with 99 up to `step`."""
    step = step or len(rows[0])
    data = b''.join(bytes(row) + b'\x63' * (step - len(row)) for row in rows)
    defaults = {'height': len(rows), 'width': 2, 'encoding': encoding, 'step': step,
                'data': array.array('B', data)}
    return Image(**{**defaults, **fields})


COLOUR_CASES = {
    'rgb8': [[200, 0, 0, 0, 150, 0], [0, 0, 100, 70, 70, 70]],
    'bgr8': [[0, 0, 200, 0, 150, 0], [100, 0, 0, 70, 70, 70]],
    '8UC3': [[0, 0, 200, 0, 150, 0], [100, 0, 0, 70, 70, 70]],
    'rgba8': [[200, 0, 0, 1, 0, 150, 0, 2], [0, 0, 100, 3, 70, 70, 70, 4]],
    'bgra8': [[0, 0, 200, 1, 0, 150, 0, 2], [100, 0, 0, 3, 70, 70, 70, 4]],
    '8UC4': [[0, 0, 200, 1, 0, 150, 0, 2], [100, 0, 0, 3, 70, 70, 70, 4]],
}
GREY_CASES = {
    # (rows of bytes, is_bigendian); the picture is [[0, 255], [128, 7]]
    'mono8': ([[0, 255], [128, 7]], 0),
    '8UC1': ([[0, 255], [128, 7]], 0),
    # 0, 65535; 128 * 257 = 32896 = 0x8080, 7 * 257 = 1799 = 0x0707
    'mono16': ([[0, 0, 255, 255], [0x80, 0x80, 7, 7]], 0),
}
# Two pixels a group share U and V; BT.601 with Y in 16..235: 1.164 * (Y - 16) + 1.596 * (V - 128)
# for red, ... - 0.391 * (U - 128) - 0.813 * (V - 128) for green, ... + 2.018 * (U - 128) for blue.
U, Y0, V, Y1 = 128, 16, 178, 126
YUV_PICTURE = [[(80, 0, 0), (208, 87, 128)]]
YUV_CASES = {
    'yuv422': [U, Y0, V, Y1],
    'uyvy': [U, Y0, V, Y1],
    'yuv422_yuy2': [Y0, U, Y1, V],
    'yuyv': [Y0, U, Y1, V],
}
# The first two rows of an even picture of one colour (200, 100, 50) as a Bayer sensor sees it.
BAYER_CASES = {
    'bayer_rggb8': [[200, 100], [100, 50]],
    'bayer_bggr8': [[50, 100], [100, 200]],
    'bayer_gbrg8': [[100, 50], [200, 100]],
    'bayer_grbg8': [[100, 200], [50, 100]],
}


def test_every_encoding_has_a_case():
    assert {*COLOUR_CASES, *GREY_CASES, *YUV_CASES, *BAYER_CASES} == set(ENCODINGS)


@pytest.mark.parametrize('padding', [0, 1, 5])
@pytest.mark.parametrize('encoding', COLOUR_CASES)
def test_colours(encoding, padding):
    rows = COLOUR_CASES[encoding]
    decoded = decode(image(encoding, rows, len(rows[0]) + padding))
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == np.array(PICTURE).tolist()


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('encoding', GREY_CASES)
def test_greys(encoding, padding):
    rows, big_endian = GREY_CASES[encoding]
    decoded = decode(image(encoding, rows, len(rows[0]) + padding, is_bigendian=big_endian))
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == [[[0] * 3, [255] * 3], [[128] * 3, [7] * 3]]


def test_mono16_is_scaled_not_cut():
    # 0x7fff / 257 = 127.498, while its high byte is 127 and 0x7fff / 256 = 127.996.
    assert decode(image('mono16', [[0xff, 0x7f]], width=1)).tolist() == [[[127] * 3]]
    # 0x01ff / 257 = 1.99, while its high byte is 1.
    assert decode(image('mono16', [[0xff, 0x01]], width=1)).tolist() == [[[2] * 3]]


@pytest.mark.parametrize(('big_endian', 'expected'), [(0, 0x02), (1, 0x80)])
def test_byte_order_of_mono16(big_endian, expected):
    # 0x8002 / 257 = 127.5 if the high byte is first, 0x0280 / 257 = 2.49 if it is last.
    decoded = decode(image('mono16', [[0x80, 0x02]], width=1, is_bigendian=big_endian))
    assert decoded.tolist() == [[[expected] * 3]]


@pytest.mark.parametrize('padding', [0, 2])
@pytest.mark.parametrize('encoding', YUV_CASES)
def test_yuv(encoding, padding):
    decoded = decode(image(encoding, [YUV_CASES[encoding]], 4 + padding))
    assert np.abs(decoded.astype(int) - YUV_PICTURE).max() <= 1


@pytest.mark.parametrize('padding', [0, 2])
@pytest.mark.parametrize('encoding', BAYER_CASES)
def test_bayer(encoding, padding):
    rows = np.tile(BAYER_CASES[encoding], (2, 3)).tolist()
    decoded = decode(image(encoding, rows, 6 + padding, width=6))
    assert decoded.tolist() == np.full((4, 6, 3), (200, 100, 50)).tolist()


@pytest.mark.parametrize(('message', 'expected'), [
    (image('16UC1', [[0, 0, 0, 0]]), ['16UC1', '2x1', 'unsupported encoding', 'rgb8', 'mono16']),
    (image('', [[0, 0, 0, 0]]), ["''", 'unsupported encoding']),
    (image('rgb8', [[0] * 6], width=0), ['rgb8', '0x1', 'at least 1x1']),
    (image('rgb8', [[0] * 6], height=0), ['rgb8', '2x0', 'at least 1x1']),
    (image('rgb8', [[0] * 5]), ['rgb8', '2x1', '5 bytes', 'at least 6']),
    (image('rgb8', [[0] * 6], step=6, data=array.array('B', bytes(5))),
     ['rgb8', '2x1', '5 bytes', 'expected 6']),
    (image('rgb8', [[0] * 6], data=array.array('B')), ['0 bytes', 'expected 6']),
    (image('bgra8', [[0] * 8] * 2, data=array.array('B', bytes(17))),
     ['17 bytes', 'expected 16, 2 rows of 8']),
    (image('mono16', [[0] * 3]), ['mono16', '3 bytes', 'at least 4']),
    (image('yuv422', [[0] * 6], width=3), ['yuv422', '3x1', 'multiple of 2']),
    (image('bayer_rggb8', [[0] * 2] * 2), ['bayer_rggb8', '2x2', 'at least 3x3']),
])
def test_a_wrong_image_is_named(message, expected):
    with pytest.raises(MessageError) as raised:
        decode(message)
    for part in expected:
        assert part in str(raised.value)


@pytest.mark.parametrize(('suffix', 'tolerance'), [('.png', 0), ('.jpg', 4)])
def test_compressed(suffix, tolerance):
    picture = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    _, data = cv2.imencode(suffix, picture[..., ::-1])
    decoded = decode(CompressedImage(format=suffix[1:], data=data.tobytes()))
    assert decoded.shape == picture.shape
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - picture).max() <= tolerance


def jpeg(picture):
    return cv2.imencode('.jpg', picture[..., ::-1])[1].tobytes()


@pytest.mark.parametrize('percent', [30, 60, 99])
def test_a_truncated_jpeg_is_no_picture(percent):
    whole = jpeg(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    part = whole[:len(whole) * percent // 100]
    with pytest.raises(MessageError, match=rf"'bgr8; jpeg compressed', {len(part)} bytes.*JPEG"):
        decode(CompressedImage(format='bgr8; jpeg compressed', data=part))


def test_an_orientation_in_exif_data_does_not_turn_the_picture():
    whole = jpeg(np.zeros((16, 24, 3), np.uint8))
    # One little-endian TIFF directory of one entry: tag 0x0112 (orientation), SHORT, 6 (turned).
    tiff = b'II*\0\x08\0\0\0' + b'\x01\0' + b'\x12\x01\x03\0\x01\0\0\0\x06\0\0\0' + bytes(4)
    segment = b'Exif\0\0' + tiff
    turned = whole[:2] + b'\xff\xe1' + (len(segment) + 2).to_bytes(2, 'big') + segment + whole[2:]
    applied = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert applied.shape == (24, 16, 3)
    assert decode(CompressedImage(format='jpeg', data=turned)).shape == (16, 24, 3)


@pytest.mark.parametrize('data', [b'', b'not a picture', b'\x89PNG\r\n\x1a\n'])
def test_a_damaged_compressed_image_is_named(data):
    with pytest.raises(MessageError, match=rf"'jpeg', {len(data)} bytes"):
        decode(CompressedImage(format='jpeg', data=data))


def test_mask_message_keeps_the_header_and_every_value():
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    mask[1, 2] = 255
    header = Header(stamp=Time(sec=12, nanosec=34), frame_id='camera_optical_frame')
    message = mask_message(mask, header)
    assert message.header == header
    assert (message.encoding, message.height, message.width, message.step) == ('mono8', 2, 3, 3)
    assert message.data.tolist() == [0, 1, 2, 3, 4, 255]


def test_a_mask_that_is_not_contiguous():
    message = mask_message(np.arange(6, dtype=np.uint8).reshape(2, 3).T, Header())
    assert (message.height, message.width, message.step) == (3, 2, 2)
    assert message.data.tolist() == [0, 3, 1, 4, 2, 5]


def test_rgb_message_is_what_decode_reads():
    picture = np.array(PICTURE, np.uint8)
    message = rgb_message(picture, Header())
    assert (message.encoding, message.step) == ('rgb8', 6)
    assert decode(message).tolist() == picture.tolist()
