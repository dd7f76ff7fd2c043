"""Tiny images whose RGB was worked out by hand, in every encoding, and every way to be wrong."""

import array
import itertools

from builtin_interfaces.msg import Time
from made_messages import HUGE, image, PICTURE
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.pictures.encodings import ENCODINGS
from univseg_core.pictures.image_messages import decode, MessageError, PAGE
from univseg_ros.messages import filled, mask_message, rgb_message


def words(rows, byte_order):
    """Return rows of bytes as rows of 16-bit numbers that are nearest to them when scaled."""
    # One unit of 8 bits is 257 of 16: 100 more is still rounded down, but not in another order.
    return [list(np.add(np.multiply(row, 257), 100).astype(f'{byte_order}u2').tobytes())
            for row in rows]


COLOUR_CASES = {
    'rgb': [[200, 0, 0, 0, 150, 0], [0, 0, 100, 70, 70, 70]],
    'bgr': [[0, 0, 200, 0, 150, 0], [100, 0, 0, 70, 70, 70]],
    'rgba': [[200, 0, 0, 1, 0, 150, 0, 2], [0, 0, 100, 3, 70, 70, 70, 4]],
    'bgra': [[0, 0, 200, 1, 0, 150, 0, 2], [100, 0, 0, 3, 70, 70, 70, 4]],
}
EIGHT_BITS = {
    **{f'{name}8': rows for name, rows in COLOUR_CASES.items()},
    '8UC3': COLOUR_CASES['bgr'],
    '8UC4': COLOUR_CASES['bgra'],
}
SIXTEEN_BITS = {f'{name}16': rows for name, rows in COLOUR_CASES.items()}
GREY_CASES = {
    # the picture is [[0, 255], [128, 7]]
    'mono8': [[0, 255], [128, 7]],
    '8UC1': [[0, 255], [128, 7]],
    # 0, 65535; 128 * 257 = 32896 = 0x8080, 7 * 257 = 1799 = 0x0707
    'mono16': [[0, 0, 255, 255], [0x80, 0x80, 7, 7]],
}
# BT.601 with Y in 16..235: 1.164 * (Y - 16) + 1.596 * (V - 128) for red,
# ... - 0.391 * (U - 128) - 0.813 * (V - 128) for green, ... + 2.018 * (U - 128) for blue.
U, Y0, V, Y1 = 128, 16, 178, 126
DARK_RED, LIGHT_RED = (80, 0, 0), (208, 87, 128)
PACKED_YUV_CASES = {
    # Two pixels share U and V.
    'yuv422': [U, Y0, V, Y1],
    'uyvy': [U, Y0, V, Y1],
    'yuv422_yuy2': [Y0, U, Y1, V],
    'yuyv': [Y0, U, Y1, V],
}
PLANAR_YUV_CASES = {
    # Two rows of Y, then U and V of two by two pixels.
    'nv12': [[Y0, Y1], [Y1, Y0], [U, V]],
    'nv21': [[Y0, Y1], [Y1, Y0], [V, U]],
}
# The first two rows of an even picture of one colour (200, 100, 50) as a Bayer sensor sees it.
BAYER_CASES = {
    'bayer_rggb': [[200, 100], [100, 50]],
    'bayer_bggr': [[50, 100], [100, 200]],
    'bayer_gbrg': [[100, 50], [200, 100]],
    'bayer_grbg': [[100, 200], [50, 100]],
}


def test_every_encoding_has_a_case():
    bayer = {f'{name}{bits}' for name in BAYER_CASES for bits in (8, 16)}
    assert {*EIGHT_BITS, *SIXTEEN_BITS, *GREY_CASES, *PACKED_YUV_CASES, *PLANAR_YUV_CASES, 'nv24',
            *bayer} == set(ENCODINGS)


@pytest.mark.parametrize('padding', [0, 1, 5])
@pytest.mark.parametrize('encoding', EIGHT_BITS)
def test_colours_of_8_bits(encoding, padding):
    rows = EIGHT_BITS[encoding]
    decoded = decode(image(encoding, rows, len(rows[0]) + padding))
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == np.array(PICTURE).tolist()


