"""Tiny images whose RGB was worked out by hand, in every encoding, and every way to be wrong."""

import array
import itertools
import struct
import zlib

from builtin_interfaces.msg import Time
import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_ros.compressed import MAX_PIXELS
from univseg_ros.messages import (
    decode,
    ENCODINGS,
    mask_message,
    MessageError,
    PAGE,
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


HUGE = 2 ** 32 - 1


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


def png(picture):
    return cv2.imencode('.png', picture)[1].tobytes()


def jpeg(picture):
    return cv2.imencode('.jpg', picture)[1].tobytes()


def compressed(data, format_='jpeg'):
    return CompressedImage(format=format_, data=data)


@pytest.mark.parametrize('format_', [
    'png', 'rgb8; png compressed bgr8', 'bgr8; png compressed bgr8', 'uyvy; png compressed bgr8',
    'bayer_rggb8; png compressed bgr8', 'nonsense', ''])
def test_colours_of_a_png(format_):
    assert decode(compressed(png(np.array(PICTURE, np.uint8)[..., ::-1]), format_)).tolist() == (
        np.array(PICTURE).tolist())


@pytest.mark.parametrize('format_', [
    'jpeg', 'jpg', 'rgb8; jpeg compressed bgr8', 'bgr8; jpeg compressed bgr8',
    'rgb8; jpeg compressed rgb8', 'bayer_rggb8; jpeg compressed bgr8'])
def test_colours_of_a_jpeg(format_):
    picture = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    decoded = decode(compressed(jpeg(picture[..., ::-1]), format_))
    assert decoded.shape == picture.shape
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - picture).max() <= 4


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_a_png_is_decoded_like_the_image_that_it_was_made_of(channels, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 7, channels), dtype,
                                               endpoint=True)
    encoding = {1: 'mono', 3: 'bgr', 4: 'bgra'}[channels] + str(8 * pixels.itemsize)
    raw = image(encoding, pixels.view(np.uint8).reshape(9, -1), width=7)
    assert decode(compressed(png(pixels), 'png')).tolist() == decode(raw).tolist()


@pytest.mark.parametrize('in_file', ['', 'bayer_grbg{bits}'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_a_png_of_a_bayer_sensor(dtype, in_file):
    raw = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 8), dtype)
    bits = 8 * raw.itemsize
    name = f'bayer_grbg{bits}'
    message = compressed(png(raw), f'{name}; png compressed {in_file.format(bits=bits)}')
    assert decode(message).tolist() == decode(image(name, raw.view(np.uint8), width=8)).tolist()


def test_greys_of_a_bayer_sensor():
    grey = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    decoded = decode(compressed(png(grey), 'bayer_rggb8; png compressed mono8'))
    assert decoded.tolist() == grey[..., None].repeat(3, axis=2).tolist()


def test_a_bayer_png_that_is_too_small():
    message = compressed(png(np.zeros((2, 2), np.uint8)), 'bayer_rggb8; png compressed ')
    with pytest.raises(MessageError, match='at least 3x3'):
        decode(message)


def test_depth_in_a_png_is_no_picture():
    message = compressed(png(np.zeros((4, 4), np.uint16)), '16UC1; png compressed ')
    with pytest.raises(MessageError, match=r"'16UC1; png compressed '.*distances"):
        decode(message)


