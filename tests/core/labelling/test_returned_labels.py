"""What the pixels of a label map that comes back mean, by index, palette or colour."""

from pathlib import Path
import struct
import zlib

import cv2
from label_maps import DECODER, MASK, save, YARD
import numpy as np
from PIL import Image
import pytest
from univseg_core.annotations import colours
from univseg_core.annotations.mask_folder import full_palette, labelmap
from univseg_core.annotations.named_masks import read_labelmap
from univseg_core.domains import Domain, void_colour
from univseg_core.errors import UnivsegError
from univseg_core.labelling.class_names import ClassNames
from univseg_core.labelling.returned_labels import (
    class_colours,
    foreign_names,
    LabelDecoder,
)
from univseg_core.pictures.encoded import PNG_SIGNATURE
from univseg_core.pictures.images import ImageError


@pytest.mark.parametrize(('palette', 'void'), [
    ([(1, 1, 1), (255, 255, 255)], (0, 0, 0)),
    ([(0, 0, 0), (1, 1, 1)], (255, 255, 255)),
    ([(0, 0, 0), (255, 255, 255)], (255, 0, 255)),
])
def test_void_is_black_unless_a_class_is(palette, void):
    domain = Domain.create('a', ['x', 'y'], palette)
    assert void_colour(domain.palette) == void
    assert full_palette(domain) == [*palette, *[void] * 254]
    assert class_colours(domain) == {palette[0]: 0, palette[1]: 1, void: 255}


def test_a_void_colour_may_be_given_but_not_a_class_s_own():
    assert class_colours(YARD, (1, 2, 3))[1, 2, 3] == 255
    assert (0, 0, 0) not in class_colours(YARD, (1, 2, 3))
    with pytest.raises(UnivsegError, match=r'\(90, 90, 90\), is that of a class of yard'):
        class_colours(YARD, (90, 90, 90))


def test_a_labelmap_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / 'labelmap.txt'
    path.write_text(labelmap(YARD))
    assert path.read_text().splitlines()[:2] == ['background:0,0,0::', 'grass:0,200,0::']
    assert class_colours(YARD, named=read_labelmap(path)) == class_colours(YARD)
    path.write_text('# label:color_rgb:parts:actions\n\nwall:1,2,3::\nbackground:9,9,9::\n')
    assert class_colours(YARD, named=read_labelmap(path)) == {(1, 2, 3): 1, (9, 9, 9): 255}


CAR, WALL, BLACK, NINE = (200, 0, 10), (1, 2, 3), (0, 0, 0), (9, 9, 9)


@pytest.mark.parametrize('text', [
    '# label:color_rgb:parts:actions\ncar:200,0,10::\nbackground:0,0,0::\nwall:1,2,3::\n',
    '  # spaces\n car : 200, 0,10::\nwall:1,2,3\nbackground:0,0,0::\n',
    'background:0,0,0::\r\nwall:1,2,3::\r\ncar:200,0,10::\r\n',
    '\ufeffwall:1,2,3::\nbackground:0,0,0::\ncar:200,0,10::\n',
])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-16'])
def test_a_labelmap_as_tools_and_editors_write_it(tmp_path, text, encoding):
    path = tmp_path / 'labelmap.txt'
    path.write_bytes((text.removeprefix('\ufeff') if encoding == 'utf-16' else text)
                     .encode(encoding))
    assert class_colours(YARD, named=read_labelmap(path)) == {CAR: 2, WALL: 1, BLACK: 255}


def test_background_in_capitals_is_void_too_unless_it_is_a_class():
    named = {'background': BLACK, 'Background': NINE, 'wall': WALL}
    assert class_colours(YARD, named=named) == {WALL: 1, BLACK: 255, NINE: 255}
    others = {'_background_': BLACK, 'Void': NINE, 'wall': WALL}  # as beside other label maps
    assert class_colours(YARD, named=others) == {WALL: 1, BLACK: 255, NINE: 255}
    domain = Domain.create('a', ['Background', 'wall'])
    assert class_colours(domain, named=named) == {WALL: 1, BLACK: 255, NINE: 0}


def test_a_label_that_is_no_class_is_named_where_a_pixel_has_it(tmp_path):
    named = {'background': BLACK, 'wall': WALL, 'roof': NINE}
    decoder = LabelDecoder(YARD, class_colours(YARD, named=named),
                           foreign=foreign_names(named, ClassNames(YARD)))
    path = save(tmp_path / 'mask.png', 'RGB', np.array([[WALL, BLACK]], np.uint8))
    assert decoder.read(path).tolist() == [[1, 255]]
    save(path, 'RGB', np.array([[WALL, NINE, NINE]], np.uint8))
    with pytest.raises(ImageError, match=r'\(9, 9, 9\), roof of the labelmap, in 2 pixels'):
        decoder.read(path)