@pytest.mark.parametrize('padding', [0, 1, 6])
@pytest.mark.parametrize('byte_order', '<>')
@pytest.mark.parametrize('encoding', SIXTEEN_BITS)
def test_colours_of_16_bits(encoding, byte_order, padding):
    rows = words(SIXTEEN_BITS[encoding], byte_order)
    decoded = decode(image(encoding, rows, len(rows[0]) + padding,
                           is_bigendian=int(byte_order == '>')))
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == np.array(PICTURE).tolist()


def test_one_row_of_16_bits_with_an_odd_step():
    rows = words([[200, 0, 0, 0, 150, 0]], '<')
    assert decode(image('rgb16', rows, 13)).tolist() == [[[200, 0, 0], [0, 150, 0]]]


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('encoding', GREY_CASES)
def test_greys(encoding, padding):
    rows = GREY_CASES[encoding]
    decoded = decode(image(encoding, rows, len(rows[0]) + padding))
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == [[[0] * 3, [255] * 3], [[128] * 3, [7] * 3]]


@pytest.mark.parametrize('byte_order', '<>')
def test_all_values_of_mono16_are_scaled_not_cut(byte_order):
    values = np.arange(65536, dtype=f'{byte_order}u2').reshape(256, 256)
    decoded = decode(image('mono16', values.view(np.uint8), width=256,
                           is_bigendian=int(byte_order == '>')))
    # 0x7fff / 257 = 127.498, while its high byte is 127 and 0x7fff / 256 = 127.996.
    assert decoded[0x7f, 0xff].tolist() == [127] * 3
    assert decoded.tolist() == np.repeat(np.round(values[..., None] / 257), 3, axis=2).tolist()


@pytest.mark.parametrize('padding', [0, 2, 3])
@pytest.mark.parametrize('encoding', PACKED_YUV_CASES)
def test_packed_yuv(encoding, padding):
    decoded = decode(image(encoding, [PACKED_YUV_CASES[encoding]], 4 + padding))
    assert decoded.tolist() == [[[*DARK_RED], [*LIGHT_RED]]]


@pytest.mark.parametrize('padding', [0, 1, 6])
@pytest.mark.parametrize('encoding', PLANAR_YUV_CASES)
def test_planar_yuv(encoding, padding):
    rows = PLANAR_YUV_CASES[encoding]
    decoded = decode(image(encoding, rows, 2 + padding, height=2))
    assert decoded.tolist() == [[[*DARK_RED], [*LIGHT_RED]], [[*LIGHT_RED], [*DARK_RED]]]


@pytest.mark.parametrize('padding', [b'', b'\x63', b'\x63' * 6])
def test_nv24(padding):
    # A row of pairs U, V is twice as long as one of Y, and so is its padding. A grey pixel:
    # 1.164 * (126 - 16) = 128.04; a blue one: 2.018 * (178 - 128) = 100.9, -0.391 * 50 < 0.
    luma = bytes([Y0, Y1, Y1]) + padding, bytes([Y0, Y0, Y1]) + padding
    chroma = (bytes([U, V, U, V, U, U]) + 2 * padding, bytes([U, U, V, U, U, V]) + 2 * padding)
    message = Image(encoding='nv24', height=2, width=3, step=len(luma[0]),
                    data=array.array('B', b''.join(luma + chroma)))
    assert decode(message).tolist() == [[[*DARK_RED], [*LIGHT_RED], [128] * 3],
                                        [[0] * 3, [0, 0, 101], [*LIGHT_RED]]]


def test_nv24_is_nv12_with_more_colours():
    rng = np.random.default_rng(0)
    luma = rng.integers(0, 256, (64, 48), np.uint8)
    pairs = rng.integers(0, 256, (32, 24, 2), np.uint8)
    all_pairs = pairs.repeat(2, axis=0).repeat(2, axis=1)
    fields = {'height': 64, 'width': 48, 'step': 48}
    nv12 = Image(encoding='nv12', data=luma.tobytes() + pairs.tobytes(), **fields)
    nv24 = Image(encoding='nv24', data=luma.tobytes() + all_pairs.tobytes(), **fields)
    # OpenCV computes NV12 in whole numbers.
    assert np.abs(decode(nv24).astype(int) - decode(nv12)).max() <= 1


