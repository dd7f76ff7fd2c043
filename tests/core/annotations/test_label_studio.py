import base64
import json
import logging
import shutil

import numpy as np
import pytest
from reading import classes_of, codes, FIXTURES, written
from univseg_core.annotations import label_studio
from univseg_core.annotations.label_studio.brush import packed
from univseg_core.annotations.label_studio.image_names import image_names
from univseg_core.annotations.regions import AnnotationError
from univseg_core.pictures.images import write_png

EXPORT = FIXTURES / 'label_studio'
INDEX = {'tree': 0, 'palm-tree': 1, 'road/street': 2}
TREE = np.pad(np.ones((2, 3), bool), ((1, 7), (4, 13)))


def result(value, kind='polygonlabels', label='tree', **more):
    return {'id': 'r', 'type': kind, 'from_name': 'tag', 'to_name': 'image',
            'original_width': 20, 'original_height': 10, 'image_rotation': 0,
            'value': {**value, kind: [label]}, **more}


def polygon(*points, **more):
    return result({'points': points, 'closed': True}, **more)


def brush(data=None, **more):
    return result({'format': 'rle', 'rle': list(packed(TREE) if data is None else data)},
                  'brushlabels', **more)


def task(*results, number=1, **more):
    return {'id': number, 'data': {'image': f'/data/upload/1/0a1b2c3d-{number}.jpg'},
            'annotations': [{'id': 1, 'result': list(results)}], **more}


def read(tmp_path, *tasks):
    return list(label_studio.read(written(tmp_path / 'x' / 'export.json', tasks)))


def mask_of(tmp_path, *results):
    [image] = read(tmp_path, task(*results))
    return classes_of(image, {'tree': 1}) == 1


@pytest.mark.parametrize('source', ['project-1.json', 'min', 'pngs'])
def test_brushes_are_as_label_studio_itself_has_them(source):
    first, second = label_studio.read(EXPORT / source)
    assert first.also[0] == 'yard_0001.jpg'
    assert second.image == 'frames/left camera/yard_0002.jpg'
    prefix = 'label_studio/pngs/task-3-annotation-7-by-1-my-tag-'
    expected = np.full((24, 40), 255)
    for name, index in INDEX.items():
        expected[codes(f'{prefix}{name.replace("/", "-")}-0.png') >= 128] = index
    for image in (first, second):
        found = classes_of(image, INDEX)
        np.testing.assert_array_equal(found, expected)


def test_exports_are_recognised_by_their_beginning(tmp_path):
    for source in ('', 'project-1.json', 'min', 'pngs', 'min/project-1-min.json'):
        assert label_studio.recognises(EXPORT / source)
    assert not label_studio.recognises(FIXTURES / 'labelme')
    assert not label_studio.recognises(FIXTURES / 'cityscapes')
    assert not label_studio.recognises(written(tmp_path / 'coco.json', [{'segmentation': []}]))


def test_polygons_and_rectangles_are_in_percent(tmp_path):
    square = np.zeros((10, 20), bool)
    square[2:6, 5:10] = True
    np.testing.assert_array_equal(
        mask_of(tmp_path, polygon((25, 20), (50, 20), (50, 60), (25, 60))), square)
    box = {'x': 25, 'y': 20, 'width': 25, 'height': 40, 'rotation': 0}
    np.testing.assert_array_equal(mask_of(tmp_path, result(box, 'rectanglelabels')), square)


def test_a_rectangle_turns_clockwise_about_its_first_corner(tmp_path):
    # Of 5 by 2 pixels at (10, 1), turned so that it hangs down to the left of x = 10.
    box = {'x': 50, 'y': 10, 'width': 25, 'height': 20, 'rotation': 90}
    expected = np.zeros((10, 20), bool)
    expected[1:6, 8:10] = True
    np.testing.assert_array_equal(mask_of(tmp_path, result(box, 'rectanglelabels')), expected)


