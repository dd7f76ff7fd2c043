"""What the values of label maps stand for, and what has to be asked for."""

import io

import numpy as np
from PIL import Image
import pytest
from univseg_core.annotations.mask_folder import full_palette
from univseg_core.domains import Domain
from univseg_core.pictures.images import ImageError, PlainLabels, read_label
from univseg_core.pictures.label_meaning import LabelMeaning, QuestionError

YARD = Domain.create('yard', ['grass', 'wall', 'car'],
                     [(0, 200, 0), (90, 90, 90), (200, 0, 10)])
VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
GREYS = [(i, i, i) for i in range(256)]
BLACK_SECOND = [(1, 1, 1), (0, 0, 0), (2, 2, 2)]


def png(values, palette=None, **options):
    """Return a PNG file of one row."""
    picture = Image.fromarray(np.uint8([values]))
    if palette is not None:
        picture.putpalette([value for colour in palette for value in colour])
    file = io.BytesIO()
    picture.save(file, 'PNG', **options)
    return file.getvalue()


def read(data, domain=YARD, **answers):
    return PlainLabels(LabelMeaning(**answers)).read(data, 'a.png', domain).tolist()[0]


def classes(*names, palette=None):
    return Domain.create('yard', names, palette)


BLACK_FIRST = classes('road', 'cat', 'dog', palette=VOC[:3])


@pytest.mark.parametrize(('palette', 'domain'), [
    (VOC, YARD),
    ([(0, 0, 0), *YARD.palette], YARD),
    ([(9, 9, 9), *YARD.palette], YARD),  # the classes' colours, one index later
    ([(255, 255, 255), *VOC[1:]], classes('a', 'b', 'c', palette=BLACK_SECOND)),
    (VOC, classes('grass', 'background', 'car')),
])
def test_a_palette_that_begins_as_one_with_a_background_is_asked_about(palette, domain):
    first = domain.classes[0]
    with pytest.raises(QuestionError, match=r'a\.png: its palette gives index 0 .* Is 0 void, and '
                       f'1 {first}\\? Say background: void; .*background: CLASS, such as {first}'):
        read(png([1, 2, 1], palette), domain)


@pytest.mark.parametrize(('palette', 'domain'), [
    (full_palette(YARD), YARD),
    (full_palette(YARD), classes('grass', 'wall', 'car')),
    (full_palette(BLACK_FIRST), BLACK_FIRST),
    (VOC, classes('background', 'cat', 'dog')),
    (VOC, classes('_background_', 'cat', 'dog')),
    (VOC, classes('Unlabelled', 'cat', 'dog')),
    (VOC, BLACK_FIRST),
    (GREYS, YARD), (GREYS[:3], YARD),
    ([(7, 7, 7), *VOC], YARD),
])
def test_other_palettes_say_nothing(palette, domain):
    """Those of prelabel, of a first class that is black or a background, and of greys in order."""
    assert read(png([0, 1, 2, 0], palette), domain) == [0, 1, 2, 0]


@pytest.mark.parametrize(('background', 'values', 'expected'), [
    ('void', [0, 1, 2, 3], [255, 0, 1, 2]), ('grass', [0, 1, 2], [0, 1, 2]),
    ('car', [0, 1, 2], [2, 0, 1])])
@pytest.mark.parametrize('palette', [VOC, None])
def test_the_answer_says_what_every_index_is(background, values, expected, palette):
    assert read(png(values, palette), background=background) == expected


def test_void_stays_void_behind_a_background():
    assert read(png([0, 1, 3, 255]), background='void') == [255, 0, 2, 255]


def test_an_index_of_no_class_is_told_what_may_be_meant():
    with pytest.raises(ImageError, match=r'\[3\] .*where 0 is a background, and 1 grass, say '
                       'background: void; `univseg import-labels`'):
        read(png([0, 1, 3]))
    with pytest.raises(ImageError, match=r'\[4\] are outside domain yard.* 255 for void; `univ'):
        read(png([0, 1, 4]), background='void')


@pytest.mark.parametrize('data', [
    png([0, 255, 0], [(0, 0, 0), *[(255, 255, 255)] * 255]),
    png([0, 1, 0], [(0, 0, 0), (255, 255, 255)], bits=1)])
def test_masks_behind_a_palette_are_asked_about(data):
    with pytest.raises(QuestionError, match='Was 255 painted'):
        read(data)
    assert read(data, painted='car') == [255, 2, 255]
    assert read(data, painted='car', background='grass') == [0, 2, 0]
    assert read(data, painted='void') == [0, 255, 0]


def test_a_mask_behind_a_palette_of_one_colour_is_read_as_the_others():
    palette = [(0, 0, 0), (255, 255, 255)]
    assert read(png([0, 0], palette, bits=1), painted='void') == [0, 0]
    assert read(png([1, 1], palette, bits=1), painted='void') == [255, 255]


def test_masks_of_one_bit_are_read_where_it_is_said_what_was_painted():
    picture = Image.fromarray(np.uint8([[0, 255, 0]])).convert('1')
    file = io.BytesIO()
    picture.save(file, 'PNG')
    with pytest.raises(QuestionError, match='Was 255 painted'):
        read(file.getvalue())
    assert read(file.getvalue(), painted='wall') == [255, 1, 255]
    assert read(file.getvalue(), painted='void') == [0, 255, 0]


def test_masks_have_no_other_values():
    assert read(png([0, 0]), painted='car') == [255, 255]
    assert read(png([255, 255]), painted='car') == [2, 2]
    with pytest.raises(ImageError, match=r'other values than 0 and 255, as \[0, 1, 255\], which '
                       'painted: car says nothing of'):
        read(png([0, 1, 255]), painted='car')


def test_a_map_of_class_0_and_void_in_our_own_palette_is_one():
    assert read(png([0, 255], full_palette(YARD))) == [0, 255]
    assert read_label == PlainLabels(LabelMeaning())
