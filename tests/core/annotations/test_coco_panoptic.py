"""COCO's panoptic segmentation is read as Datumaro reads it, or refused with the place."""

import json

import numpy as np
import pytest
from reading import classes_of, codes, FIXTURES, written
from univseg_core.annotations.coco import is_coco
from univseg_core.annotations.coco_panoptic import (
    is_coco_panoptic,
    panoptic_of,
    read_coco_panoptic,
)
from univseg_core.annotations.regions import AnnotationError
from univseg_core.pictures.images import write_png

ROAD, TREE = 3 << 16 | 2 << 8 | 1, 200
"""Ids of segments, (1, 2, 3) and (200, 0, 0) as colours."""


def panoptic(**changed):
    """Return a file of two images, of which one has two segments and the other none."""
    return {
        'images': [{'id': 7, 'file_name': 'a.jpg', 'height': 1, 'width': 3},
                   {'id': 'b', 'file_name': 'b.jpg'}],
        'annotations': [{'image_id': 7, 'file_name': 'a.png', 'segments_info': [
            {'id': ROAD, 'category_id': 5, 'iscrowd': 0}, {'id': TREE, 'category_id': 9}]}],
        'categories': [{'id': 5, 'name': 'road'}, {'id': 9, 'name': 'tree'}], **changed}


def annotation(segments, image=7, png='a.png'):
    return {'image_id': image, 'file_name': png, 'segments_info': segments}


def segment(number, category=5):
    return {'id': number, 'category_id': category}


@pytest.fixture
def read(tmp_path):
    """Return what reads a file of some values beside a PNG of some colours."""
    def images(values, colours=((1, 2, 3), (0, 0, 0), (200, 0, 0)), folder='of'):
        write_png(tmp_path / folder / 'a.png', np.uint8([colours]))
        return [*read_coco_panoptic(written(tmp_path / 'of.json', values))]
    return images


def test_what_datumaro_writes_is_read_as_datumaro_paints_it():
    folder = FIXTURES / 'datumaro' / 'panoptic'
    images = {image.image: image for image in read_coco_panoptic(folder)}
    assert list(images) == ['first.png', 'yard/second.png', 'empty.png']
    for name, image in images.items():
        np.testing.assert_array_equal(
            classes_of(image, {'road': 0, 'tree': 1, 'car': 2}),
            codes(f'datumaro/panoptic/{name.replace("/", "-")}'))
    assert [region.what for region in images['yard/second.png'].regions] == [
        'segment 280004', 'segment 350005']


@pytest.mark.parametrize('folder', ['of', '.'])
def test_the_pngs_lie_in_a_folder_of_the_files_name_or_beside_it(read, folder):
    image, bare = read(panoptic(), folder=folder)
    assert classes_of(image, {'road': 0, 'tree': 1}).tolist() == [[0, 255, 1]]
    assert (bare.image, bare.size, bare.regions) == ('b.jpg', None, ())


def test_panoptic_files_and_instances_are_told_apart(tmp_path):
    instances = panoptic(annotations=[{
        'id': 1, 'image_id': 7, 'category_id': 5, 'segmentation': [[0, 0, 2, 0, 2, 1]]}])
    files = [written(tmp_path / name / 'labels.json', values)
             for name, values in (('panoptic', panoptic()), ('instances', instances))]
    for place in (files, [file.parent for file in files]):
        assert [*map(is_coco_panoptic, place)] == [True, False]
        assert [*map(is_coco, place)] == [False, True]
    for place in (files[1], files[1].parent):
        with pytest.raises(AnnotationError, match='annotation 1: expected segments_info'):
            [*read_coco_panoptic(place)]
    files[1].unlink()
    with pytest.raises(AnnotationError, match='expected a JSON of COCO with segments_info'):
        read_coco_panoptic(tmp_path / 'instances')


def test_a_folder_of_its_pngs_is_a_part_of_the_file(tmp_path):
    file = written(tmp_path / 'val.v2.json', panoptic())
    assert panoptic_of(tmp_path / 'val.v2') == file
    assert panoptic_of(tmp_path / 'val') is None


