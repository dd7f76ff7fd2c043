"""Several files that come back of one frame: a mask for each class."""

from pathlib import Path

from label_maps import DECODER, run_import, YARD
import numpy as np
from PIL import Image
import pytest
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.labelling.returned_files import by_frame
from univseg_core.labelling.returned_labels import class_colours, LabelDecoder
from univseg_core.pictures.images import write_png

CAR_PARK = Domain.create('park', ['grass', 'car', 'car park'])


@pytest.fixture
def brush(tmp_path):
    """Return a function that writes a frame and its masks, of rows of 0 and 1 by file name."""
    write_png(tmp_path / 'frames' / 'photo.png', np.zeros((1, 4, 3), np.uint8))

    def write(**masks):
        for name, row in masks.items():
            write_png(tmp_path / 'brush' / f'{name}.png', np.uint8([row]) * 255)
        return tmp_path / 'brush', tmp_path / 'frames', tmp_path / 'out'
    return write


def imported(out):
    return np.array(Image.open(out / 'label' / 'photo.png')).tolist()


def test_masks_of_a_frame_become_one_label_map(brush):
    """What nobody painted is void; several of one class are one, and may overlap."""
    *folders, out = brush(photo_grass=[1, 0, 0, 0], photo_car_0=[0, 1, 0, 0],
                          photo_Car_1=[0, 1, 1, 0])
    done = run_import(*folders, out)
    assert (done.added, imported(out)) == (['photo'], [[0, 2, 2, 255]])


@pytest.mark.parametrize(('background', 'expected'), [('wall', [0, 1, 1, 1]),
                                                      ('void', [0, 255, 255, 255])])
def test_what_nobody_painted_may_be_a_class(brush, background, expected):
    *folders, out = brush(photo_grass=[1, 0, 0, 0])
    run_import(*folders, out, LabelDecoder(YARD, class_colours(YARD), background=background))
    assert imported(out) == [expected]


@pytest.mark.parametrize(('masks', 'message'), [
    ({'photo_grass': [1, 1, 0, 0], 'photo_car': [0, 1, 1, 0]},
     r'photo_grass\.png: 1 pixels that a mask of another class'),
    ({'photo_grass': [1, 1, 0, 0], 'photo_car': [0, 0, 1]}, r'photo_grass\.png: 4×1, but phot'),
    ({'photo_grass': [1, 1, 0, 0], 'photo': [0, 0, 1, 0]}, r'photo\.png: the same frame has ph'),
    ({'task-3-by-1-tag-car-0': [1, 0, 0, 0]},
     r'task-3.*no frame is called task-3-by-1-tag-car-0; is it a mask of car\? Call it FRAME-car'),
    ({'photo_roof': [1, 0, 0, 0]}, r'no frame is called photo_roof$'),
    ({'photos': [1, 0, 0, 0]}, r'no frame is called photos; did you mean photo\?$')])
def test_masks_that_cannot_be_put_together_are_told(brush, masks, message):
    *folders, out = brush(**masks)
    with pytest.raises(UnivsegError, match=message):
        run_import(*folders, out)
    assert not out.exists()


def test_a_mask_has_no_other_values(brush, tmp_path):
    *folders, out = brush(photo_car=[0, 1, 1, 0])
    write_png(tmp_path / 'brush' / 'photo_car.png', np.uint8([[0, 1, 255, 0]]))
    with pytest.raises(UnivsegError, match=r'other values than 0 and 255'):
        run_import(*folders, out)


@pytest.mark.parametrize(('name', 'frame', 'of'), [
    ('a.png', 'a', None), ('a-car.png', 'a', 'car'), ('a-car-park.png', 'a', 'car park'),
    ('a_CAR 12.png', 'a', 'car'), ('b-car.png', 'b-car', None), ('b-car-car.png', 'b-car', 'car'),
    ('a.1-grass.png', 'a.1', 'grass')])
def test_a_name_says_the_frame_and_the_class(name, frame, of):
    frames = {key: Path(f'{key}.jpg') for key in ('a', 'a.1', 'b-car')}
    (found,) = by_frame([Path(name)], frames, LabelDecoder(CAR_PARK, {}))
    assert (found.frame, found.files) == (Path(f'{frame}.jpg'), {Path(name): of})


def test_a_name_of_two_meanings_is_told():
    domain = Domain.create('d', ['park', 'car park'])
    frames = {'a': Path('a.jpg'), 'a-car': Path('a-car.jpg')}
    assert by_frame([Path('a-car-park.png')], frames, LabelDecoder(domain, {})) == [
        'a-car-park.png: may be the mask of park in a-car or of car park in a']


def test_a_label_map_of_its_frame_s_name_is_read_as_ever():
    (found,) = by_frame([Path('a.png')], {'a': Path('a.jpg')}, DECODER)
    assert found.files == {Path('a.png'): None}
    assert DECODER.painted is None