@pytest.mark.parametrize('padding', [0, 2, 3])
@pytest.mark.parametrize('pattern', BAYER_CASES)
def test_bayer(pattern, padding):
    rows = np.tile(BAYER_CASES[pattern], (2, 3)).tolist()
    expected = np.full((4, 6, 3), (200, 100, 50)).tolist()
    assert decode(image(f'{pattern}8', rows, 6 + padding, width=6)).tolist() == expected
    for byte_order in '<>':
        decoded = decode(image(f'{pattern}16', words(rows, byte_order), 12 + padding, width=6,
                               is_bigendian=int(byte_order == '>')))
        assert decoded.tolist() == expected


@pytest.mark.parametrize(('height', 'width'), [(3, 3), (7, 9), (8, 6)])
@pytest.mark.parametrize('pattern', BAYER_CASES)
def test_what_a_bayer_sensor_sees_is_kept(pattern, height, width):
    raw = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    decoded = decode(image(f'{pattern}8', raw, width=width))
    letters = np.array([*pattern[-4:]]).reshape(2, 2)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            assert decoded[y, x]['rgb'.index(letters[y % 2, x % 2])] == raw[y, x]


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_size_that_is_not_refused(encoding):
    spec = ENCODINGS[encoding]
    for height, width, padding in itertools.product(range(1, 7), range(1, 7), range(3)):
        step = width * spec.channels * np.dtype(spec.dtype).itemsize + padding
        message = Image(encoding=encoding, height=height, width=width, step=step,
                        data=bytes(spec.rows(height) * step))
        if spec.wrong_size(height, width) is None:
            assert decode(message).shape == (height, width, 3)
        else:
            with pytest.raises(MessageError):
                decode(message)


