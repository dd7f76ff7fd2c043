"""Images and label maps: what is read, what is refused, and what a new size may change."""

import io
import os
import zlib

import cv2
import numpy as np
from PIL import Image, ImageOps
import pytest
from tiny_worlds import OUTDOOR, random_image
from univseg_core.files.limits import LimitError
from univseg_core.pictures.images import (
    decode_image,
    fit_size,
    ImageError,
    read_image,
    read_label,
    resize_image,
    resize_label,
    upright,
    write_png,
)
from univseg_core.pictures.picture_files import orientation_of

READERS = [read_image, lambda path: read_label(path, OUTDOOR)]


def save(path, array):
    """Write an array with OpenCV, as it is."""
    assert cv2.imwrite(str(path), array)
    return path


def test_png_round_trip_keeps_every_value(tmp_path):
    image = random_image(7, 9)
    write_png(tmp_path / 'new' / 'image.png', image)
    assert np.array_equal(read_image(tmp_path / 'new' / 'image.png'), image)

    label = np.array([[0, 1, 2, 255]], np.uint8)
    write_png(tmp_path / 'label.png', label)
    assert np.array_equal(read_label(tmp_path / 'label.png', OUTDOOR), label)


def test_colours_are_red_green_blue(tmp_path):
    save(tmp_path / 'a.png', np.full((2, 2, 3), (30, 20, 10), np.uint8))  # OpenCV's BGR
    assert read_image(tmp_path / 'a.png')[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(('array', 'expected'), [
    (np.full((2, 3), 77, np.uint8), [77, 77, 77]),
    (np.full((2, 3), 77 * 257, np.uint16), [77, 77, 77]),
    (np.full((2, 3, 4), (30, 20, 10, 0), np.uint8), [10, 20, 30]),
])
def test_grey_16_bit_and_transparent_images_become_rgb(tmp_path, array, expected):
    image = read_image(save(tmp_path / 'a.png', array))
    assert image.shape == (2, 3, 3)
    assert image.dtype == np.uint8
    assert image[1, 2].tolist() == expected


@pytest.mark.parametrize('read', READERS)
@pytest.mark.parametrize(('content', 'message'), [
    (None, 'cannot be read: No such file'),
    (b'', 'the file is empty'),
    (b'not an image at all', 'not a readable image'),
    (bytes(1000), 'not a readable image'),
])
def test_files_that_are_no_image_are_named(tmp_path, read, content, message):
    path = tmp_path / 'image.png'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=f'image.png: .*{message}'):
        read(path)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.tif', '.webp'])
@pytest.mark.parametrize('share', [0.1, 0.5, 0.95])
def test_truncated_images_are_refused(tmp_path, suffix, share):
    data = save(tmp_path / f'whole{suffix}', random_image(60, 80)).read_bytes()
    path = tmp_path / f'cut{suffix}'
    path.write_bytes(data[:int(share * len(data))])
    with pytest.raises(ImageError, match=rf'cut\{suffix}: not a readable image'):
        read_image(path)


