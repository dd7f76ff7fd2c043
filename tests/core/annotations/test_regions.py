import numpy as np
import pytest
from univseg_core.annotations.drawn import Drawn
from univseg_core.annotations.painting import painted
from univseg_core.annotations.regions import (
    AnnotatedImage,
    AnnotationError,
    Bits,
    Polygons,
    Region,
    ring,
)
from univseg_core.domains import IGNORE_INDEX

SQUARE = ring([(1, 1), (4, 1), (4, 4), (1, 4)])
HOLE = ring([(2, 2), (3, 2), (3, 3), (2, 3)])


def test_a_polygon_covers_the_pixels_whose_centres_are_in_it():
    expected = np.zeros((5, 6), bool)
    expected[1:4, 1:4] = True
    np.testing.assert_array_equal(Polygons([SQUARE]).mask(5, 6), expected)
    expected[2, 2] = False
    np.testing.assert_array_equal(Polygons([SQUARE], [HOLE]).mask(5, 6), expected)


def test_what_lies_outside_of_the_image_is_cut_off():
    assert Polygons([ring([(-1e9, -1e9), (1e9, -1e9), (1e9, 1e9), (-1e9, 1e9)])]).mask(3, 4).all()
    with pytest.raises(AnnotationError, match='x 101 to 104 and y 101 to 104 lie outside of the '
                       'image of 6×5'):
        Polygons([SQUARE + 100]).mask(5, 6)
    # Of several parts, some may.
    assert Polygons([SQUARE, SQUARE + 100]).mask(5, 6).sum() == 9
    assert Polygons([SQUARE - (3.7, 0)]).mask(5, 6).sum() == 0  # half a pixel is in it


@pytest.mark.parametrize('points', [[(1, 1), (2, 2)], [], [(1, 1), (2, 2), (3, float('nan'))],
                                    [(1, 2, 3)] * 3, [('a', 1), (2, 2), (3, 3)]])
def test_a_ring_wants_three_corners_of_two_numbers(points):
    with pytest.raises(AnnotationError):
        ring(points)


def test_later_regions_are_painted_over_earlier_ones(tmp_path):
    image = AnnotatedImage('a.jpg', (5, 6), (
        Region('road', Polygons([SQUARE]), 'annotation 1'),
        Region('tree', Bits(np.ones((1, 1), bool), 2, 2), 'annotation 2')), tmp_path)
    classes = painted(image, 5, 6, {'road': 3, 'tree': 0})
    assert (classes == 3).sum() == 8
    assert classes[2, 2] == 0
    assert (classes == IGNORE_INDEX).sum() == 21


def test_all_regions_that_are_wrong_are_told_at_once(tmp_path):
    regions = (Region('tree', Polygons([SQUARE + 100]), 'annotation 1'),
               Region('road', Polygons([SQUARE]), 'annotation 2'),
               Region('sky', Bits(np.ones((2, 2), bool), 5, 0), 'annotation 3'))
    image = AnnotatedImage('a.jpg', None, regions, tmp_path / 'x.json')
    with pytest.raises(AnnotationError, match=r'x\.json: a\.jpg: 2 problems:\n'
                       r'  annotation 1 \(tree\): .* outside of the image of 6×5\n'
                       r'  annotation 3 \(sky\): a mask of 2×2'):
        painted(image, 5, 6, {'tree': 0, 'road': 1, 'sky': 2})


def test_texts_of_files_are_quoted_in_one_line(tmp_path):
    image = AnnotatedImage('a\nb.jpg', None, (
        Region('tree\n\ud800' + 'x' * 1000, Bits(np.ones((2, 2), bool), 5, 0), '7'),), tmp_path)
    with pytest.raises(AnnotationError) as told:
        painted(image, 5, 6, {})
    assert str(told.value).startswith(f'{tmp_path}: a\\nb.jpg: 7 (tree\\n\\ud800xxx')
    assert len(str(told.value)) < 400


def test_errors_name_the_file_the_image_and_the_object(tmp_path):
    tree = Region('tree', Bits(np.ones((2, 2), bool), 5, 0), '7')
    image = AnnotatedImage('a.jpg', None, (tree,), tmp_path / 'x.json')
    with pytest.raises(AnnotationError, match=r'x\.json: a\.jpg: 7 \(tree\): .*6×5'):
        painted(image, 5, 6, {'tree': 0})
    with pytest.raises(AnnotationError, match='annotated at 6×5 pixels, but the frame is 7×5'):
        painted(AnnotatedImage('a.jpg', (5, 6), (), tmp_path), 5, 7, {})


def test_names_of_several_lines_are_told_in_one(tmp_path):
    tree = Region('a\nb' * 500, Bits(np.ones((2, 2), bool), 5, 0), '7')
    image = AnnotatedImage('a\n.jpg', None, (tree,), tmp_path / 'x.json')
    with pytest.raises(AnnotationError, match=r'x\.json: a\\n\.jpg: 7 \(a\\nba\\nb') as told:
        painted(image, 5, 6, {tree.label: 0})
    assert '\n' not in str(told.value)
    assert len(str(told.value)) < 700


def test_all_regions_of_an_image_that_do_not_fit_are_told(tmp_path):
    far, near = (Region('tree', Bits(np.ones((2, 2), bool), left, 0), str(left))
                 for left in (5, 1))
    image = AnnotatedImage('a.jpg', None, (far, near, Region('car', far.shape, 'last')),
                           tmp_path / 'x.json')
    with pytest.raises(AnnotationError, match=r'x\.json: a\.jpg: 2 problems:\n  5 \(tree\): .*6×5'
                       r'\n  last \(car\): .*6×5$'):
        painted(image, 5, 6, {'tree': 0, 'car': 1})


@pytest.mark.parametrize('shape', [
    Polygons([SQUARE + np.array([5, 0])]), Polygons([SQUARE - [0, 4]]), Polygons([SQUARE + 1e9]),
    Drawn(SQUARE + 20), Drawn(SQUARE - 20, 'circle')])
def test_a_region_beside_the_image_is_an_error(tmp_path, shape):
    image = AnnotatedImage('a.jpg', None, (Region('tree', shape, '7'),), tmp_path / 'x.json')
    with pytest.raises(AnnotationError, match=r'x\.json: a\.jpg: 7 \(tree\): x .* lie outside '
                       'of the image of 6×5$'):
        painted(image, 5, 6, {'tree': 0})


@pytest.mark.parametrize('shape', [
    Polygons([SQUARE * (0, 1) + (6, 0)]), Polygons([SQUARE * (0, 1)]), Polygons([SQUARE / 100]),
    Bits(np.zeros((2, 2), bool))])
def test_regions_without_a_pixel_are_counted(tmp_path, shape):
    whole = Region('tree', Bits(np.ones((5, 6), bool)), '6')
    image = AnnotatedImage('a.jpg', None, (whole, Region('car', shape, '7')), tmp_path / 'x')
    empty = []
    assert (painted(image, 5, 6, {'tree': 0, 'car': 1}, empty=empty) == 0).all()
    assert empty == [f'{tmp_path / "x"}: a.jpg: 7 (car)']