def test_segments_far_from_both_ends_are_found_where_the_format_is_said(tmp_path):
    values = panoptic()
    values['images'][1]['note'] = values['annotations'][0]['note'] = 'x' * 70000
    file = written(tmp_path / 'of.json', values)
    assert not is_coco_panoptic(tmp_path)
    write_png(tmp_path / 'of' / 'a.png', np.uint8([[(1, 2, 3), (0, 0, 0), (200, 0, 0)]]))
    for source in (file, tmp_path):
        assert [image.image for image in read_coco_panoptic(source)] == ['a.jpg', 'b.jpg']


@pytest.mark.parametrize(('annotations', 'message'), [
    ([annotation([segment(ROAD, 6)])],
     f'a.png: image 7, a.jpg: segment {ROAD}: its category 6 is none of the file, which has 5 ro'),
    ([annotation([segment(ROAD)], image=8)], 'a.png: its image 8 is none of the file'),
    ([annotation([segment(ROAD)]), annotation([segment(TREE)])], 'two lists of segments'),
    ([annotation([segment(ROAD), segment(ROAD)])],
     f'segment {ROAD} of image 7: another one has this id already'),
    ([annotation([segment(0)])], 'segment 0 of image 7: expected an id of 1 to 16777215'),
    ([annotation([segment(1 << 24)])], 'expected an id of 1 to 16777215'),
    ([annotation([segment('x')])], 'id: expected a whole number'),
    ([annotation([7])], 'annotation of image 7: expected an object'),
    ([annotation([]), 7], 'annotation, item 2 of annotations: expected an object'),
    ([annotation(None, None, 'b.png')], r'annotation of b\.png: expected image_id'),
    ([annotation(None)], 'segments_info: expected a list, got null'),
    ([annotation([segment(ROAD, None)])], 'expected category_id'),
    ([annotation([], png='../a.png')], r'a PNG below the folder, got \.\./a\.png'),
    ([annotation([], png='c.png')],
     r'of\.json: none of its 1 PNGs is there; unpack them into .*/of/$'),
    ([annotation([], png='c' * 5000)], 'none of its 1 PNGs is there'),
    ([annotation([], png='\ud800\0')], 'none of its 1 PNGs is there'),
    ([annotation([segment(ROAD), segment(TREE)]), annotation([], 'b', 'c.png')],
     r'of\.json: the PNG of image b is missing; expected c\.png in .*/of/, or beside the JSON'),
    ([annotation([segment(ROAD)])], r'a\.png: segments that of\.json has not: 200 in 1 pixels'),
])
def test_what_is_wrong_is_told_with_its_place(read, annotations, message):
    with pytest.raises(AnnotationError, match=message):
        read(panoptic(annotations=annotations))


def test_a_png_of_another_size_or_damaged_does_not_stop_the_others(tmp_path):
    values = panoptic()
    values['annotations'] += [annotation([segment(ROAD)], 'b', 'b.png')]
    file = written(tmp_path / 'of.json', values)
    write_png(tmp_path / 'of' / 'a.png', np.uint8([[(1, 2, 3)]]))
    write_png(tmp_path / 'of' / 'b.png', np.uint8([[(1, 2, 3)]]))
    images = read_coco_panoptic(file)
    with pytest.raises(AnnotationError, match=r'a\.png: 1×1 pixels, but of\.json says 3×1'):
        next(images)
    assert next(images).size == (1, 1)
    (tmp_path / 'of' / 'a.png').write_bytes(b'')
    images = read_coco_panoptic(file)
    with pytest.raises(AnnotationError, match=r'a\.png: the file is empty'):
        next(images)


def test_a_file_that_is_cut_off_is_told(tmp_path):
    text = json.dumps(panoptic())
    file = written(tmp_path / 'of.json', text[:-20])
    assert is_coco_panoptic(file)
    with pytest.raises(AnnotationError, match=r'of\.json: not JSON'):
        next(read_coco_panoptic(file))