def test_truncated_label_maps_are_refused(tmp_path):
    label = np.random.default_rng(0).integers(0, 3, (60, 80)).astype(np.uint8)
    data = save(tmp_path / 'label.png', label).read_bytes()
    (tmp_path / 'label.png').write_bytes(data[:len(data) // 2])
    with pytest.raises(ImageError, match=r'label\.png: not a readable image'):
        read_label(tmp_path / 'label.png', OUTDOOR)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(ImageError, match='cannot be read'):
        read_image(tmp_path)


@pytest.mark.parametrize(('array', 'message'), [
    (np.zeros((4, 5), np.uint16), r'\(4, 5\) of uint16'),
    (np.zeros((4, 5, 3), np.uint8), r'\(4, 5, 3\) of uint8'),
    (np.zeros((4, 5, 4), np.uint8), r'\(4, 5, 4\) of uint8'),
])
def test_label_maps_are_one_channel_of_8_bits(tmp_path, array, message):
    path = save(tmp_path / 'label.png', array)
    with pytest.raises(ImageError, match=rf'label\.png: expected .*one 8-bit channel.*{message}'):
        read_label(path, OUTDOOR)


def test_label_maps_of_one_bit_are_asked_about(tmp_path):
    """Decoded to 8 bits, class 1 would become 255: void, without a word."""
    path = tmp_path / 'label.png'
    label = np.array([[0, 255, 255, 0]], np.uint8)
    assert cv2.imwrite(str(path), label, [cv2.IMWRITE_PNG_BILEVEL, 1])
    with pytest.raises(ImageError, match=r'label\.png: has the values 0 and 255 alone\. Was 255'):
        read_label(path, OUTDOOR)


@pytest.mark.parametrize('ending', ['.jpg', '.bmp', '.tif'])
def test_a_label_map_is_a_png_whatever_its_name(tmp_path, ending):
    """A JPEG of indices has others round every edge, of which some are classes."""
    path = save(tmp_path / f'label{ending}', np.zeros((8, 8), np.uint8))
    with pytest.raises(ImageError, match=r'label\.png: expected a PNG; other formats may change'):
        read_label(path.rename(tmp_path / 'label.png'), OUTDOOR)


@pytest.mark.parametrize('foreign', [3, 100, 254])
def test_indices_outside_the_domain_are_named(tmp_path, foreign):
    path = save(tmp_path / 'label.png', np.array([[0, 2, 255, foreign]], np.uint8))
    message = rf'label\.png: .*\[{foreign}\].*outdoor.*0\.\.2, and 255'
    with pytest.raises(ImageError, match=message):
        read_label(path, OUTDOOR)


@pytest.mark.parametrize(('size', 'longest', 'expected'), [
    ((360, 480), 240, (180, 240)),
    ((480, 360), 240, (240, 180)),
    ((720, 1280), 320, (180, 320)),
    ((10, 2000), 64, (1, 64)),
    ((30, 40), 80, (60, 80)),
    ((31, 47), None, (31, 47)),
])
def test_the_longest_side_is_fitted(size, longest, expected):
    assert fit_size(*size, longest) == expected


@pytest.mark.parametrize('size', [(5, 7), (30, 43), (24, 90), (61, 100), (1, 1)])
def test_resizing_never_invents_label_values(size):
    label = np.random.default_rng(0).choice([0, 2, 254, 255], (30, 43)).astype(np.uint8)
    resized = resize_label(label, *size)
    assert resized.shape == size
    assert resized.dtype == np.uint8
    assert set(np.unique(resized)) <= {0, 2, 254, 255}


@pytest.mark.parametrize('size', [(37, 100), (90, 43), (123, 201), (5, 7)])
def test_labels_are_resized_to_the_pixel_at_the_same_place(size):
    """Each new pixel's centre lies in the old pixel whose value it has."""
    y, x = np.mgrid[:61, :89].astype(np.uint8)
    rows = ((np.arange(size[0]) + 0.5) * 61 / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * 89 / size[1]).astype(int)
    assert np.array_equal(resize_label(y, *size), np.tile(rows[:, None], (1, size[1])))
    assert np.array_equal(resize_label(x, *size), np.tile(columns, (size[0], 1)))


def test_a_shrunk_image_is_the_mean_of_its_areas():
    image = random_image(16, 24)
    means = image.reshape(4, 4, 6, 4, 3).astype(float).mean((1, 3))
    assert np.abs(resize_image(image, 4, 6) - means).max() <= 0.5


def test_a_grown_image_keeps_its_place():
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:] = 255
    grown = resize_image(image, 12, 18)
    assert grown.shape == (12, 18, 3)
    assert (grown[:, :8] == 0).all()
    assert (grown[:, 10:] == 255).all()


def test_an_image_of_the_right_size_is_not_touched():
    image = random_image(4, 6)
    assert resize_image(image, 4, 6) is image


def test_an_array_that_is_no_picture_is_not_written(tmp_path):
    with pytest.raises(ImageError, match=r'bad\.png.*\(2, 0\)'):
        write_png(tmp_path / 'bad.png', np.zeros((2, 0), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('share', [0.3, 0.6, 0.99])
def test_a_truncated_jpeg_is_no_image(tmp_path, share):
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    data = cv2.imencode('.jpg', picture)[1].tobytes()
    assert decode_image(data).shape == (40, 60, 3)
    with pytest.raises(ImageError, match='truncated JPEG'):
        decode_image(data[:int(share * len(data))])


def encoded(picture, kind, orientation=None, **options):
    """Return a file that Pillow writes, with an orientation in its EXIF data."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    file = io.BytesIO()
    picture.save(file, kind, exif=exif, **options)
    return file.getvalue()


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize(('kind', 'options', 'tolerance'), [
    ('JPEG', {'quality': 100, 'subsampling': 0}, 3), ('PNG', {}, 0), ('TIFF', {}, 0),
    ('WEBP', {'lossless': True}, 0)])
def test_an_orientation_in_exif_data_turns_the_picture_upright(kind, options, tolerance,
                                                               orientation):
    """As Pillow turns it, which has code of its own for that."""
    data = encoded(Image.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3) * 3), kind,
                   orientation, **options)
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.array(ImageOps.exif_transpose(picture)).astype(int)
    assert expected.shape == ((4, 6, 3) if orientation < 5 else (6, 4, 3))
    assert np.abs(decode_image(data) - expected).max() <= tolerance
    assert orientation_of(data) == orientation


def test_what_each_orientation_means():
    """By hand: the letter that EXIF's authors say to be at the top left."""
    lies = np.array([['a', 'b'], ['c', 'd'], ['e', 'f']])
    corners = {1: 'abef', 2: 'bafe', 3: 'feba', 4: 'efab', 5: 'aebf', 6: 'eafb', 7: 'fbea',
               8: 'bfae'}
    for orientation, expected in corners.items():
        turned = upright(lies, orientation)
        assert ''.join(turned[[0, 0, -1, -1], [0, -1, 0, -1]]) == expected


@pytest.mark.parametrize('orientation', [0, 9, 65535])
def test_an_orientation_that_there_is_not_is_none(orientation):
    data = encoded(Image.new('RGB', (6, 4)), 'JPEG', orientation)
    assert decode_image(data).shape == (4, 6, 3)


def chunk(name, content):
    return (len(content).to_bytes(4, 'big') + name + content
            + zlib.crc32(name + content).to_bytes(4, 'big'))


def test_exif_data_behind_the_pixels_of_a_png_count():
    data = encoded(Image.new('RGB', (6, 4)), 'PNG', 6)
    at = data.index(b'eXIf') - 4
    length = 12 + int.from_bytes(data[at:at + 4], 'big')
    exif, rest = data[at:at + length], data[:at] + data[at + length:]
    assert decode_image(rest).shape == (4, 6, 3)
    assert decode_image(rest[:-12] + exif + rest[-12:]).shape == (6, 4, 3)
    assert decode_image(rest[:-12] + chunk(b'eXIf', b'MM\0*broken') + rest[-12:]).shape == (
        4, 6, 3)


def interlaced(image):
    """Return a PNG of Adam7's seven passes, (H, W, 3) uint8."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
              (0, 1, 1, 2))
    rows = [b'\0' + row.tobytes() for x, y, columns, lines in passes
            for row in image[y::lines, x::columns]]
    height, width = image.shape[:2]
    header = (width.to_bytes(4, 'big') + height.to_bytes(4, 'big') + bytes([8, 2, 0, 0, 1]))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
            + chunk(b'IDAT', zlib.compress(b''.join(rows))) + chunk(b'IEND', b''))


@pytest.mark.parametrize(('mode', 'kind', 'options'), [
    ('CMYK', 'JPEG', {'quality': 95}), ('CMYK', 'TIFF', {}), ('L', 'JPEG', {'quality': 95}),
    ('RGB', 'JPEG', {'quality': 95, 'progressive': True}), ('RGB', 'MPO', {'quality': 95}),
    ('LA', 'PNG', {}), ('P', 'PNG', {}), ('1', 'PNG', {}), ('RGBA', 'WEBP', {'lossless': True}),
    ('1', 'TIFF', {'compression': 'group4'}), ('P', 'TIFF', {}), ('P', 'BMP', {}),
    ('RGB', 'TIFF', {'compression': 'tiff_lzw'}), ('RGB', 'BMP', {})])
def test_every_kind_of_picture_becomes_the_rgb_that_pillow_makes_of_it(mode, kind, options):
    y, x = np.mgrid[:20, :28]
    picture = Image.fromarray(np.dstack([9 * x, 12 * y, 5 * (x + y)]).astype(np.uint8))
    data = encoded(picture.convert(mode), kind, **options)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.array(opened.convert('RGB')).astype(int)
    assert np.abs(decode_image(data) - expected).max() <= 1


def test_an_interlaced_png_is_read():
    image = random_image(13, 11)
    assert np.array_equal(decode_image(interlaced(image)), image)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.tif', '.webp'])
def test_a_picture_of_more_pixels_than_the_limit_is_not_decoded(tmp_path, monkeypatch, suffix):
    path = save(tmp_path / f'a{suffix}', random_image(6, 5))
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', '30')
    assert read_image(path).shape == (6, 5, 3)
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', '29')
    monkeypatch.setattr(cv2, 'imdecode', None)
    with pytest.raises(ImageError, match=rf'a\{suffix}: 30 pixels, more than 29 pixels, whic'):
        read_image(path)


def test_the_usual_limit_is_two_pictures_of_8k(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', None)
    header = (8193).to_bytes(4, 'big') + (8192).to_bytes(4, 'big') + bytes([1, 0, 0, 0, 0])
    row = bytes(1 + 8193 // 8 + 1)
    compressor = zlib.compressobj()
    pixels = b''.join(compressor.compress(row) for _ in range(8192)) + compressor.flush()
    (tmp_path / 'bomb.png').write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
                                        + chunk(b'IDAT', pixels) + chunk(b'IEND', b''))
    with pytest.raises(ImageError, match=r'bomb\.png: 67117056 pixels, more than 67108864'):
        read_image(tmp_path / 'bomb.png')


def test_a_limit_that_is_no_number_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', '64M')
    with pytest.raises(LimitError, match='UNIVSEG_MAX_PIXELS=64M: expected a whole number'):
        read_image(save(tmp_path / 'a.png', random_image(2, 2)))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'a.png')
    with pytest.raises(ImageError, match=r'a\.png: cannot be read: expected a file'):
        read_image(tmp_path / 'a.png')


def test_a_label_map_with_a_palette_is_its_indices(tmp_path):
    label = np.array([[0, 1, 2, 255]], np.uint8)
    picture = Image.fromarray(label, 'P')
    picture.putpalette([9, 9, 9, 128, 0, 0, 0, 128, 0, *[7] * 759])
    picture.save(tmp_path / 'label.png')
    assert read_label(tmp_path / 'label.png', OUTDOOR).tolist() == label.tolist()
    picture = Image.fromarray(label[:, :3] % 2, 'P')
    picture.putpalette([9, 9, 9, 255, 255, 255])
    picture.save(tmp_path / 'label.png', bits=1)
    assert read_label(tmp_path / 'label.png', OUTDOOR).tolist() == [[0, 1, 0]]


def test_colours_in_place_of_a_label_map_are_told_what_reads_them(tmp_path):
    Image.new('RGB', (4, 4)).save(tmp_path / 'label.png')
    with pytest.raises(ImageError, match=r'label\.png: .*`univseg import-labels`'):
        read_label(tmp_path / 'label.png', OUTDOOR)


def test_a_png_that_claims_a_huge_chunk_is_refused_before_memory_is_taken(monkeypatch):
    data = cv2.imencode('.png', np.zeros((8, 8), np.uint8))[1].tobytes()
    at = data.index(b'IDAT') - 4
    data = data[:at] + (2**31).to_bytes(4, 'big') + data[at + 4:]
    monkeypatch.setattr(cv2, 'imdecode', None)  # it would take 2 GB
    with pytest.raises(ImageError, match='truncated PNG'):
        decode_image(data)


def test_a_picture_that_there_is_no_memory_for_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / 'a.png'
    write_png(path, np.zeros((4, 5, 3), np.uint8))

    def fail(*arguments):
        error = cv2.error('Insufficient memory')
        error.code = cv2.Error.StsNoMem
        raise error

    monkeypatch.setattr(cv2, 'imdecode', fail)
    with pytest.raises(MemoryError, match='Insufficient memory'):
        read_image(path)
