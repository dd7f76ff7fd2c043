"""What PNG and JPEG files claim is held against their bytes before anything is decoded."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from univseg_core.pictures import encoded
from univseg_core.pictures.compressed import decode_file
from univseg_core.pictures.encoded import encoded_size, MOST_SCANS, PNG_SIGNATURE
from univseg_core.pictures.images import ImageError

HUGE = 0xf0000000


def chunk(name, content=b'', length=None):
    """Return a chunk of a PNG, which may claim another length than its own."""
    head = struct.pack('>I', len(content) if length is None else length) + name + content
    return head + struct.pack('>I', zlib.crc32(head[4:]))


def header(height=48, width=64, depth=8, kind=0):
    return chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, kind, 0, 0, 0))


PIXELS = zlib.compress(bytes(65 * 48))
DATA, END, FOREIGN = chunk(b'IDAT', PIXELS), chunk(b'IEND'), chunk(b'prVt', length=HUGE)


@pytest.mark.parametrize('chunks', [
    [header(), DATA, END], [header(), DATA, END, FOREIGN],
    [header(), chunk(b'IDAT', PIXELS[:9]), chunk(b'IDAT', PIXELS[9:]), END]])
def test_a_whole_png(chunks):
    data = PNG_SIGNATURE + b''.join(chunks)
    assert encoded_size(data) == (48, 64)
    assert decode_file(data).shape == (48, 64, 1)


@pytest.mark.parametrize(('chunks', 'message'), [
    ([header(), DATA, chunk(b'IEND', length=HUGE)], 'a damaged end'),
    ([header(), chunk(b'IDAu', PIXELS), END, FOREIGN], 'without pixels'),
    ([header(), END, FOREIGN], 'without pixels'),
    ([header(), chunk(b'IDAT'), END, FOREIGN], 'without pixels'),
    ([header(), FOREIGN, DATA, END], 'truncated'),
    ([header(), DATA, FOREIGN, END], 'truncated'),
    ([header(), chunk(b'IDAT', PIXELS, HUGE), END], 'truncated'),
    ([chunk(b'IHDR', header()[8:21], HUGE), DATA, END], 'truncated'),
    ([header(), header(), DATA, END], 'damaged at its beginning'),
    ([header(), chunk(b'fcTL', bytes(26)), DATA, END], 'animation'),
    ([header(8000, 8000), DATA, END], 'too few bytes for 8000x8000 pixels'),
    # 1 bit, grey; 16 bits, RGBA
    ([header(3 * 1032 * len(PIXELS), 8, 1), DATA, END], 'too few bytes'),
    ([header(130 * len(PIXELS), 1, 16, 6), DATA, END], 'too few bytes'),
])
def test_a_png_that_claims_more_than_it_has_is_not_decoded(chunks, message, monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('the file was decoded'))
    with pytest.raises(ImageError, match=message):
        decode_file(PNG_SIGNATURE + b''.join(chunks))


@pytest.mark.parametrize('pixels', [
    np.zeros((2000, 2000), np.uint8), np.zeros((2000, 1000, 3), np.uint16)])
def test_the_smallest_png_is_large_enough_for_its_pixels(pixels):
    data = cv2.imencode('.png', pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    assert decode_file(data).shape[:2] == pixels.shape[:2]


def test_a_jpeg_of_many_passes_is_not_decoded():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert decode_file(data).shape == (64, 64, 3)
    last = data.rindex(b'\xff\xda')
    more = data[:-2] + MOST_SCANS * data[last:-2] + data[-2:]
    with pytest.raises(ImageError, match='a JPEG of more than 100 scans'):
        decode_file(more)


@pytest.mark.parametrize(('scanned', 'most'), [(64 * 64 * 40, 40), (64 * 64, 30)])
def test_a_large_jpeg_may_have_fewer_passes(monkeypatch, scanned, most):
    monkeypatch.setattr(encoded, 'SCANNED', scanned)
    data = cv2.imencode('.jpg', np.zeros((64, 64), np.uint8))[1].tobytes()
    scan = data[data.rindex(b'\xff\xda'):-2]
    assert encoded_size(data[:-2] + (most - 1) * scan + data[-2:]) == (64, 64)
    with pytest.raises(ValueError, match=f'a JPEG of more than {most} scans'):
        encoded_size(data[:-2] + most * scan + data[-2:])


def test_a_video_behind_a_jpeg_is_none_of_its_scans():
    data = cv2.imencode('.jpg', np.zeros((64, 64), np.uint8))[1].tobytes()
    assert decode_file(data + 200 * b'\xff\xda\x00\x08').shape == (64, 64, 1)


def test_the_limit_of_pixels_is_the_environments(monkeypatch):
    data = cv2.imencode('.png', np.zeros((6, 8), np.uint8))[1].tobytes()
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', '48')
    assert decode_file(data).shape == (6, 8, 1)
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', '47')
    with pytest.raises(ImageError, match='8x6 pixels, more than 47 pixels, which UNIVSEG_MAX_'):
        decode_file(data)


@pytest.mark.parametrize('text', ['0', '-1', '1e6', 'many', '٣', '9' * 5000])
def test_a_variable_that_is_no_limit_is_named(text, monkeypatch):
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', text)
    with pytest.raises(ImageError, match=r'UNIVSEG_MAX_PIXELS=.*expected a whole number of pixe'):
        decode_file(cv2.imencode('.png', np.zeros((6, 8), np.uint8))[1].tobytes())
