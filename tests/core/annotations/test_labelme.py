import base64

import numpy as np
import pytest
from reading import classes_of, codes, FIXTURES, written
from univseg_core.annotations import labelme
from univseg_core.annotations.regions import AnnotationError
from univseg_core.pictures.images import write_png

VALUES = {'_background_': 0, 'sky': 1, 'road': 2, 'tree': 3, 'car': 4, 'pole': 5}


def shape(points, label='tree', **more):
    return {'label': label, 'points': points, 'shape_type': 'polygon', 'group_id': None,
            'flags': {}, **more}


def file_of(*shapes, **more):
    return {'version': '5.4.1', 'flags': {}, 'shapes': list(shapes), 'imagePath': 'a.jpg',
            'imageData': None, 'imageHeight': 12, 'imageWidth': 16, **more}


def square(first, last, **more):
    return shape([[first, first], [last, first], [last, last], [first, last]], **more)


def read_one(tmp_path, *shapes, **more):
    [image] = labelme.read(written(tmp_path / 'a.json', file_of(*shapes, **more)))
    return image


def png(tmp_path, mask):
    write_png(tmp_path / 'mask.png', np.array(mask, np.uint8))
    return base64.b64encode((tmp_path / 'mask.png').read_bytes()).decode()


def test_every_pixel_is_as_labelme_itself_has_it():
    [image] = labelme.read(FIXTURES / 'labelme')
    assert image.image == '../frames/yard_0001.png'
    assert image.size == (48, 64)
    np.testing.assert_array_equal(classes_of(image, VALUES, 0), codes('labelme/classes.png'))


def test_folders_are_read_with_what_is_below_them(tmp_path):
    for name in ('b/x.json', 'a.json', '.hidden.json', '.trash/y.json'):
        written(tmp_path / name, file_of(imagePath=f'{name}.jpg'))
    assert [i.image for i in labelme.read(tmp_path)] == ['a.json.jpg', 'b/x.json.jpg']


def test_another_name_is_that_of_the_file(tmp_path):
    [image] = labelme.read(written(tmp_path / 'b.json', file_of(imagePath='..\\img\\a.jpg')))
    assert (image.image, image.also) == ('../img/a.jpg', ('b',))
    assert read_one(tmp_path).also == ()


def test_older_files_lack_what_newer_ones_have(tmp_path):
    old = {'version': '4.0.0', 'imagePath': 'a.jpg', 'imageData': None, 'shapes': [
        {'label': 'tree', 'points': [[1, 1], [4, 1], [4, 4]], 'line_color': None}]}
    [image] = labelme.read(written(tmp_path / 'a.json', old))
    assert image.size is None
    assert image.regions[0].shape.mask(6, 6).sum() == 10


def test_a_polygon_within_another_of_its_group_is_a_hole(tmp_path):
    rings = [square(1, 9), square(3, 7), square(5, 5.5)]
    expected = np.zeros((12, 16), bool)
    expected[1:10, 1:10] = True
    expected[3:8, 3:8] = False
    expected[5, 5] = True
    for order in ((0, 1, 2), (1, 2, 0), (2, 1, 0)):
        image = read_one(tmp_path, *[{**rings[i], 'group_id': 7} for i in order])
        np.testing.assert_array_equal(classes_of(image, {'tree': 1}) == 1, expected)
    # Without a group, or in others, or of other labels, they are painted one over another.
    assert (classes_of(read_one(tmp_path, *rings), {'tree': 1}) == 1).sum() == 81
    others = [{**ring, 'group_id': i} for i, ring in enumerate(rings)]
    assert (classes_of(read_one(tmp_path, *others), {'tree': 1}) == 1).sum() == 81


def test_parts_of_a_group_beside_each_other_are_one_thing(tmp_path):
    image = read_one(tmp_path, square(0, 3, group_id=1), square(2, 5, group_id=1),
                     square(8, 9, group_id=1))
    assert (classes_of(image, {'tree': 1}) == 1).sum() == 16 + 16 - 4 + 4


def test_a_mask_lies_where_its_points_say(tmp_path):
    image = read_one(tmp_path, shape([[3, 2], [5, 3]], shape_type='mask',
                                     mask=png(tmp_path, [[0, 1, 1], [1, 0, 255]])))
    expected = np.zeros((12, 16), bool)
    expected[2:4, 3:6] = [[0, 1, 1], [1, 0, 1]]
    np.testing.assert_array_equal(image.regions[0].shape.mask(12, 16), expected)