def test_an_ellipse_is_round_its_centre(tmp_path):
    found = mask_of(tmp_path, result({'x': 50, 'y': 50, 'radiusX': 40, 'radiusY': 30,
                                      'rotation': 0}, 'ellipselabels'))
    y, x = np.mgrid[:10, :20] + 0.5
    np.testing.assert_array_equal(found, ((x - 10) / 8)**2 + ((y - 5) / 3)**2 < 1)


def test_a_bit_mask_covers_what_is_opaque(tmp_path):
    import cv2
    opacity = np.where(TREE, 128, 127).astype(np.uint8)
    data = cv2.imencode('.png', np.dstack([*[np.zeros_like(opacity)] * 3, opacity]))[1].tobytes()
    address = 'data:image/png;base64,' + base64.b64encode(data).decode()
    bits = result({'imageDataURL': address}, 'bitmasklabels')
    np.testing.assert_array_equal(mask_of(tmp_path, bits), TREE)
    with pytest.raises(AnnotationError, match='a PNG of 20×10 pixels, but the image has 21×10'):
        mask_of(tmp_path, {**bits, 'original_width': 21})


def test_later_results_are_painted_over_earlier_ones(tmp_path):
    [image] = read(tmp_path, task(polygon((0, 0), (100, 0), (100, 100), (0, 100), label='sky'),
                                  brush()))
    np.testing.assert_array_equal(classes_of(image, {'sky': 0, 'tree': 1}), TREE)


def test_a_label_may_be_told_apart_from_the_region(tmp_path):
    region = brush()
    bare = {**region, 'type': 'brush', 'value': {k: v for k, v in region['value'].items()
                                                 if k != 'brushlabels'}}
    labelled = {**bare, 'type': 'labels', 'value': {**bare['value'], 'labels': ['tree']}}
    np.testing.assert_array_equal(mask_of(tmp_path, bare, labelled), TREE)
    with pytest.raises(AnnotationError, match='task 1: result 1: a region without a label'):
        mask_of(tmp_path, bare)
    least = {'id': 1, 'image': 'a.jpg', 'brush': [{**bare['value'], 'original_width': 20,
                                                   'original_height': 10}]}
    [image] = read(tmp_path, {**least, 'tag': [{**least['brush'][0], 'labels': ['tree']}]})
    np.testing.assert_array_equal(classes_of(image, {'tree': 1}) == 1, TREE)
    other = {**least['brush'][0], 'rle': list(packed(~TREE)), 'labels': ['tree']}
    with pytest.raises(AnnotationError, match='task 1: result 1: a region without a label'):
        read(tmp_path, {**least, 'tag': [other]})


def test_what_has_no_area_is_left_out(tmp_path):
    choice = {'type': 'choices', 'value': {'choices': ['sunny']}}
    key_point = result({'x': 5, 'y': 5, 'width': 1}, 'keypointlabels')
    relation = {'type': 'relation', 'from_id': 'a', 'to_id': 'b'}
    np.testing.assert_array_equal(mask_of(tmp_path, choice, key_point, relation, brush()), TREE)


def annotation(label, updated, **more):
    return {'result': [brush(label=label)], 'updated_at': f'2024-01-{updated:02}', **more}


@pytest.mark.parametrize(('annotations', 'label'), [
    ([annotation('a', 3), annotation('b', 2)], 'a'),
    ([annotation('a', 1), annotation('b', 2)], 'b'),
    ([annotation('a', 1), annotation('b', 2, was_cancelled=True)], 'a'),
    ([annotation('a', 1, ground_truth=True), annotation('b', 2)], 'a'),
    ([{**annotation('a', 1), 'updated_at': None, 'created_at': '2025'}, annotation('b', 2)], 'a'),
])
def test_the_latest_annotation_or_the_ground_truth_counts(tmp_path, annotations, label, caplog):
    with caplog.at_level(logging.WARNING):
        [image] = read(tmp_path, task(annotations=annotations))
    assert [region.label for region in image.regions] == [label]
    several = sum(not each.get('was_cancelled') for each in annotations) > 1
    assert ('of 1 tasks with several annotations, the ground truth or else the latest is taken: '
            'task 1' in caplog.text) == several


