import numpy as np
import pytest
from reading import classes_of, codes, FIXTURES, written
from univseg_core.annotations import cityscapes_polygons
from univseg_core.annotations.regions import AnnotationError

IDS = {'unlabeled': 0, 'ego vehicle': 1, 'out of roi': 3, 'road': 7, 'polegroup': 18, 'sky': 23,
       'car': 26, 'bicycle': 33}
CITY = 'cityscapes/gtFine/val/bonn'


def file_of(*objects):
    return {'imgHeight': 12, 'imgWidth': 16, 'objects': list(objects)}


def test_every_pixel_is_as_the_scripts_of_cityscapes_have_it():
    [image] = cityscapes_polygons.read(FIXTURES / 'cityscapes')
    np.testing.assert_array_equal(classes_of(image, IDS, 0),
                                  codes(f'{CITY}/bonn_000003_000019_gtFine_labelIds.png'))


def test_a_file_is_of_the_frame_of_its_name():
    [image] = cityscapes_polygons.read(FIXTURES / 'cityscapes' / 'gtFine')
    assert image.image == 'val/bonn/bonn_000003_000019_leftImg8bit.png'
    assert image.also == ('val/bonn/bonn_000003_000019',)
    assert image.size == (48, 64)
    assert {'ego vehicle', 'out of roi'} < image.void
    assert not {'road', 'polegroup'} & image.void


def test_groups_are_of_the_label_of_one_and_deleted_objects_are_none(tmp_path):
    corners = [[0, 0], [3, 0], [3, 3]]
    objects = [{'label': 'cargroup', 'polygon': corners},
               {'label': 'car', 'polygon': [], 'deleted': 1},
               {'label': 'license plate', 'polygon': corners},
               {'label': 'polegroup', 'polygon': corners}]
    [image] = cityscapes_polygons.read(written(tmp_path / 'x_gtCoarse_polygons.json',
                                               file_of(*objects)))
    assert [(region.label, region.what) for region in image.regions] == [
        ('car', 'object 1'), ('polegroup', 'object 4')]
    assert image.image == 'x_leftImg8bit.png'


@pytest.mark.parametrize(('values', 'message'), [
    (file_of({'label': 'car', 'polygon': [[1, 1], [2, 2]]}),
     'object 1: car: expected at least 3 points, got 2'),
    (file_of({'polygon': [[1, 1], [2, 2], [3, 3]]}), 'object 1: label: expected a text, got noth'),
    (file_of({'label': 'car'}), 'object 1: car: polygon: expected a list, got nothing'),
    ({**file_of(), 'imgWidth': '16'}, "imgWidth: expected a whole number, got '16'"),
    ({**file_of(), 'imgWidth': 10**9}, 'UNIVSEG_MAX_PIXELS'),
    ({'shapes': []}, 'not a file of Cityscapes'),
    ('{"imgHeight"', 'not JSON'),
])
def test_what_is_wrong_is_told_with_file_and_object(tmp_path, values, message):
    path = written(tmp_path / 'a_polygons.json', values)
    with pytest.raises(AnnotationError, match=message) as error:
        list(cityscapes_polygons.read(path))
    assert str(error.value).startswith(f'{path}: ')


def test_files_are_recognised_by_their_beginning():
    assert cityscapes_polygons.recognises(FIXTURES / 'cityscapes')
    assert not cityscapes_polygons.recognises(FIXTURES / 'labelme')
    assert not cityscapes_polygons.recognises(FIXTURES / 'label_studio')


def test_other_files_of_the_data_set_are_left_alone(tmp_path):
    written(tmp_path / 'camera' / 'x_camera.json', {'extrinsic': {}})
    written(tmp_path / 'gtFine' / 'x_gtFine_polygons.json', file_of())
    assert cityscapes_polygons.recognises(tmp_path)
    assert [image.image for image in cityscapes_polygons.read(tmp_path)] == [
        'gtFine/x_leftImg8bit.png']
    with pytest.raises(AnnotationError, match=r'no file …_polygons\.json is in it'):
        cityscapes_polygons.read(tmp_path / 'camera')
