import numpy as np
import pytest
from univseg_core.annotations.outlines import class_outlines, enclosed_area, outlines, TOLERANCE
from univseg_core.annotations.regions import Polygons
from univseg_core.domains import IGNORE_INDEX


def mask_of(*rows):
    """Return a mask in which # are the pixels that it has."""
    return np.array([[pixel == '#' for pixel in row] for row in rows])


def painted_again(mask, tolerance):
    whole = np.zeros(mask.shape, bool)
    for outline in outlines(mask, tolerance):
        piece = Polygons([outline.outer], outline.holes).mask(*mask.shape)
        if not tolerance:
            assert not (whole & piece).any()
        whole |= piece
    return whole


def corners(ring):
    return {tuple(corner) for corner in ring.tolist()}


def test_corners_are_on_the_edges_of_pixels():
    outline, = outlines(mask_of('....', '..##', '..##'), 0)
    assert corners(outline.outer) == {(2, 1), (4, 1), (4, 3), (2, 3)}
    assert outline.holes == ()
    assert outlines(np.zeros((3, 4), bool)) == []


def test_a_ring_has_its_hole_and_what_lies_in_the_hole_is_another_piece():
    mask = mask_of('#####', '#...#', '#.#.#', '#...#', '#####')
    inner, outer = sorted(outlines(mask, 0), key=lambda each: enclosed_area(each.outer))
    assert corners(outer.outer) == {(0, 0), (5, 0), (5, 5), (0, 5)}
    assert [corners(hole) for hole in outer.holes] == [{(1, 1), (4, 1), (4, 4), (1, 4)}]
    assert corners(inner.outer) == {(2, 2), (3, 2), (3, 3), (2, 3)}
    assert inner.holes == ()


def test_pixels_that_touch_at_a_corner_are_of_one_piece_and_holes_are_not():
    outline, = outlines(mask_of('#..', '.#.'), 0)
    assert enclosed_area(outline.outer) == 2
    assert corners(outline.outer) == {(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (1, 2), (0, 1)}
    outline, = outlines(mask_of('####', '#.##', '##.#', '####'), 0)
    assert [enclosed_area(hole) for hole in outline.holes] == [1, 1]


@pytest.mark.parametrize('tolerance', [0, 1e-3])
def test_what_is_not_simplified_is_painted_as_it_was(tolerance):
    """With a tolerance that allows nothing, the middles of edges alone change the rings."""
    generator = np.random.default_rng(0)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9) * 20:
        mask = generator.random(generator.integers(1, 14, 2)) < share
        np.testing.assert_array_equal(painted_again(mask, tolerance), mask)


@pytest.mark.parametrize('mask', [
    mask_of('#'), mask_of('....', '.#..', '....'), mask_of('########'),
    mask_of('.' * 12, '#' * 12, '.' * 12), np.eye(9, dtype=bool), np.ones((7, 5), bool)])
def test_small_and_thin_pieces_remain_whole(mask):
    np.testing.assert_array_equal(painted_again(mask, TOLERANCE), mask)


def test_of_a_disc_few_corners_are_left_and_nearly_all_pixels():
    y, x = np.mgrid[:90, :100] + 0.5
    disc = (x - 50)**2 + (y - 45)**2 < 40**2
    outline, = outlines(disc)
    exact, = outlines(disc, 0)
    assert len(outline.outer) < len(exact.outer) / 3
    assert (painted_again(disc, TOLERANCE) != disc).sum() < 0.01 * disc.sum()
    centre_distance = np.hypot(*(outline.outer - (50, 45)).T)
    assert (abs(centre_distance - 40) < 1.3).all()


def test_a_slanted_border_has_no_steps_and_a_box_has_its_corners():
    triangle = np.tri(30, dtype=bool)
    outline, = outlines(triangle)
    assert len(outline.outer) <= 5
    np.testing.assert_array_equal(painted_again(triangle, TOLERANCE), triangle)
    box = np.zeros((20, 30), bool)
    box[4:15, 6:25] = True
    outline, = outlines(box)
    assert corners(outline.outer) == {(6, 4), (25, 4), (25, 15), (6, 15)}


def test_classes_come_in_an_order_in_which_they_can_be_painted_without_holes():
    mask = np.full((9, 9), 4, np.uint8)
    mask[1:8, 1:8] = 0
    mask[2:7, 2:7] = IGNORE_INDEX
    mask[3:5, 3:5] = 4
    found = list(class_outlines(mask, 0))
    assert [(index, enclosed_area(outline.outer)) for index, outline in found] == [
        (4, 81), (0, 49), (4, 4)]
    again = np.full_like(mask, IGNORE_INDEX)
    for index, outline in found:
        again[Polygons([outline.outer]).mask(9, 9)] = index
    again[mask == IGNORE_INDEX] = IGNORE_INDEX
    np.testing.assert_array_equal(again, mask)