@pytest.mark.parametrize('line', ['wall', 'wall:1,2::', 'wall:1,2,256::', ':1,2,3::',
                                  'wall:a,b,c::', 'grass:1,1,1::'])
def test_a_line_that_is_none_of_a_labelmap_is_told(tmp_path, line):
    path = tmp_path / 'labelmap.txt'
    path.write_text(f'grass:0,200,0::\n{line}\n')
    with pytest.raises(UnivsegError, match=r'labelmap\.txt, line 2: expected name:red'):
        read_labelmap(path)


def test_class_names_that_a_labelmap_cannot_hold_are_told():
    with pytest.raises(UnivsegError, match="cannot hold the class name 'a:b'"):
        labelmap(Domain.create('yard', ['a:b']))


@pytest.mark.parametrize('kind', ['indices', 'palette', 'colours', 'opaque', 'voc palette',
                                  'opaque indices', '16 bits'])
def test_every_kind_of_label_map_gives_the_same(tmp_path, kind):
    colours = YARD.colourise(MASK)
    opaque = np.dstack([colours, np.full(MASK.shape, 255, np.uint8)])
    voc = [(7, 7, 7), (128, 0, 0), (0, 128, 0), *[(224, 224, 192)] * 253]
    path = {
        'indices': lambda path: save(path, 'L', MASK),
        'palette': lambda path: save(path, 'P', MASK, full_palette(YARD)),
        'colours': lambda path: save(path, 'RGB', colours),
        'opaque': lambda path: save(path, 'RGBA', opaque),
        'voc palette': lambda path: save(path, 'P', MASK, voc),
        'opaque indices': lambda path: save(path, 'LA', np.dstack([MASK, opaque[..., 3]])),
        '16 bits': lambda path: save(path, 'I;16', MASK.astype(np.uint16)),
    }[kind](tmp_path / 'mask.png')
    np.testing.assert_array_equal(DECODER.read(path), MASK)


def test_a_palette_in_another_order_is_an_error_until_one_says_what_counts(tmp_path):
    grass, wall, car = YARD.palette
    path = save(tmp_path / 'mask.png', 'P', np.array([[2, 1, 3, 0], [3, 3, 1, 2]], np.uint8),
                [(0, 0, 0), wall, grass, car])
    with pytest.raises(ImageError, match=r'mask\.png: its palette gives index 2 the colour '
                       r'\(0, 200, 0\) of class 0, grass; say'):
        DECODER.read(path)
    by_colour = LabelDecoder(YARD, class_colours(YARD), 'colours')
    np.testing.assert_array_equal(by_colour.read(path), MASK)


def test_a_palette_of_void_and_all_classes_in_order_leaves_no_question(tmp_path):
    # As prelabel writes it, so that CVAT reads the same by colours and by indices.
    shifted = np.array([[1, 2, 3, 0], [3, 3, 2, 1]], np.uint8)
    path = save(tmp_path / 'mask.png', 'P', shifted, [(0, 0, 0), *YARD.palette])
    np.testing.assert_array_equal(DECODER.read(path), MASK)
    with pytest.raises(ImageError, match=r'mask\.png: its palette gives index 0 the colour '
                       r'\(0, 0, 0\) of a background.*--background void'):
        LabelDecoder(YARD, class_colours(YARD), 'indices').read(path)
    behind = LabelDecoder(YARD, class_colours(YARD), background='void')
    np.testing.assert_array_equal(behind.read(path), MASK)
    # A class that the palette lacks may be one that comes before the others.
    save(path, 'P', shifted.clip(0, 2), [(0, 0, 0), *YARD.palette[:2]])
    with pytest.raises(ImageError, match='of class 0, grass; say'):
        DECODER.read(path)


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), *[(7, 7, 7)] * 252]


@pytest.mark.parametrize(('background', 'expected'), [
    ('void', [255, 0, 1, 2, 255]), ('grass', [0, 1, 2, None, 255]), ('car', [2, 0, 1, None, 255])])
