"""COCO's JSON is read as pycocotools and Datumaro read it, or refused with the place."""

import json
from pathlib import Path

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
import pytest
from univseg_core.annotations.coco import is_coco, read_coco
from univseg_core.annotations.painting import painted
from univseg_core.annotations.regions import AnnotationError
from univseg_core.domains import IGNORE_INDEX
from univseg_core.pictures.images import read_codes

FIXTURES = Path(__file__).parent / 'fixtures'

SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]


def coco(images=None, annotations=(), categories=None, **more):
    return {
        'images': images or [{'id': 7, 'file_name': 'a.jpg', 'height': 5, 'width': 6}],
        'categories': categories or [{'id': 90, 'name': 'tree'}, {'id': 3, 'name': 'road'}],
        'annotations': list(annotations), **more}


def annotation(segmentation, image=7, category=90, number=1, **more):
    return {'id': number, 'image_id': image, 'category_id': category, 'iscrowd': 0,
            'segmentation': segmentation, **more}


@pytest.fixture
def write(tmp_path):
    def written(values, name='coco.json'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(values if isinstance(values, str) else json.dumps(values))
        return path
    return written


def test_what_datumaro_writes_is_read_as_datumaro_paints_it(caplog):
    folder = FIXTURES / 'datumaro' / 'coco'
    images = {image.image: image for image in read_coco(folder)}
    assert list(images) == ['first.png', 'yard/second.png', 'empty.png']
    for name, image in images.items():
        np.testing.assert_array_equal(
            painted(image, 20, 30, {'road': 0, 'tree': 1, 'car': 2}),
            read_codes(folder / name.replace('/', '-')))
    assert '1 annotations have no segmentation' in caplog.text


def test_masks_are_those_of_pycocotools(write):
    rng = np.random.default_rng(5)
    lengths = rng.integers(0, 40, 30).tolist()
    packed = mask.encode(np.asfortranarray(rng.random((30, 40)) < 0.3, np.uint8))
    path = write(coco(
        [{'id': 4, 'file_name': 'b.png', 'height': 30, 'width': 40}],
        [annotation(rng.uniform(0, 30, (2, 10)).tolist(), 4, 3, 1),
         annotation({'size': [30, 40], 'counts': [*lengths, 1200 - sum(lengths)]}, 4, 90, 2),
         annotation({'size': [30, 40], 'counts': packed['counts'].decode()}, 4, 90, 3,
                    iscrowd=1)]))
    theirs = COCO(path)
    image, = read_coco(path)
    assert image.size == (30, 40)
    assert [region.label for region in image.regions] == ['road', 'tree', 'tree']
    for region in image.regions:
        number = int(region.what.removeprefix('annotation '))
        expected = theirs.annToMask(theirs.anns[number]).astype(bool)
        np.testing.assert_array_equal(region.shape.mask(30, 40), expected)
        assert 0 < expected.sum() < 1200


def test_lists_come_in_any_order_and_ids_are_of_any_kind(write):
    values = coco([{'id': 'x', 'file_name': 'a/b.jpg'}, {'id': -3, 'file_name': 'c.jpg'}],
                  [annotation([SQUARE], 'x', 3), annotation([SQUARE], -3, 90)])
    path = write({key: values[key] for key in ('annotations', 'categories', 'images')})
    assert is_coco(path)
    first, second = read_coco(path)
    assert (first.image, first.size, first.source) == ('a/b.jpg', None, path)
    assert [region.label for region in first.regions] == ['road']
    assert [region.label for region in second.regions] == ['tree']
    classes = painted(first, 5, 6, {'road': 2})
    assert (classes == 2).sum() == 9
    assert (classes[1:4, 1:4] == 2).all()


def test_parts_are_a_union_and_the_later_annotation_counts(write):
    overlapping = [[0, 0, 3, 0, 3, 2, 0, 2], [2, 0, 5, 0, 5, 2, 2, 2]]
    image, = read_coco(write(coco(annotations=[
        annotation(overlapping, category=3), annotation([SQUARE], number=2)])))
    expected = np.full((5, 6), IGNORE_INDEX)
    expected[:2, :5] = 3
    expected[1:4, 1:4] = 0
    np.testing.assert_array_equal(painted(image, 5, 6, {'road': 3, 'tree': 0}), expected)


def test_names_before_roboflow_changed_them_are_known_too(write):
    # As in its exports: a category of all others, and the name as it was uploaded.
    path = write(coco(
        [{'id': 0, 'file_name': 'street_jpg.rf.0a1b2c3d4e5f.jpg', 'height': 5, 'width': 6,
          'extra': {'name': 'my street.jpg'}},
         {'id': 1, 'file_name': 'street_2.png', 'height': 5, 'width': 6}],
        [annotation([SQUARE], 0, 1)],
        [{'id': 0, 'name': 'roads', 'supercategory': 'none'},
         {'id': 1, 'name': 'kerb', 'supercategory': 'roads'}]), 'train/_annotations.coco.json')
    assert is_coco(path.parent.parent)
    first, second = read_coco(path.parent.parent)
    assert first.also == ('street.jpg', 'my street.jpg')
    assert first.regions[0].label == 'kerb'
    assert second.also == ()


def test_annotations_of_boxes_are_left_out_and_counted(write, caplog):
    image, = read_coco(write(coco(annotations=[
        annotation([SQUARE]), annotation([], number=2), annotation([[]], number=3),
        annotation(None, number=4)])))
    assert len(image.regions) == 1
    assert '3 annotations have no segmentation' in caplog.text
    with pytest.raises(AnnotationError, match='none of 1 annotations has a segmentation'):
        list(read_coco(write(coco(annotations=[annotation([])]))))


@pytest.mark.parametrize(('values', 'said'), [
    (coco(annotations=[annotation([SQUARE], category=5)]),
     'annotation 1: its category 5 is none of the file, which has 90 tree, 3 road'),
    (coco(annotations=[annotation([SQUARE], image=8)]), 'annotation 1: its image 8 is none'),
    (coco(annotations=[annotation([SQUARE], category=None)]), 'annotation 1: .* category_id'),
    (coco(annotations=[annotation([[1, 1, 2, 2]])]), 'annotation 1: .*got 2 corners'),
    (coco(annotations=[annotation([[1, 1, 2, 2, 3]])]), 'annotation 1: expected a polygon'),
    (coco(annotations=[annotation([['1', 1, 2, 2, 3, 3]])]), 'annotation 1: expected a polygon'),
    (coco(annotations=[annotation(SQUARE)]), 'annotation 1: expected a polygon'),
    (coco(annotations=[annotation([[1, 1, 2, 2, 3, float('nan')]])]), 'annotation 1: .* finite'),
    (coco(annotations=[annotation([[1, 1, 2, 2, 3, 10**400]])]), 'annotation 1: .* too large'),
    (coco(annotations=[annotation('x.png')]), 'annotation 1: expected a segmentation'),
    (coco(annotations=[annotation({'size': [6, 5], 'counts': [30]})]),
     'annotation 1: run lengths of an image of 5×6, not of 6×5'),
    (coco(annotations=[annotation({'size': [5], 'counts': [30]})]),
     'annotation 1: expected a height and width'),
    (coco(annotations=[annotation({'size': [10**6, 10**6], 'counts': [10**12]})]),
     'annotation 1: 1000000×1000000 pixels, more than .* UNIVSEG_MAX_PIXELS'),
    (coco([{'id': 7, 'file_name': 'a.jpg', 'height': 10**9, 'width': 10**9}]),
     'image 7: 1000000000×1000000000 pixels, more than'),
    (coco([{'id': 7, 'file_name': 'a.jpg', 'height': float('nan'), 'width': 6}]),
     'image 7: expected a height and width'),
    (coco([{'id': 7, 'file_name': 'a.jpg', 'height': 5}]), 'image 7: expected a height and width'),
    (coco([{'id': 7, 'height': 5, 'width': 6}]), 'image 7: file_name: expected a text'),
    (coco([{'file_name': 'a.jpg'}]), 'image of a.jpg: expected id'),
    (coco([{'id': 7, 'file_name': 'a.jpg'}, {'id': 7, 'file_name': 'b.jpg'}]),
     'image 7: another one has this id already'),
    (coco([{'id': 7, 'file_name': 'a.jpg'}, {'id': 8, 'file_name': 'a.jpg'}]),
     'images 7 and 8 are of the same file, a.jpg'),
    (coco(categories=[{'id': 1, 'name': 'a'}, {'id': 1, 'name': 'b'}]),
     'category 1: another one has this id already'),
    (coco(categories=[{'id': 1}]), 'category 1: name: expected a text, got nothing'),
    (coco(categories=['tree']), "expected an object {…}, got 'tree'"),
    (coco(annotations=[{'image_id': 7, 'segments_info': []}]), 'panoptic'),
    ({'shapes': [], 'imagePath': 'a.jpg'}, 'no images; expected COCO'),
    ([], 'expected {'), ('', 'got its end'), ('{"images": [{"id": 1}', 'not JSON|image 1'),
    ('{"images": ' + '[' * 10**5, 'too deep'), (json.dumps(coco())[:-20], 'not JSON'),
    (json.dumps(coco()) + 'x', 'follows behind its end'), ('{"a" 1}', "expected :, got '1'"),
    ('{1: 1}', 'is no key')])
def test_what_is_wrong_is_named_with_its_place(write, values, said):
    path = write(values)
    with pytest.raises(AnnotationError, match=said) as caught:
        list(read_coco(path))
    assert str(caught.value).startswith(f'{path}: ')


def test_all_problems_are_told_at_once(write):
    bad = [annotation([[1, 1]], number=number) for number in range(1, 31)]
    path = write(coco([{'id': 7, 'file_name': 'a.jpg', 'height': 0, 'width': 0}], bad))
    with pytest.raises(AnnotationError) as caught:
        list(read_coco(path))
    lines = str(caught.value).splitlines()
    assert lines[0] == f'{path}: 31 problems:'
    assert lines[1].startswith('  image 7: expected a height and width')
    assert lines[20].startswith('  annotation 19: ')
    assert lines[21:] == ['  and 11 more']


def test_lengths_that_do_not_sum_up_are_refused_when_they_are_painted(write):
    image, = read_coco(write(coco(annotations=[
        annotation({'size': [5, 6], 'counts': [3, 5]})])))
    with pytest.raises(AnnotationError, match=r'a\.jpg: annotation 1 .*: run lengths of 8'):
        painted(image, 5, 6, {'tree': 0})


def test_files_are_told_apart_by_their_ends(write, tmp_path):
    large = coco(annotations=[annotation([SQUARE * 5000])])
    assert is_coco(write({key: large[key] for key in ('images', 'annotations', 'categories')}))
    for other in ({'shapes': [], 'imagePath': 'a.jpg'}, {'imgHeight': 5, 'objects': []},
                  {'categories': {}, 'items': [{'id': 'a', 'annotations': []}]},
                  [coco()], 'images annotations', ''):
        assert not is_coco(write(other, 'other.json'))
    assert not is_coco(write(coco(), 'coco.txt'))
    assert not is_coco(tmp_path / 'none.json')
    assert is_coco(tmp_path)
    # Beside those of instances, CVAT and others write files of other things.
    write(coco(), 'annotations/captions.json')
    instances = write(coco(), 'annotations/instances_default.json')
    (tmp_path / 'coco.json').unlink()
    assert [image.source for image in read_coco(tmp_path)] == [instances]
    more = write(coco(), 'annotations/deep/More.JSON')
    own = write(coco(), 'annotations/yard.json')
    assert [image.source for image in read_coco(tmp_path)] == [more, instances, own]
    (tmp_path / 'nothing').mkdir()
    with pytest.raises(AnnotationError, match='expected a COCO file'):
        list(read_coco(tmp_path / 'nothing'))


def test_files_that_are_too_large_are_not_read(write, monkeypatch):
    path = write(coco())
    monkeypatch.setenv('UNIVSEG_MAX_RECORDS', '100')
    with pytest.raises(AnnotationError, match='more than 100 bytes'):
        list(read_coco(path))
    monkeypatch.delenv('UNIVSEG_MAX_RECORDS')
    monkeypatch.setattr('univseg_core.files.json_items.MOST_NUMBERS', 5)
    with pytest.raises(AnnotationError, match='or 5 values'):
        list(read_coco(path))
    with pytest.raises(AnnotationError, match='cannot be read'):
        list(read_coco(path.with_name('gone.json')))
