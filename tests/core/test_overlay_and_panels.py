"""Pictures for eyes: their sizes, and the few pixels that say something."""

import numpy as np
import pytest
from tiny_worlds import COLOURS, draw, HEIGHT, OUTDOOR, random_image, WIDTH
from univseg_core.domains import Domain
from univseg_core.pictures.overlay import (
    legend,
    overlay,
    overlay_with_legend,
    VISIBLE_SHARE,
    with_legend,
)
from univseg_core.reporting.panels import MostDifferent, panel, thumbnail, validation_panel


def test_an_overlay_tints_by_class_and_leaves_the_unknown():
    domain = Domain.create('a', ['x', 'y'], [(200, 0, 100), (0, 50, 250)])
    image = np.full((1, 3, 3), 100, np.uint8)
    picture = overlay(image, np.array([[0, 1, 255]], np.uint8), domain, opacity=0.25)
    assert picture.dtype == np.uint8
    assert np.abs(picture[0] - np.array([[125, 75, 100], [75, 88, 138], [100] * 3])).max() <= 1
    assert picture[0, 2].tolist() == [100] * 3


@pytest.mark.parametrize('classes', [1, 3, 40])
@pytest.mark.parametrize('width', [60, 320, 1000])
def test_a_legend_shows_every_colour(classes, width):
    domain = Domain.create('a', [f'class {i}' for i in range(classes)])
    strip = legend(domain, width)
    assert strip.shape[1:] == (width, 3)
    colours = {tuple(pixel) for pixel in strip.reshape(-1, 3).tolist()}
    assert set(domain.palette) <= colours


def test_a_legend_goes_below_the_picture():
    picture = random_image(50, 200)
    both = with_legend(picture, OUTDOOR)
    assert np.array_equal(both[:50], picture)
    assert np.array_equal(both[50:], legend(OUTDOOR, 200))


def named(picture: np.ndarray, domain: Domain) -> list[int]:
    """Return the classes of the swatches from top to bottom: a black image has none but these."""
    first_rows = {index: np.flatnonzero((picture == colour).all(2).any(1))
                  for index, colour in enumerate(domain.palette)}
    found = {index: rows[0] for index, rows in first_rows.items() if len(rows)}
    return sorted(found, key=found.get)


MANY = Domain.create('many', [f'class {i}' for i in range(40)],
                     [(i + 100, 2 * i + 100, 0) for i in range(40)])