@pytest.mark.parametrize('mode', ['P', 'L'])
def test_a_background_at_index_0_is_asked_about_and_the_others_follow(tmp_path, mode, background,
                                                                      expected):
    indices = np.array([[i for i, meant in zip((0, 1, 2, 3, 255), expected, strict=True)
                         if meant is not None]], np.uint8)
    path = save(tmp_path / 'mask.png', mode, indices, VOC if mode == 'P' else None)
    if mode == 'P':
        with pytest.raises(ImageError, match=r'index 0 .* of a background.*--background CLASS'):
            DECODER.read(path)
    decoder = LabelDecoder(YARD, class_colours(YARD), background=background)
    assert decoder.read(path).tolist() == [[i for i in expected if i is not None]]


@pytest.mark.parametrize(('background', 'expected'), [
    (None, [0, 2, 255]), ('void', [0, 2, 255]), ('wall', [0, 2, 1])])
@pytest.mark.parametrize('mode', ['RGB', 'P'])
def test_the_colour_of_void_may_be_that_of_a_background(tmp_path, background, expected, mode):
    image = Image.fromarray(np.uint8([[YARD.palette[0], YARD.palette[2], (0, 0, 0)]]))
    (image if mode == 'RGB' else image.quantize(4)).save(tmp_path / 'mask.png')
    decoder = LabelDecoder(YARD, class_colours(YARD), 'colours', background)
    assert decoder.read(tmp_path / 'mask.png').tolist() == [expected]


def test_a_background_that_no_pixel_has_is_asked_about_too(tmp_path):
    path = save(tmp_path / 'mask.png', 'P', np.uint8([[1, 2, 2]]), VOC)
    with pytest.raises(ImageError, match='--background void'):
        DECODER.read(path)


def test_indices_from_1_on_are_told_what_to_say(tmp_path):
    path = save(tmp_path / 'mask.png', 'L', np.uint8([[0, 1, 3]]))
    with pytest.raises(ImageError, match=r'\[3\] .*where 0 is a background, and 1 grass, say '
                       '--background void'):
        DECODER.read(path)


@pytest.mark.parametrize(('painted', 'expected'), [
    ('void', [0, 0, 255]), ('grass', [255, 255, 0]), ('car', [255, 255, 2])])
@pytest.mark.parametrize('mode', ['L', '1'])
def test_a_picture_of_0_and_255_is_asked_about(tmp_path, mode, painted, expected):
    path = tmp_path / 'mask.png'
    Image.fromarray(np.uint8([[0, 0, 255]])).convert(mode).save(path)
    with pytest.raises(ImageError, match=r'0 and 255 alone.*--painted CLASS.*--painted void'):
        DECODER.read(path)
    decoder = LabelDecoder(YARD, class_colours(YARD), painted=painted)
    assert decoder.read(path).tolist() == [expected]


@pytest.mark.parametrize(('indices', 'palette'), [
    ([0, 0, 255], [9, 9, 9] * 256), ([0, 0, 1], [0, 0, 0, 255, 255, 255])])
def test_a_palette_does_not_hide_that_one_class_was_painted(tmp_path, indices, palette):
    image = Image.fromarray(np.uint8([indices]), 'P')
    image.putpalette(palette)
    image.save(tmp_path / 'mask.png')
    with pytest.raises(ImageError, match=r'0 and 255 alone.*--painted CLASS'):
        DECODER.read(tmp_path / 'mask.png')
    decoder = LabelDecoder(YARD, class_colours(YARD), painted='car')
    assert decoder.read(tmp_path / 'mask.png').tolist() == [[255, 255, 2]]


def test_a_background_and_void_alone_may_be_all_of_a_label_map(tmp_path):
    """As of a picture of VOC without objects; and of class 0 in our own colours."""
    path = save(tmp_path / 'mask.png', 'P', np.uint8([[0, 255]]), VOC)
    pets = Domain.create('pets', ['background', 'cat'])
    assert LabelDecoder(pets, class_colours(pets)).read(path).tolist() == [[0, 255]]
    said = LabelDecoder(YARD, class_colours(YARD), background='car')
    assert said.read(path).tolist() == [[2, 255]]
    save(path, 'P', np.uint8([[0, 255]]), full_palette(YARD))
    assert DECODER.read(path).tolist() == [[0, 255]]


