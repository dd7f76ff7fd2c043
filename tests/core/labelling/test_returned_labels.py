"""What the pixels of a label map that comes back mean, by index, palette or colour."""

from pathlib import Path

import cv2
from label_maps import DECODER, MASK, save, YARD
import numpy as np
from PIL import Image
import pytest
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.labelling.prelabels import full_palette, labelmap, void_colour
from univseg_core.labelling.returned_labels import class_colours, LabelDecoder, read_labelmap
from univseg_core.pictures.images import ImageError


@pytest.mark.parametrize(('palette', 'void'), [
    ([(1, 1, 1), (255, 255, 255)], (0, 0, 0)),
    ([(0, 0, 0), (1, 1, 1)], (255, 255, 255)),
    ([(0, 0, 0), (255, 255, 255)], (255, 0, 255)),
])
def test_void_is_black_unless_a_class_is(palette, void):
    domain = Domain.create('a', ['x', 'y'], palette)
    assert void_colour(domain) == void
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
    path.write_text('roof:1,2,3::\n')
    with pytest.raises(UnivsegError, match='names roof, which are no classes of yard: grass'):
        class_colours(YARD, named=read_labelmap(path))


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


@pytest.mark.parametrize('kind', ['indices', 'palette', 'colours', 'opaque', 'voc palette'])
def test_every_kind_of_label_map_gives_the_same(tmp_path, kind):
    colours = YARD.colourise(MASK)
    opaque = np.dstack([colours, np.full(MASK.shape, 255, np.uint8)])
    voc = [(0, 0, 0), (128, 0, 0), (0, 128, 0), *[(224, 224, 192)] * 253]
    path = {
        'indices': lambda path: save(path, 'L', MASK),
        'palette': lambda path: save(path, 'P', MASK, full_palette(YARD)),
        'colours': lambda path: save(path, 'RGB', colours),
        'opaque': lambda path: save(path, 'RGBA', opaque),
        'voc palette': lambda path: save(path, 'P', MASK, voc),
    }[kind](tmp_path / 'mask.png')
    np.testing.assert_array_equal(DECODER.read(path), MASK)


def test_a_palette_in_another_order_is_an_error_until_one_says_what_counts(tmp_path):
    # As tools write it that put the background first.
    shifted = np.array([[1, 2, 3, 0], [3, 3, 2, 1]], np.uint8)
    path = save(tmp_path / 'mask.png', 'P', shifted, [(0, 0, 0), *YARD.palette])
    with pytest.raises(ImageError, match=r'mask\.png: its palette gives index 1 the colour '
                       r'\(0, 200, 0\) of class 0, grass; say'):
        DECODER.read(path)
    by_colour = LabelDecoder(YARD, class_colours(YARD), 'colours')
    np.testing.assert_array_equal(by_colour.read(path), MASK)
    with pytest.raises(ImageError, match=r'mask\.png: label indices \[3\] are outside'):
        LabelDecoder(YARD, class_colours(YARD), 'indices').read(path)


def test_unknown_colours_are_named_with_their_pixels_most_frequent_first(tmp_path):
    image = YARD.colourise(MASK)
    image[0, :2] = (1, 2, 3)
    image[1, 3] = (0, 201, 0)
    path = save(tmp_path / 'mask.png', 'RGB', image)
    with pytest.raises(ImageError) as told:
        DECODER.read(path)
    assert str(path) in str(told.value)
    assert '(1, 2, 3) in 2 pixels, (0, 201, 0) in 1 pixels' in str(told.value)


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
    (lambda path: cv2.imwrite(str(path), np.zeros((2, 2), np.uint16)), 'one 8-bit channel'),
    (lambda path: Image.new('RGB', (4, 4)).save(path, 'JPEG'), 'expected a PNG'),
    (lambda path: write_bytes(path, b''), 'expected a PNG'),
    (lambda path: write_bytes(path, b'\x89PNG\r\n\x1a\n'), 'truncated PNG'),
    (lambda path: path.mkdir(), 'cannot be read'),
])
def test_what_is_no_label_map_is_told(tmp_path, make, message):
    path = tmp_path / 'mask.png'
    make(path)
    with pytest.raises(ImageError, match=message) as told:
        DECODER.read(path)
    assert str(told.value).count(str(path)) == 1
