"""Images and label maps: what is read, what is refused, and what a new size may change."""

import cv2
import numpy as np
import pytest
from tiny_worlds import OUTDOOR, random_image
from univseg_core.pictures.images import (
    decode_image,
    fit_size,
    ImageError,
    read_image,
    read_label,
    resize_image,
    resize_label,
    write_png,
)

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


def test_label_maps_of_one_bit_are_refused(tmp_path):
    """Decoded to 8 bits, class 1 would become 255: void, without a word."""
    path = tmp_path / 'label.png'
    label = np.array([[0, 255, 255, 0]], np.uint8)
    assert cv2.imwrite(str(path), label, [cv2.IMWRITE_PNG_BILEVEL, 1])
    with pytest.raises(ImageError, match=r'label\.png: expected .*8 bits'):
        read_label(path, OUTDOOR)


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
    data = cv2.imencode('.jpg', picture)[1]
    assert decode_image(data).shape == (40, 60, 3)
    with pytest.raises(ImageError, match='truncated JPEG'):
        decode_image(data[:int(share * len(data))])


def test_an_orientation_in_a_jpeg_moves_no_pixel(tmp_path):
    """The label map beside it knows nothing of EXIF."""
    data = cv2.imencode('.jpg', np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    exif = (b'Exif\0\0MM\0*\0\0\0\x08\0\x01' + b'\x01\x12\0\x03\0\0\0\x01\0\x06\0\0' + bytes(4))
    turned = data[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + data[2:]
    (tmp_path / 'turned.jpg').write_bytes(turned)
    assert cv2.imread(str(tmp_path / 'turned.jpg')).shape == (60, 40, 3)
    assert read_image(tmp_path / 'turned.jpg').shape == (40, 60, 3)


def test_a_png_that_claims_a_huge_chunk_is_refused_before_memory_is_taken(monkeypatch):
    data = cv2.imencode('.png', np.zeros((8, 8), np.uint8))[1]
    at = bytes(data).index(b'IDAT') - 4
    data[at:at + 4] = np.frombuffer((2**31).to_bytes(4, 'big'), np.uint8)
    monkeypatch.setattr(cv2, 'imdecode', None)  # it would take 2 GB
    with pytest.raises(ImageError, match='truncated PNG'):
        decode_image(data)
