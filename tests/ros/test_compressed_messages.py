"""JPEG and PNG in CompressedImage: their colours, and every way to be damaged."""

import struct
import zlib

import cv2
from made_messages import compressed, image, jpeg, PICTURE, png
import numpy as np
import pytest
from univseg_core.files.limits import PIXELS
from univseg_core.pictures.image_messages import decode, MessageError


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


def png_that_claims(height, width, further_pixels=b''):
    whole = png(np.zeros((4, 4, 3), np.uint8))
    header = b'IHDR' + struct.pack('>II', width, height) + whole[24:29]
    further = struct.pack('>I', len(further_pixels)) + b'IDAT' + further_pixels + bytes(4)
    return (whole[:12] + header + struct.pack('>I', zlib.crc32(header)) + whole[33:-12] + further
            + whole[-12:])


def png_with_a_chunk(name, length):
    whole = png(np.zeros((4, 4, 3), np.uint8))
    chunk = struct.pack('>I', length) + name + struct.pack('>I', zlib.crc32(name))
    return whole[:33] + chunk + whole[33:]


def jpeg_that_claims(height, width):
    whole = jpeg(np.zeros((4, 4, 3), np.uint8))
    at = whole.index(b'\xff\xc0') + 5
    return whole[:at] + struct.pack('>HH', height, width) + whole[at + 4:]


@pytest.mark.parametrize(('data', 'expected'), [
    (png_that_claims(60000, 50000), 'too few bytes for 50000x60000 pixels'),
    (png_that_claims(2 ** 31 - 1, 2 ** 31 - 1), 'too few bytes for 2147483647x2147483647 pixels'),
    (png_that_claims(1, PIXELS() + 1, bytes(200_000)), f'{PIXELS() + 1}x1 pixels, more than'),
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
