"""Palette PNGs: their bytes, and what other readers see in them."""

import zlib

import numpy as np
from PIL import Image
import pytest
from univseg_core.annotations.mask_folder import full_palette
from univseg_core.domains import Domain
from univseg_core.pictures.images import ImageError, read_image, write_png
from univseg_core.pictures.palette_png import decode_palette_png, write_palette_png

YARD = Domain.create('yard', ['grass', 'wall', 'car'],
                     [(0, 200, 0), (90, 90, 90), (200, 0, 10)])
MASK = np.array([[0, 1, 2, 255], [2, 2, 1, 0]], np.uint8)


def test_a_palette_png_has_the_bytes_that_its_format_asks_for(tmp_path):
    path = tmp_path / 'mask.png'
    write_palette_png(path, MASK, full_palette(YARD))
    data = path.read_bytes()
    assert data[:8] == b'\x89PNG\r\n\x1a\n'
    header = bytes([0, 0, 0, 4, 0, 0, 0, 2, 8, 3, 0, 0, 0])  # 4×2, 8 bits, indices
    assert data[8:33] == (b'\0\0\0\x0dIHDR' + header
                          + zlib.crc32(b'IHDR' + header).to_bytes(4, 'big'))
    assert data[33:41] == b'\0\0\x03\0PLTE'
    assert data[41:53] == bytes([0, 200, 0, 90, 90, 90, 200, 0, 10, 0, 0, 0])
    assert data[53:41 + 768] == bytes(768 - 12)
    assert data[-12:-8] == bytes(4)
    assert data[-8:-4] == b'IEND'


def test_any_reader_sees_indices_and_colours(tmp_path):
    path = tmp_path / 'mask.png'
    write_palette_png(path, MASK, full_palette(YARD))
    with Image.open(path) as image:
        image.load()  # every checksum is right
        assert image.mode == 'P'
        np.testing.assert_array_equal(np.array(image), MASK)
        np.testing.assert_array_equal(np.array(image.convert('RGB')), YARD.colourise(MASK))
    np.testing.assert_array_equal(read_image(path), YARD.colourise(MASK))  # OpenCV's
    indices, palette = decode_palette_png(path.read_bytes())
    np.testing.assert_array_equal(indices, MASK)
    assert palette.tolist() == [list(colour) for colour in full_palette(YARD)]


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('width', [1, 7, 16])
def test_palettes_of_fewer_bits_are_read(tmp_path, bits, width):
    mask = np.random.default_rng(0).integers(0, 2 ** bits, (5, width), np.uint8)
    image = Image.frombytes('P', mask.shape[::-1], mask.tobytes())
    image.putpalette([value for i in range(2 ** bits) for value in (i, 255 - i, 7)])
    image.save(tmp_path / 'mask.png', bits=bits)
    data = (tmp_path / 'mask.png').read_bytes()
    assert data[24] == bits
    indices, palette = decode_palette_png(data)
    np.testing.assert_array_equal(indices, mask)
    assert palette[1].tolist() == [1, 254, 7]


def test_other_files_have_no_palette(tmp_path):
    write_png(tmp_path / 'grey.png', MASK)
    write_png(tmp_path / 'colours.png', YARD.colourise(MASK))
    for name in ('grey.png', 'colours.png'):
        assert decode_palette_png((tmp_path / name).read_bytes()) is None
    assert decode_palette_png(b'no image') is None
    text = b'tEXtnote\0of whatever'  # with a checksum that is wrong, which OpenCV reads over
    data = (tmp_path / 'grey.png').read_bytes()
    chunk = (len(text) - 4).to_bytes(4, 'big') + text + bytes(4)
    assert decode_palette_png(data[:33] + chunk + data[33:]) is None


def test_damaged_palette_pngs_are_told(tmp_path):
    path = tmp_path / 'mask.png'
    write_palette_png(path, MASK, full_palette(YARD))
    data = path.read_bytes()
    with pytest.raises(ImageError, match='a truncated PNG'):
        decode_palette_png(data[:-20])
    colours = b'PLTE' + bytes(6)  # two of them
    short = (data[:33] + (6).to_bytes(4, 'big') + colours + zlib.crc32(colours).to_bytes(4, 'big')
             + data[33 + 12 + 768:])
    with pytest.raises(ImageError, match='index 255 of a palette of 2'):
        decode_palette_png(short)
    place = data.index(b'IDAT')
    without = data[:33] + data[33 + 12 + 768:]  # a palette
    for damaged in (data[:place + 4] + bytes(8) + data[place + 12:], without,
                    data[:45] + b'x' + data[46:]):
        with pytest.raises(ImageError, match=r'^not a readable image \(damaged, or of an'):
            decode_palette_png(damaged)