def test_tasks_without_annotation_are_left_out_and_a_file_of_none_is_an_error(tmp_path):
    empty = task(number=2, annotations=[])
    assert len(read(tmp_path, empty, task(brush()))) == 1
    with pytest.raises(AnnotationError, match='none of 1 tasks has an annotation; expected'):
        read(tmp_path, empty)
    with pytest.raises(AnnotationError, match='accept or submit the predictions of 1 first'):
        read(tmp_path, {**empty, 'predictions': [{'result': [brush()]}]})
    [image] = read(tmp_path, task())
    assert (image.regions, image.size) == ((), None)


def test_tasks_to_annotate_may_lie_beside_the_export(tmp_path, caplog):
    to_annotate = task(annotations=[], predictions=[{'result': [brush()]}])
    written(tmp_path / 'x' / 'a.json', [to_annotate])
    written(tmp_path / 'x' / 'b.json', {'shapes': []})
    written(tmp_path / 'x' / 'export.json', [task(brush())])
    [image] = label_studio.read(tmp_path / 'x')
    assert image.source.name == 'export.json'
    assert 'a.json: none of 1 tasks has an annotation; the file is left alone' in caplog.text
    assert '1 of 3 JSON files are not of Label Studio and are left alone: b.json' in caplog.text
    with pytest.raises(AnnotationError, match='x: none of 2 tasks has an annotation; accept or '
                       'submit the predictions of 1'):
        written(tmp_path / 'x' / 'export.json', [task(annotations=[])])
        list(label_studio.read(tmp_path / 'x'))


@pytest.mark.parametrize(('address', 'image', 'also'), [
    ('/data/upload/12/0a1b2c3d-yard_1.jpg', 'data/upload/12/0a1b2c3d-yard_1.jpg',
     ('yard_1.jpg', '0a1b2c3d-yard_1.jpg')),
    ('/data/local-files/?d=a%20b/yard%231.png', 'a b/yard#1.png', ('yard#1.png',)),
    ('s3://bucket/drive/left/1.jpg', 'drive/left/1.jpg', ('1.jpg',)),
    ('gs://bucket/a#b.jpg', 'a#b.jpg', ()),
    ('https://x.org/a/b%20c.jpg?X-Amz-Date=1', 'a/b c.jpg', ('b c.jpg',)),
    ('/tasks/7/resolve/?fileuri=' + base64.b64encode(b's3://b/k/1.jpg').decode(), 'k/1.jpg',
     ('1.jpg',)),
    ('yard.jpg', 'yard.jpg', ()),
    ('http://[/a.jpg', 'http://[/a.jpg', ('a.jpg',)),
])
def test_images_are_named_as_before_label_studio_had_them(address, image, also):
    path, others = image_names(address)
    assert path == image
    assert set(also) <= set(others)
    assert not also or others[0] == also[0]


def test_the_image_is_data_image_or_the_only_address_of_a_picture(tmp_path):
    data = {'data': {'photo': 'a/b.JPG', 'text': 'a sunny day', 'id': 3}}
    assert read(tmp_path, task(brush(), **data))[0].image == 'a/b.JPG'
    for wrong in ({}, {'a': 'x.jpg', 'b': 'y.jpg'}, {'image': ['x.jpg']}):
        with pytest.raises(AnnotationError, match=r'task 1: .*expected the address of one image'):
            read(tmp_path, task(brush(), data=wrong))
    with pytest.raises(AnnotationError, match='expected the address of an image file'):
        read(tmp_path, task(brush(), data={'image': 'data:image/png;base64,AAAA'}))


