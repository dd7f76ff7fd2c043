"""CVAT's XML is read as Datumaro reads it, or refused with the line."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from univseg_core.annotations.cvat import is_cvat, read_cvat
from univseg_core.annotations.painting import painted
from univseg_core.annotations.regions import AnnotationError
from univseg_core.domains import IGNORE_INDEX
from univseg_core.pictures.images import read_codes

FIXTURES = Path(__file__).parent / 'fixtures'

INDICES = {'road': 0, 'tree': 1, 'car': 2}

SQUARE = '<polygon label="tree" points="1.00,1.00;4.00,1.00;4.00,4.00;1.00,4.00"/>'


def of_image(drawn, attributes='name="a.jpg" width="6" height="5"'):
    return f'<annotations>\n<image id="0" {attributes}>\n{drawn}\n</image>\n</annotations>'


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / 'annotations.xml'
        path.write_text(text)
        return path
    return written


def test_what_datumaro_writes_is_read_as_datumaro_paints_it(caplog):
    folder = FIXTURES / 'datumaro' / 'cvat'
    assert is_cvat(folder)
    images = {image.image: image for image in read_cvat(folder)}
    assert list(images) == ['first.png', 'yard/second.png', 'empty.png']
    for name, image in images.items():
        assert image.size == (20, 30)
        np.testing.assert_array_equal(painted(image, 20, 30, INDICES),
                                      read_codes(folder / name.replace('/', '-')))
    assert 'no region is left out: 1 box, 1 polyline' in caplog.text


def test_masks_lie_in_their_rectangle_and_the_larger_z_order_counts(write):
    image, = read_cvat(write(of_image(
        '<mask label="car" rle="1, 3, 2" left="3" top="2" width="3" height="2" z_order="1"/>'
        + SQUARE + SQUARE.replace('tree', 'road').replace('4.00', '3.00'))))
    expected = np.full((5, 6), IGNORE_INDEX)
    expected[1:4, 1:4] = 1
    expected[1:3, 1:3] = 0
    expected[2, 4:6] = expected[3, 3] = 2
    np.testing.assert_array_equal(painted(image, 5, 6, INDICES), expected)
    assert [region.what for region in image.regions] == ['polygon in line 3'] * 2 + [
        'mask in line 3']


def test_an_ellipse_is_drawn_as_opencv_draws_it(write):
    image, = read_cvat(write(of_image(
        '<ellipse label="car" cx="100.5" cy="60.5" rx="80" ry="20" rotation="30"/>',
        'name="a.jpg" width="200" height="120"')))
    drawn = np.zeros((120, 200), np.uint8)
    cv2.ellipse(drawn, (100, 60), (80, 20), 30, 0, 360, 1, cv2.FILLED)
    different = image.regions[0].shape.mask(120, 200) != drawn.astype(bool)
    assert different.sum() < 0.04 * drawn.sum()  # OpenCV draws the border, too
    assert abs(image.regions[0].shape.mask(120, 200).sum() - np.pi * 80 * 20) < 20


def test_an_ellipse_of_a_negative_radius_is_an_error(write):
    ellipse = '<ellipse label="car" cx="3" cy="3" rx="2" ry="-1"/>'
    with pytest.raises(AnnotationError, match='ellipse in line 3: expected radii rx and ry of 0'):
        list(read_cvat(write(of_image(ellipse))))


def test_frames_of_a_video_have_the_shapes_of_all_tracks(write):
    def shape(frame, z_order=0, outside=0):
        return SQUARE.replace(
            'label="tree"', f'frame="{frame}" z_order="{z_order}" outside="{outside}"')

    path = write(
        '<annotations><meta><task><original_size><width>6</width><height>5</height>'
        '</original_size></task></meta>'
        f'<track id="0" label="tree">{shape(12, z_order=1)}{shape(3)}{shape(13, outside=1)}'
        '</track>'
        '<track id="1" label="car"><mask frame="12" rle="0,30" left="0" top="0" width="6" '
        'height="5"/></track></annotations>')
    third, twelfth = read_cvat(path)
    assert (third.image, third.size) == ('frame_000003.PNG', (5, 6))
    assert [region.label for region in third.regions] == ['tree']
    assert twelfth.image == 'frame_000012.PNG'
    assert [region.label for region in twelfth.regions] == ['car', 'tree']


def test_images_come_while_the_file_is_read(write, monkeypatch):
    monkeypatch.setattr('univseg_core.annotations.cvat.AT_A_TIME', 20)
    path = write(of_image(SQUARE)[:-len('</annotations>')])
    images = read_cvat(path)
    assert next(images).image == 'a.jpg'
    with pytest.raises(AnnotationError, match='not whole XML: no element found: line 5'):
        next(images)


@pytest.mark.parametrize(('text', 'said'), [
    ('<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotations>&c;</annotations>',
     'a document type is declared'),
    ('<!DOCTYPE annotations SYSTEM "file:///etc/passwd"><annotations/>', 'a document type'),
    ('<annotation><object/></annotation>', "of CVAT, got XML of 'annotation'"),
    ('<annotations></annotations>', 'no images; expected "CVAT for images 1.1"'),
    ('<?xml version="1.0" encoding="utfe-8"?><annotations/>', 'unknown encoding: utfe-8'),
    ('<?xml version="1.0" encoding="shift_jis"?><annotations/>', 'multi-byte encodings'),
    ('', 'not whole XML'), ('<annotations><image', 'not whole XML'), ('{}', 'not whole XML'),
    (of_image(SQUARE, 'name="a.jpg" width="6"'), 'image in line 2: .* its height'),
    (of_image(SQUARE, 'name="a.jpg" width="6" height="nan"'), 'image in line 2: .* its height'),
    (of_image(SQUARE, 'name="a.jpg" width="99999999" height="99999999"'), 'UNIVSEG_MAX_PIXELS'),
    (of_image(SQUARE, 'width="6" height="5"'), 'image in line 2: expected an attribute name'),
    (of_image('</image><image name="a.jpg" width="6" height="5">'), 'a.jpg is there already'),
    (of_image('<polygon label="tree" points="1,1;4,1"/>'),
     'a.jpg: polygon in line 3: .*got 2 corners'),
    (of_image('<polygon label="tree" points="1,1;4,1;nan,2"/>'), 'polygon in line 3: .* finite'),
    (of_image('<polygon label="tree" points="1,1;4,1;4"/>'), 'polygon in line 3: '),
    (of_image('<polygon label="tree" points="1,1 4,1 4,4"/>'), 'expected points x,y;x,y'),
    (of_image('<polygon points="1,1;4,1;4,4"/>'), 'polygon in line 3: .* attribute label'),
    (of_image('<ellipse label="tree" cx="1" cy="2" rx="inf" ry="2"/>'), 'its rx'),
    (of_image('<ellipse label="tree" cx="1" cy="2" rx="2"/>'), 'its ry'),
    (of_image('<mask label="tree" rle="30" left="0" top="0" width="6"/>'), 'its height'),
    (of_image('<mask label="tree" rle="1" left="0" top="0" width="99999999" height="99999999"/>'),
     'UNIVSEG_MAX_PIXELS'),
    (of_image(SQUARE.replace('points', 'z_order="x" points')), 'its z_order'),
    (of_image('<box label="tree" xtl="1" ytl="1" xbr="2" ybr="2"/>'),
     'no polygons, masks or ellipses, but 1 box'),
    (f'<annotations><track label="tree">{SQUARE}</track></annotations>', 'its frame'),
    ('<annotations><meta><original_size><width>x</width></original_size></meta>'
     '<track label="tree"><mask frame="1" rle="1" left="0" top="0" width="1" height="1"/>'
     '</track></annotations>', 'original_size: .* its height')])
def test_what_is_wrong_is_named_with_its_place(write, text, said):
    path = write(text)
    with pytest.raises(AnnotationError, match=said) as caught:
        list(read_cvat(path))
    assert str(caught.value).startswith(f'{path}: ')


def test_all_problems_are_told_behind_what_is_sound(write):
    path = write(of_image(f'{SQUARE}{SQUARE.replace("4.00,4.00", "x")}</image>\n<image>{SQUARE}'
                          '</image><image name="b.jpg" width="6" height="5">'))
    images = read_cvat(path)
    assert next(images).image == 'b.jpg'
    with pytest.raises(AnnotationError, match=(
            r'2 problems:\n  a\.jpg: polygon in line 3: .*\n  image in line 4: .* name$')):
        list(images)


@pytest.mark.parametrize(('attributes', 'said'), [
    ('rle="3, 5" left="0" top="0"', 'run lengths of 8 pixels together, expected 6'),
    ('rle="1, 5" left="4" top="0"', 'a mask of 3×2 pixels at column 4, row 0 does not fit'),
    ('rle="1, 5" left="0" top="-1"', 'a mask of 3×2 pixels at column 0, row -1 does')])
def test_masks_that_cannot_be_are_refused_when_they_are_painted(write, attributes, said):
    image, = read_cvat(write(of_image(f'<mask label="tree" {attributes} width="3" height="2"/>')))
    with pytest.raises(AnnotationError, match=rf'a\.jpg: mask in line 3 .*: {said}'):
        painted(image, 5, 6, INDICES)


def test_files_that_are_none_of_cvat_are_told_apart(write, tmp_path, monkeypatch):
    path = write('<annotation><folder>VOC</folder></annotation>')
    assert not is_cvat(path)
    assert not is_cvat(tmp_path)
    with pytest.raises(AnnotationError, match='expected an XML file of CVAT'):
        list(read_cvat(tmp_path))
    assert is_cvat(write(f'<?xml version="1.0"?>\n<!-- of CVAT -->{of_image(SQUARE)}'))
    monkeypatch.setenv('UNIVSEG_MAX_RECORDS', '100')
    with pytest.raises(AnnotationError, match='more than 100 bytes'):
        list(read_cvat(path))
    with pytest.raises(AnnotationError, match='cannot be read'):
        list(read_cvat(path.with_name('gone.xml')))


def test_files_of_folders_below_are_read(tmp_path):
    path = tmp_path / 'task_1' / 'annotations.XML'
    path.parent.mkdir()
    path.write_text(of_image(SQUARE))
    assert is_cvat(tmp_path)
    assert [image.source for image in read_cvat(tmp_path)] == [path]