@pytest.mark.parametrize('percent', [5, 30, 60, 99])
def test_a_truncated_file_is_no_picture(percent):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    for whole in jpeg(picture), png(picture):
        part = whole[:len(whole) * percent // 100]
        with pytest.raises(MessageError, match=rf"'bgr8; jpeg compressed', {len(part)} bytes.*"
                           'whole JPEG or PNG'):
            decode(compressed(part, 'bgr8; jpeg compressed'))


def test_the_rest_of_a_buffer_behind_a_jpeg():
    whole = jpeg(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    expected = decode(compressed(whole))
    assert np.array_equal(decode(compressed(whole + bytes(100_000))), expected)


def test_a_jpeg_with_a_thumbnail_is_truncated_all_the_same():
    whole = jpeg(np.zeros((48, 64, 3), np.uint8))
    thumbnail = b'\xff\xe1' + (2 + len(whole)).to_bytes(2, 'big') + whole
    assert decode(compressed(whole[:2] + thumbnail + whole[2:])).shape == (48, 64, 3)
    with pytest.raises(MessageError, match='truncated'):
        decode(compressed(whole[:2] + thumbnail + whole[2:-20]))


def test_markers_of_a_jpeg_may_be_preceded_by_filling():
    whole = jpeg(np.zeros((48, 64, 3), np.uint8))
    assert decode(compressed(whole[:2] + b'\xff' * 9 + whole[2:])).shape == (48, 64, 3)


def test_a_progressive_jpeg():
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    data = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert np.array_equal(decode(compressed(data)), decode(compressed(jpeg(picture))))


def test_a_jpeg_of_a_webcam_without_huffman_tables():
    # Motion JPEG leaves out the tables of the standard's annex K, which OpenCV writes.
    whole = jpeg(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    without, tables = whole, b''
    while (at := without.find(b'\xff\xc4')) >= 0:
        end = at + 2 + int.from_bytes(without[at + 2:at + 4], 'big')
        tables += without[at:end]
        without = without[:at] + without[end:]
    assert len(tables) > 400
    expected = decode(compressed(whole))
    assert np.array_equal(decode(compressed(without)), expected)
    # Tables may also stand before all else.
    assert np.array_equal(decode(compressed(whole[:2] + tables + without[2:])), expected)


def test_an_orientation_in_exif_data_does_not_turn_the_picture():
    whole = jpeg(np.zeros((16, 24, 3), np.uint8))
    # One little-endian TIFF directory of one entry: tag 0x0112 (orientation), SHORT, 6 (turned).
    tiff = b'II*\0\x08\0\0\0' + b'\x01\0' + b'\x12\x01\x03\0\x01\0\0\0\x06\0\0\0' + bytes(4)
    segment = b'Exif\0\0' + tiff
    turned = whole[:2] + b'\xff\xe1' + (len(segment) + 2).to_bytes(2, 'big') + segment + whole[2:]
    applied = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert applied.shape == (24, 16, 3)
    assert decode(compressed(turned)).shape == (16, 24, 3)


def png_that_claims(height, width):
    whole = png(np.zeros((4, 4, 3), np.uint8))
    header = b'IHDR' + struct.pack('>II', width, height) + whole[24:29]
    return whole[:12] + header + struct.pack('>I', zlib.crc32(header)) + whole[33:]


def png_with_a_chunk(name, length):
    whole = png(np.zeros((4, 4, 3), np.uint8))
    chunk = struct.pack('>I', length) + name + struct.pack('>I', zlib.crc32(name))
    return whole[:33] + chunk + whole[33:]


def jpeg_that_claims(height, width):
    whole = jpeg(np.zeros((4, 4, 3), np.uint8))
    at = whole.index(b'\xff\xc0') + 5
    return whole[:at] + struct.pack('>HH', height, width) + whole[at + 4:]


@pytest.mark.parametrize(('data', 'expected'), [
    (png_that_claims(60000, 50000), f'50000x60000 pixels, more than {MAX_PIXELS}'),
    (png_that_claims(2 ** 31 - 1, 2 ** 31 - 1), '2147483647x2147483647 pixels'),
    (png_that_claims(1, MAX_PIXELS + 1), f'{MAX_PIXELS + 1}x1 pixels'),
    (png_with_a_chunk(b'tEXt', 2 ** 32 - 20), 'truncated'),
    (png_with_a_chunk(b'acTL', 0), 'an animation'),
    (jpeg_that_claims(65535, 65500) + bytes(10_000_000), '65500x65535 pixels, more than'),
    (jpeg_that_claims(1000, 1000), 'too few bytes for 1000x1000 pixels'),
])
def test_memory_is_not_taken_for_a_size_that_cannot_be(data, expected, monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('the file was decoded'))
    with pytest.raises(MessageError, match=expected):
        decode(compressed(data))


@pytest.mark.parametrize('progressive', [0, 1])
@pytest.mark.parametrize('sampling', [0x111111, 0x221111, 0x411111])
def test_the_smallest_jpeg_is_large_enough_for_its_pixels(progressive, sampling):
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_OPTIMIZE, 1,
               cv2.IMWRITE_JPEG_QUALITY, 1, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    for picture in np.zeros((2048, 2048), np.uint8), np.zeros((2048, 2048, 3), np.uint8):
        data = cv2.imencode('.jpg', picture, options)[1].tobytes()
        assert decode(compressed(data)).shape == (2048, 2048, 3)


@pytest.mark.parametrize('data', [
    b'', b'\xff', b'\xff\xd8', b'\xff\xd8\xff', b'\xff\xd8\xff\xda\0\0\xff\xd9',
    b'\xff\xd8\xff\xe0\0\0', b'\xff\xd8\xff\xc0\0\x04', b'\xff\xd8' + b'\xff' * 100,
    jpeg_that_claims(0, 4), jpeg_that_claims(4, 0), b'not a picture', b'\x89PNG\r\n\x1a\n',
    b'\x89PNG\r\n\x1a\n' + bytes(100), png_that_claims(0, 4), png_that_claims(4, 0),
    png(np.zeros((4, 4), np.uint8))[:40] + bytes(100)])
def test_a_damaged_compressed_image_is_named(data):
    with pytest.raises(MessageError, match=rf"'jpeg', {len(data)} bytes.*whole JPEG or PNG"):
        decode(compressed(data))


def test_another_kind_of_file_is_not_opened():
    data = cv2.imencode('.bmp', np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    with pytest.raises(MessageError, match='neither a JPEG nor a PNG'):
        decode(compressed(data, 'bmp'))


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