@pytest.mark.parametrize(('wrong', 'message'), [
    (polygon((1, 1), (2, 2)), 'result 2: tree: expected at least 3 points, got 2'),
    (polygon((1, 1), (640, 2), (3, 3)), r'expected percent of the image, 0\.\.100, got 1\.\.640'),
    (polygon((-50, 1), (2, 2), (3, 3)), 'expected percent of the image'),
    (polygon((1, 1), (2, 2), (3, None)), 'finite'),
    (result({'x': 0, 'y': 0, 'width': 10, 'height': 'a'}, 'rectanglelabels'),
     "height: expected a number, got 'a'"),
    (result({'x': 0, 'y': 0, 'width': 10, 'height': 300}, 'rectanglelabels'), '0..300'),
    (result({'x': 0, 'y': 0, 'width': 10, 'height': 10, 'rotation': float('inf')},
            'rectanglelabels'), 'finite'),
    (brush(b''), 'result 2: tree: run lengths that are cut off'),
    (brush(packed(TREE[1:])), 'run lengths of 180 pixels, but an image of 20×10 has 200'),
    (result({'rle': [1, 256]}, 'brushlabels'), r'rle: expected a list of bytes'),
    (result({'rle': 'abc'}, 'brushlabels'), r'rle: expected a list, got'),
    ({**brush(), 'image_rotation': 90}, 'image_rotation: 90'),
    ({**brush(), 'original_width': None}, 'original_width: expected a whole number, got null'),
    ({**brush(), 'original_width': 10**9}, 'UNIVSEG_MAX_PIXELS'),
    ({**brush(), 'item_index': 1}, 'several images'),
    (polygon((1, 1), (2, 2), (3, 9), original_width=30), 'different sizes: 20×10, 30×10'),
    (result({'vertices': []}, 'vectorlabels'), 'vectors are not read'),
    ({**brush(), 'value': {**brush()['value'], 'brushlabels': ['a', 'b']}},
     'expected one label, got a, b'),
    (7, 'expected an object'),
])
def test_what_is_wrong_is_told_with_file_task_and_result(tmp_path, wrong, message):
    with pytest.raises(AnnotationError, match=message) as error:
        read(tmp_path, task(brush(), wrong))
    assert 'export.json: task 1: ' in str(error.value)


def test_a_task_that_is_wrong_does_not_hide_the_others(tmp_path):
    path = written(tmp_path / 'a.json', [task(brush()), task(7, number=2), 'x',
                                         task(brush(), number=3)])
    images = label_studio.read(path)
    assert next(images).also[0] == '1.jpg'
    with pytest.raises(AnnotationError, match='task 2: result 1'):
        next(images)
    with pytest.raises(AnnotationError, match='entry 3: expected an object'):
        next(images)
    assert [image.also[0] for image in images] == ['3.jpg']


@pytest.mark.parametrize('text', ['', '[', '[{"id": 1},', '[1] 2', '[1 2]', '{"a": 1}', 'x',
                                  '[' * 100_000, '[NaN'])
def test_what_is_no_list_of_tasks_is_told(tmp_path, text):
    path = written(tmp_path / 'a.json', text)
    with pytest.raises(AnnotationError, match=r'a\.json: '):
        list(label_studio.read(path))


def test_an_object_is_no_list_of_tasks(tmp_path):
    with pytest.raises(AnnotationError, match='expected a list of tasks, got an object; export'):
        list(label_studio.read(written(tmp_path / 'a.json', {'images': []})))


def folder_of_pngs(tmp_path, **pngs):
    folder = tmp_path / 'pngs'
    folder.mkdir()
    for name, mask in pngs.items():
        write_png(folder / f'task-1-annotation-{name}-0.png', mask.astype(np.uint8) * 255)
    return folder


def test_pngs_alone_do_not_tell_their_images(tmp_path):
    folder = tmp_path / 'pngs'
    shutil.copytree(EXPORT / 'pngs', folder)
    with pytest.raises(AnnotationError, match='no export as JSON is in it or beside it; export t'):
        label_studio.read(folder)
    written(folder / 'x.json', json.loads((EXPORT / 'project-1.json').read_text())[1:])
    images = label_studio.read(folder)
    with pytest.raises(AnnotationError, match='pngs: task 3: no export as JSON has it; export'):
        next(images)
    assert next(images).image == 'frames/left camera/yard_0002.jpg'