@pytest.mark.parametrize('step', [6, 9])
def test_rgb8_is_not_copied(step):
    message = image('rgb8', COLOUR_CASES['rgb'], step)
    assert np.shares_memory(decode(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize('surplus', [1, PAGE - 1, 600 * 16])
@pytest.mark.parametrize('encoding', ['mono8', 'nv12'])
def test_a_buffer_that_is_longer_than_the_picture(encoding, surplus):
    rows = 600 if encoding == 'mono8' else 900
    fields = {'encoding': encoding, 'height': 600, 'width': 598, 'step': 600}
    data = np.random.default_rng(0).integers(0, 256, rows * 600, np.uint8).tobytes()
    longer = decode(Image(data=data + bytes(surplus), **fields))
    assert np.array_equal(longer, decode(Image(data=data, **fields)))


def test_data_of_another_step_is_refused():
    with pytest.raises(MessageError, match='4699 bytes of data; expected 603, 3 rows of 201'):
        decode(Image(encoding='mono8', height=3, width=200, step=201, data=bytes(603 + PAGE)))
    # 1248 bytes are a row, while it says 1230, as a driver of a Raspberry Pi's camera did.
    message = Image(encoding='bgr8', height=308, width=410, step=1230, data=bytes(1248 * 320))
    with pytest.raises(MessageError, match='399360 bytes of data; expected 378840, 308 rows'):
        decode(message)


@pytest.mark.parametrize(('message', 'expected'), [
    (image('16UC1', [[0, 0, 0, 0]]), ['16UC1', '2x1', 'distances', 'colours']),
    (image('32FC1', [[0] * 8]), ['32FC1', '2x1', 'distances', 'colours']),
    (image('8UC2', [[0, 0, 0, 0]]), ['8UC2', '2x1', 'unsupported encoding', 'rgb8', 'mono16']),
    (image('', [[0, 0, 0, 0]]), ["''", 'unsupported encoding']),
    (image('rgb8', [[0] * 6], width=0), ['rgb8', '0x1', 'at least 1x1']),
    (image('rgb8', [[0] * 6], height=0), ['rgb8', '2x0', 'at least 1x1']),
    (image('rgb8', [[0] * 5]), ['rgb8', '2x1', '5 bytes', 'at least 6']),
    (image('rgb8', [[0] * 6], step=6, data=array.array('B', bytes(5))),
     ['rgb8', '2x1', '5 bytes', 'expected 6']),
    (image('rgb8', [[0] * 6], data=array.array('B')), ['0 bytes', 'expected 6']),
    (image('bgra8', [[0] * 8] * 2, data=array.array('B', bytes(8 + 2 * PAGE + 1))),
     ['8201 bytes', 'expected 16, 2 rows of 8']),
    (image('mono16', [[0] * 3]), ['mono16', '3 bytes', 'at least 4']),
    (image('yuv422', [[0] * 6], width=3), ['yuv422', '3x1', 'width', 'multiple of 2']),
    (image('nv12', [[0] * 3] * 3, height=2, width=3), ['nv12', '3x2', 'width', 'multiple of 2']),
    (image('nv21', [[0] * 2] * 5, height=3), ['nv21', '2x3', 'height', 'multiple of 2']),
    (image('nv12', [[0] * 2] * 2), ['nv12', '4 bytes', 'expected 6, 3 rows of 2']),
    # 1.5 bytes a pixel are no row of Y.
    (image('nv12', [[0] * 3] * 2), ['nv12', '6 bytes', 'expected 9, 3 rows of 3']),
    (image('nv24', [[0] * 2] * 5, height=2), ['nv24', '10 bytes', 'expected 12, 6 rows of 2']),
    (image('bayer_rggb8', [[0] * 2] * 2), ['bayer_rggb8', '2x2', 'at least 3x3']),
    (image('bayer_grbg16', [[0] * 4] * 3), ['bayer_grbg16', '2x3', 'at least 3x3']),
    (image('rgb8', [[0] * 6], height=HUGE), ['2x4294967295', f'expected {HUGE * 6}']),
    (image('rgb8', [[0] * 6], width=HUGE), ['4294967295x1', f'at least {HUGE * 3}']),
    (image('rgb8', [[0] * 6], height=HUGE, width=HUGE), [f'at least {HUGE * 3}']),
    # 2 ** 31 rows of 2 bytes would be 0 bytes in 32 bits.
    (image('mono8', [[0, 0]], height=2 ** 31, data=array.array('B')), [f'expected {2 ** 32}']),
    (Image(encoding='mono8', height=HUGE, width=HUGE, step=HUGE), [f'expected {HUGE ** 2}']),
])
def test_a_wrong_image_is_named(message, expected):
    with pytest.raises(MessageError) as raised:
        decode(message)
    for part in expected:
        assert part in str(raised.value)


@pytest.mark.parametrize('name', ['x' * 100_000, '\ud800' * 1000, '\0\n', 'RGB8'])
def test_a_strange_name_makes_no_strange_error(name):
    for message in (image(name, [[0] * 6]), CompressedImage(format=name, data=b'?')):
        with pytest.raises(MessageError) as raised:
            decode(message)
        assert len(str(raised.value)) < 1000
        assert str(raised.value).isprintable()


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


@pytest.mark.parametrize('data', [b'abc', np.array([97, 98, 99], np.uint8),
                                  np.array([[[97], [98], [99]]], np.uint8)])
@pytest.mark.parametrize('kind', [Image, CompressedImage])
def test_bytes_are_put_into_the_array_that_a_message_has(data, kind):
    message = kind()
    own = message.data
    assert filled(message, data) is message
    assert message.data is own
    assert own == array.array('B', b'abc')


def test_rgb_message_is_what_decode_reads():
    picture = np.array(PICTURE, np.uint8)
    message = rgb_message(picture, Header())
    assert (message.encoding, message.step) == ('rgb8', 6)
    assert decode(message).tolist() == picture.tolist()
