"""What is wrong with an image of ADE20K's full set is told, and the others are read."""

import re
import shutil

import numpy as np
import pytest
from reading import FIXTURES
from univseg_core.annotations.formats import FORMATS
from univseg_core.annotations.regions import AnnotationError
from univseg_core.pictures.images import read_image, write_png

OF_2017, OF_2021 = 'ADE_val_00000003', 'ADE_train_00000002'


@pytest.fixture
def root(tmp_path):
    return shutil.copytree(FIXTURES / 'ade_full', tmp_path / 'ade')


def test_it_is_recognised_by_a_list_beside_a_label_map(root):
    assert [name for name, each in FORMATS.items() if each.read and each.recognises(root)] == [
        'ade-full']
    for name, ending in ((OF_2017, '_atr.txt'), (OF_2021, '.json')):
        (root / name / f'{name}{ending}').unlink()
    assert not FORMATS['ade-full'].recognises(root)
    with pytest.raises(AnnotationError, match=r'expected a folder of ADE20K, with NAME_seg\.png'):
        FORMATS['ade-full'].read(root / 'classes')


def test_a_json_of_another_tool_beside_a_picture_of_that_name_is_none(root):
    (root / OF_2021 / f'{OF_2021}.json').write_text('{"shapes": [], "imagePath": "a.jpg"}')
    (root / OF_2017 / f'{OF_2017}_atr.txt').unlink()
    assert not FORMATS['ade-full'].recognises(root)


@pytest.mark.parametrize(('name', 'ending', 'text', 'message'), [
    (OF_2017, '_atr.txt', '001 # 0 # 0 # wall\n', r'_atr\.txt: expected lines of a number, level'),
    (OF_2017, '_atr.txt', None, r'_seg\.png: neither .*003\.json nor .*003_atr\.txt is beside it'),
    (OF_2017, '_atr.txt', '001 # 0 # 0 # wall # wall # ""\n',
     r'_seg\.png: numbers that .*_atr\.txt has not: 4 in .* pixels.*; it has 1$'),
    (OF_2021, '.json', '{"annotation": {', r'\.json: cannot be read: not JSON'),
    (OF_2021, '.json', '{"annotation": {"object": [{"name": "sky"}]}}', 'name_ndx: expected a'),
    (OF_2021, '.json', '{"annotation": {"object": []}}',
     r'_seg\.png: numbers that .* has not: 2420 in .*; it has none$'),
    (OF_2021, '_seg.png', '', r'_seg\.png: the file is empty'),
])
def test_what_is_wrong_is_told_and_the_other_image_read(root, name, ending, text, message):
    file = root / name / f'{name}{ending}'
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    images, told = iter(FORMATS['ade-full'].read(root)), []
    for _ in range(2):
        try:
            assert next(images).image != name
        except AnnotationError as error:
            told.append(str(error))
    error, = told
    assert re.search(message, error)


def test_objects_are_numbered_by_the_blues_above_none(root):
    """An image that is painted throughout has no blue of 0, and no object less for it."""
    mask = root / OF_2017 / f'{OF_2017}_seg.png'
    colours = read_image(mask)
    colours[colours[..., 2] == 0] = 7
    write_png(mask, colours)
    image = {image.image: image for image in FORMATS['ade-full'].read(root)}[OF_2017]
    assert [region.label for region in image.regions] == [
        'traffic light', 'traffic light', 'wall', 'sky']
    np.testing.assert_array_equal(image.regions[0].shape.mask(20, 30), colours[..., 2] == 7)