def test_of_pngs_the_latest_annotation_counts(tmp_path):
    folder = folder_of_pngs(tmp_path, **{'9-by-1-tag-tree': TREE, '10-by-2-tag-tree': ~TREE})
    written(tmp_path / 'export.json', [task(polygon((1, 1), (2, 2), (3, 3)))])
    [image] = label_studio.read(folder)
    np.testing.assert_array_equal(classes_of(image, {'tree': 1}) == 1, ~TREE)


def test_of_pngs_the_annotation_counts_that_does_in_the_export(tmp_path, caplog):
    folder = folder_of_pngs(tmp_path, **{f'{number}-by-1-tag-tree': mask for number, mask in (
        (8, TREE), (9, ~TREE), (10, ~TREE))})
    written(tmp_path / 'export.json', [task(annotations=[
        annotation('tree', 1, id=8, ground_truth=True), annotation('tree', 2, id=9),
        annotation('tree', 3, id=10, was_cancelled=True)])])
    [image] = label_studio.read(folder)
    np.testing.assert_array_equal(classes_of(image, {'tree': 1}) == 1, TREE)
    assert 'of 1 tasks with several annotations, the ground truth or else the latest is taken: ' \
        'task 1' in caplog.text


def test_pictures_of_other_names_are_told_beside_pngs(tmp_path, caplog):
    folder = folder_of_pngs(tmp_path, **{'9-by-1-tag-tree': TREE})
    write_png(folder / 'task-1.png', np.uint8(TREE))
    written(tmp_path / 'export.json', [task()])
    assert len(list(label_studio.read(folder))) == 1
    assert '1 pictures are not called as Label Studio calls its PNGs' in caplog.text
    assert 'task-1.png' in caplog.text


def test_of_pngs_nobody_knows_which_is_on_top(tmp_path):
    folder = folder_of_pngs(tmp_path, **{'9-by-1-tag-tree': TREE, '9-by-1-tag-sky': TREE})
    written(tmp_path / 'export.json', [task()])
    with pytest.raises(AnnotationError, match='6 pixels are of sky and tree: PNGs do not tell'):
        list(label_studio.read(folder))


def test_of_what_was_brushed_there_are_pngs(tmp_path):
    folder = folder_of_pngs(tmp_path, **{'9-by-1-tag-tree': TREE})
    sky = result({'format': 'rle', 'rle': []}, 'brushlabels', 'sky/blue')
    for others, is_missing in (([polygon((1, 1), (2, 2), (3, 3), label='road')], False),
                               ([brush(), sky], True)):
        written(tmp_path / 'export.json', [
            task(annotations=[{'id': 9, 'result': [brush(), *others]}])])
        images = label_studio.read(folder)
        if is_missing:
            with pytest.raises(AnnotationError, match='task 1: its annotation 9 has sky/blue, '
                               'too, of which there is no PNG'):
                next(images)
        else:
            assert next(images).regions[0].label == 'tree'


def test_pngs_of_one_annotation_are_of_one_size(tmp_path):
    folder = folder_of_pngs(tmp_path, **{'9-by-1-tag-tree': TREE, '9-by-1-tag-sky': TREE[1:]})
    written(tmp_path / 'export.json', [task()])
    with pytest.raises(AnnotationError, match=r'tag-tree-0\.png: 20×10 pixels, but 20×9 were exp'):
        list(label_studio.read(folder))


def test_two_exports_agree_on_the_image_of_a_task(tmp_path):
    folder = folder_of_pngs(tmp_path, **{'9-by-1-tag-tree': TREE})
    written(tmp_path / 'a.json', [task()])
    written(tmp_path / 'b.json', [task(data={'image': 'other.jpg'})])
    with pytest.raises(AnnotationError, match=r'b\.json: task 1: of other\.jpg here, and of data'):
        label_studio.read(folder)