@pytest.mark.parametrize(('wrong', 'message'), [
    (shape([[1, 1], [2, 2]]), r'shape 2: tree: polygon: expected at least 3 points, got 2'),
    (shape([[1, 1], [2, 2], [3, float('nan')]]), 'finite'),
    (shape([[1, 1], [2, 2], [3, 10**400]]), 'finite'),
    (shape([[1, 1], [2, 2], [3]]), 'expected points'),
    (shape([[1, 1]], shape_type='circle'), 'circle: expected 2 points, got 1'),
    (shape([[1, 1]], shape_type='cuboid'), 'shape_type cuboid: expected one of polygon'),
    (shape('abc'), 'points: expected a list'),
    (shape([[1, 1], [2, 2], [3, 3]], label=''), 'label: expected a text'),
    (shape([[1, 1], [2, 2], [3, 3]], label=5), 'label: expected a text, got 5'),
    (shape([[0, 0], [1, 1]], shape_type='mask', mask='?' * 9), 'no base64'),
    (shape([[0, 0], [1, 1]], shape_type='mask', mask='AAAA'), 'expected a PNG'),
    (shape([[0, 0], [1, 1]], shape_type='mask'), 'mask: expected a text, got nothing'),
    (5, 'shape 2: expected an object'),
])
def test_what_is_wrong_is_told_with_file_and_shape(tmp_path, wrong, message):
    with pytest.raises(AnnotationError, match=message) as error:
        read_one(tmp_path, square(1, 2), wrong)
    assert 'a.json: shape 2' in str(error.value)


def test_a_mask_is_of_the_size_of_its_points_and_within_the_image(tmp_path):
    data = png(tmp_path, np.ones((3, 3)))
    with pytest.raises(AnnotationError, match='a PNG of 3×3 pixels, but its points say 2×2'):
        read_one(tmp_path, shape([[0, 0], [1, 1]], shape_type='mask', mask=data))
    with pytest.raises(AnnotationError, match=r'columns 14\.\.16 .* do not fit .* 16×12'):
        read_one(tmp_path, shape([[14, 0], [16, 2]], shape_type='mask', mask=data))
    whole = base64.b64decode(data)
    with pytest.raises(AnnotationError, match='a damaged PNG'):
        read_one(tmp_path, shape([[0, 0], [2, 2]], shape_type='mask',
                                 mask=base64.b64encode(whole[:-20]).decode()))


def test_the_size_is_held_against_the_picture_within_the_file(tmp_path):
    data = png(tmp_path, np.zeros((12, 16)))
    assert read_one(tmp_path, imageData=data).size == (12, 16)
    assert read_one(tmp_path, imageData=data, imageHeight=None).size == (12, 16)
    assert read_one(tmp_path, imageData='garbage').size == (12, 16)
    with pytest.raises(AnnotationError, match='say 17×12 pixels, but imageData holds 16×12'):
        read_one(tmp_path, imageData=data, imageWidth=17)


def test_a_size_is_judged_before_memory_is_taken(tmp_path):
    with pytest.raises(AnnotationError, match='UNIVSEG_MAX_PIXELS'):
        read_one(tmp_path, square(1, 2), imageHeight=10**6, imageWidth=10**6)
    with pytest.raises(AnnotationError, match='-5×12 pixels'):
        read_one(tmp_path, imageWidth=-5)


@pytest.mark.parametrize(('text', 'message'), [
    ('{"shapes": [', 'not JSON'), ('', 'not JSON'), ('{"imageData": 1}', 'not a file of labelme'),
    ('{"shapes": [], "imagePath": null}', 'imagePath: expected a text'),
    ('{"shapes":' + '[' * 100_000, 'values too deep')])
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path, text, message):
    written(tmp_path / 'a.json', text)
    written(tmp_path / 'b.json', file_of(square(1, 2)))
    images = labelme.read(tmp_path)
    with pytest.raises(AnnotationError, match=rf'a\.json: {message}'):
        next(images)
    assert [image.image for image in images] == ['a.jpg']


@pytest.mark.parametrize(('text', 'message'), [('[1]', 'expected an object'),
                                               ('{}', 'not a file of labelme')])
def test_files_of_another_format_are_left_alone_beside_labelmes(tmp_path, text, message, caplog):
    other = written(tmp_path / 'a.json', text)
    for source in (tmp_path, other):
        with pytest.raises(AnnotationError, match=rf'a\.json: {message}'):
            next(labelme.read(source))
    written(tmp_path / 'b.JSON', file_of(square(1, 2)))
    assert [image.image for image in labelme.read(tmp_path)] == ['a.jpg']
    assert '1 of 2 JSON files are not of labelme and are left alone: a.json' in caplog.text


def test_files_are_recognised_by_their_beginning(tmp_path):
    assert labelme.recognises(FIXTURES / 'labelme')
    assert labelme.recognises(FIXTURES / 'labelme' / 'yard_0001.json')
    assert not labelme.recognises(FIXTURES / 'label_studio')
    assert not labelme.recognises(FIXTURES / 'cityscapes')
    assert not labelme.recognises(tmp_path)
    assert not labelme.recognises(written(tmp_path / 'a.json', {'images': [], 'annotations': []}))
    written(tmp_path / 'b.json', file_of())
    assert labelme.recognises(tmp_path)  # a.json is of another format
    with pytest.raises(AnnotationError, match='no JSON file'):
        labelme.read(written(tmp_path / 'none' / 'a.txt', '').parent)


def test_figures_far_away_take_no_memory(tmp_path):
    far = [[-1e12, -1e12], [1e12, -1e12], [1e12, 1e12], [-1e12, 1e12]]
    assert read_one(tmp_path, shape(far)).regions[0].shape.mask(12, 16).all()
    circle = read_one(tmp_path, shape([[0, 0], [1e12, 0]], shape_type='circle'))
    with pytest.raises(AnnotationError, match=r'shape 1.*a circle of radius 1000000000000'):
        classes_of(circle, {'tree': 1})