def stripes(height: int, width: int, classes: list[int]) -> np.ndarray:
    """Return a mask of vertical stripes, as wide as each other."""
    return np.resize(np.repeat(classes, width // len(classes)), (height, width)).astype(np.uint8)


def test_the_legend_inside_names_the_classes_there_are_and_leaves_the_rest_of_the_overlay():
    mask = stripes(240, 480, [7, 255, 3])
    black = np.zeros((240, 480, 3), np.uint8)
    picture = overlay_with_legend(black, mask, MANY)
    plain = overlay(black, mask, MANY)
    assert picture.shape == (240, 480, 3)
    assert picture.dtype == np.uint8
    assert named(picture, MANY) == [3, 7]
    assert named(plain, MANY) == []
    changed = (picture != plain).any(2)
    assert changed[:28, :40].all()
    assert not changed[30:].any()
    assert not changed[:, 120:].any()


def test_a_legend_inside_is_paler_where_the_picture_is_not_hidden():
    domain = Domain.create('a', ['x'], [(0, 0, 0)])
    image = np.zeros((240, 480, 3), np.uint8)
    image[:, :4] = 200
    picture = overlay_with_legend(image, np.zeros((240, 480), np.uint8), domain)
    assert picture[1, 1].tolist() == [round(0.2 * 100 + 0.8 * 255)] * 3
    assert picture[1, 10].tolist() == [round(0.8 * 255)] * 3


def test_a_class_is_named_from_its_share_on():
    black, mask = np.zeros((200, 250, 3), np.uint8), np.zeros((200, 250), np.uint8)
    least = round(VISIBLE_SHARE * mask.size)
    assert least == 100
    mask[-1, :least - 1] = 1
    assert named(overlay_with_legend(black, mask, MANY), MANY) == [0]
    mask[-1, :least] = 1
    assert named(overlay_with_legend(black, mask, MANY), MANY) == [0, 1]


@pytest.mark.parametrize('names', [1, 254, 255])
def test_unknown_is_no_class_however_many_there_are(names):
    domain = Domain.create('a', [str(i) for i in range(names)],
                           [(200, 100, i) for i in range(names)])
    image = random_image(200, 300)
    image[...] = np.minimum(image, 99)
    mask = np.full((200, 300), 255, np.uint8)
    assert np.array_equal(overlay_with_legend(image, mask, domain), image)
    mask[-20:] = names - 1
    assert named(overlay_with_legend(image, mask, domain), domain) == [names - 1]


def test_of_more_classes_than_there_is_room_for_the_largest_are_named_in_their_order():
    columns = np.repeat(np.arange(40), np.where(np.arange(40) % 3 == 1, 20, 10))
    mask = np.resize(columns, (120, len(columns))).astype(np.uint8)
    picture = overlay_with_legend(np.zeros((*mask.shape, 3), np.uint8), mask, MANY)
    shown = named(picture, MANY)
    assert shown == [1, 4, 7, 10, 13, 16, 19, 22, 25]


@pytest.mark.parametrize(('height', 'width'), [
    (1, 1), (1, 500), (500, 1), (11, 500), (12, 500), (23, 500), (200, 30), (13, 17)])
def test_an_image_too_small_gets_no_legend(height, width):
    image = random_image(height, width)
    mask = np.zeros((height, width), np.uint8)
    mask.flat[0] = 1
    assert np.array_equal(overlay_with_legend(image, mask, OUTDOOR), overlay(image, mask, OUTDOOR))


@pytest.mark.parametrize(('height', 'width'), [(24, 200), (240, 320), (720, 1280), (640, 480)])
def test_a_legend_inside_covers_half_of_the_width_at_most(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    picture = overlay_with_legend(image, stripes(height, width, [1]), OUTDOOR)
    assert named(picture, OUTDOOR) == [1]
    changed = (picture != overlay(image, stripes(height, width, [1]), OUTDOOR)).any(2)
    assert changed[:, :width // 2].any()
    assert not changed[:, width // 2:].any()


def test_an_image_with_padded_rows_that_cannot_be_written_to_stays_as_it_was():
    padded = random_image(200, 310)
    image = padded[:, :300]
    mask = np.ascontiguousarray(stripes(200, 300, [0, 1, 2]))
    before = image.copy()
    expected = overlay_with_legend(before.copy(), mask, OUTDOOR)
    for array in (padded, image, mask):
        array.flags.writeable = False
    assert np.array_equal(overlay_with_legend(image, mask, OUTDOOR), expected)
    assert np.array_equal(image, before)


def test_a_panel_has_its_pictures_in_rows():
    rows = [[random_image(30, 40, 2 * row + column) for column in (0, 1)] for row in range(3)]
    picture = panel(rows, ['left', 'right'], OUTDOOR, width=40)
    assert picture.shape[1] == 2 * 44
    assert np.array_equal(picture[26 + 4:26 + 34, 4:44], rows[0][0])
    assert np.array_equal(picture[26 + 38:26 + 68, 48:88], rows[1][1])


def different(places, count):
    kept = MostDifferent(count)
    for i, place in enumerate(places):
        kept.add(np.atleast_1d(place), (i, place))
    return [place for _, place in kept.things]


@pytest.mark.parametrize(('places', 'count', 'expected'), [
    ([], 2, []), ([5], 2, [5]), ([5, 5], 2, [5, 5]),
    ([0, 1, 2, 50, 51, 52], 2, [0, 52]),  # two drives: an end of each
    ([0, 10, 1, 11, 20, 21], 3, [0, 10, 21]),
    ([3, 3, 3, 3, 9], 2, [3, 9]),
    (range(100), 1, [0]),
])
def test_what_is_farthest_apart_stays(places, count, expected):
    assert different(places, count) == expected


def test_no_frames_of_one_drive_stay_where_there_are_as_many_drives():
    generator = np.random.default_rng(0)
    drives = np.array([[0, 0], [9, 0], [0, 9], [9, 9]])
    frames = np.repeat(drives, 25, axis=0) + generator.uniform(-1, 1, (100, 2))
    for order in (np.arange(100), generator.permutation(100)):
        shown = different(list(frames[order]), 4)
        assert {tuple(np.round(place / 9)) for place in shown} == {
            (0, 0), (1, 0), (0, 1), (1, 1)}


def test_a_thumbnail_is_the_mean_colour_of_each_place():
    image = np.zeros((60, 80, 3), np.uint8)
    image[:10, :5] = 200  # half of the first of 8 × 6 places
    vector = thumbnail(image)
    assert vector.shape == (8 * 6 * 3,)
    assert vector[:3].tolist() == [100] * 3
    assert not vector[3:].any()
    assert thumbnail(random_image(3, 2)).shape == vector.shape


def test_a_legend_has_void_black_or_crossed_out():
    domain = Domain.create('a', ['x'], [(200, 100, 50)])
    coloured, crossed = legend(domain, 300, void=(0, 0, 0)), legend(domain, 300)
    assert (coloured == 0).all(2).sum() >= 13 * 13  # nothing else is black
    assert not (crossed == 0).all(2).any()


def test_a_validation_panel_shows_image_truth_and_prediction():
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(3):
        image, label = draw(COLOURS['outdoor'], generator)
        rows.append([np.kron(image, np.ones((5, 5, 1), np.uint8)),
                     *(np.kron(each, np.ones((5, 5), np.uint8)) for each in (label, label[::-1]))])
    picture = validation_panel(OUTDOOR, rows)
    assert 5 * WIDTH == 320
    for row, (image, truth, mask) in enumerate(rows):
        top = 30 + row * (5 * HEIGHT + 4)
        for column, expected in enumerate(
                (image, OUTDOOR.colourise(truth), OUTDOOR.colourise(mask))):
            left = 4 + 324 * column
            assert np.array_equal(picture[top:top + 5 * HEIGHT, left:left + 320], expected)
    below = legend(OUTDOOR, 3 * 324, void=(0, 0, 0))
    assert len(picture) == 26 + 3 * (5 * HEIGHT + 4) + len(below)
    assert np.array_equal(picture[-len(below):], below)