@pytest.mark.parametrize('bits', [2, 4])
def test_grey_of_2_or_4_bits_may_be_indices_and_is_refused(tmp_path, bits):
    def chunk(name, content):
        return (struct.pack('>I', len(content)) + name + content
                + struct.pack('>I', zlib.crc32(name + content)))

    (tmp_path / 'mask.png').write_bytes(
        PNG_SIGNATURE + chunk(b'IHDR', struct.pack('>IIBBBBB', 8, 1, bits, 0, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(bytes([0, *[0b00010001] * bits]))) + chunk(b'IEND', b''))
    with pytest.raises(ImageError, match=f'expected .*8.*{bits}'):
        DECODER.read(tmp_path / 'mask.png')


def test_what_was_painted_is_of_0_and_255_alone(tmp_path):
    decoder = LabelDecoder(YARD, class_colours(YARD), painted='car')
    empty = save(tmp_path / 'empty.png', 'L', np.zeros((1, 3), np.uint8))
    assert decoder.read(empty).tolist() == [[255, 255, 255]]
    with pytest.raises(ImageError, match=r'other values than 0 and 255, as \[0, 1, 255\]'):
        decoder.read(save(tmp_path / 'mask.png', 'L', np.uint8([[0, 1, 255]])))


@pytest.mark.parametrize('option', ['background', 'painted'])
def test_an_answer_that_is_no_class_is_told(option):
    with pytest.raises(UnivsegError, match=rf"--{option}: expected void or one of the classes "
                       r"\(grass, wall, car\), got 'roof'"):
        LabelDecoder(YARD, class_colours(YARD), **{option: 'roof'})


def test_unknown_colours_are_named_with_their_pixels_most_frequent_first(tmp_path):
    image = YARD.colourise(MASK)
    image[0, :2] = (1, 2, 3)
    image[1, 3] = (0, 201, 0)
    path = save(tmp_path / 'mask.png', 'RGB', image)
    with pytest.raises(ImageError) as told:
        DECODER.read(path)
    assert str(path) in str(told.value)
    assert '(1, 2, 3) in 2 pixels, (0, 201, 0) in 1 pixels' in str(told.value)


def test_pictures_in_several_steps_are_read_as_in_one(tmp_path, monkeypatch):
    image = np.repeat(YARD.colourise(MASK), 5, axis=0)
    path = save(tmp_path / 'mask.png', 'RGB', image)
    whole = DECODER.read(path)
    monkeypatch.setattr(colours, 'AT_A_TIME', 2 * image.shape[1])
    assert np.array_equal(DECODER.read(path), whole)
    image[0, :2] = image[-1, 0] = (1, 2, 3)
    image[1, 3] = (0, 201, 0)
    with pytest.raises(ImageError, match=r': \(1, 2, 3\) in 3 pixels, \(0, 201, 0\) in 1 pixels$'):
        DECODER.read(save(path, 'RGB', image))


def test_two_classes_of_one_colour_cannot_be_told_by_it(tmp_path):
    twins = Domain.create('a', ['x', 'y', 'z'], [(1, 1, 1), (1, 1, 1), (2, 2, 2)])
    decoder = LabelDecoder(twins, class_colours(twins))
    path = save(tmp_path / 'mask.png', 'RGB', np.ones((1, 2, 3), np.uint8))
    with pytest.raises(ImageError, match=r'or for several: \(1, 1, 1\) in 2 pixels'):
        decoder.read(path)
    assert decoder.read(save(path, 'L', np.uint8([[0, 1]]))).tolist() == [[0, 1]]


def write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@pytest.mark.parametrize(('make', 'message'), [
    (lambda path: save(path, 'L', np.uint8([[0, 3, 255]])), r'label indices \[3\] are outside'),
    (lambda path: save(path, 'RGBA', np.zeros((1, 3, 4), np.uint8)), '3 pixels are transparent'),
    (lambda path: cv2.imwrite(str(path), np.zeros((2, 2, 3), np.uint16)), 'got 16'),
    (lambda path: cv2.imwrite(str(path), np.full((2, 2), 256, np.uint16)), 'one 8-bit channel'),
    (lambda path: Image.new('RGB', (4, 4)).save(path, 'JPEG'), 'expected a PNG'),
    (lambda path: write_bytes(path, b''), 'the file is empty'),
    (lambda path: write_bytes(path, b'no PNG'), 'expected a PNG'),
    (lambda path: write_bytes(path, b'\x89PNG\r\n\x1a\n'), 'truncated PNG'),
    (lambda path: path.mkdir(), 'cannot be read'),
])
def test_what_is_no_label_map_is_told(tmp_path, make, message):
    path = tmp_path / 'mask.png'
    make(path)
    with pytest.raises(ImageError, match=message) as told:
        DECODER.read(path)
    assert str(told.value).count(str(path)) == 1
