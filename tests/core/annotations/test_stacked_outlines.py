import numpy as np
import pytest
from univseg_core.annotations.drawn import Drawn
from univseg_core.annotations.stacked_outlines import stacked_outlines


def painted(outlines, shape):
    """Return what outlines are, each drawn by itself and painted over those before it."""
    classes = np.full(shape, 255, np.uint8)
    for index, ring in outlines:
        classes[Drawn(ring).mask(*shape)] = index
    return classes


def test_a_region_in_another_is_painted_over_it():
    mask = np.full((30, 40), 3, np.uint8)
    mask[10:20, 12:28] = 1
    mask[14:16, 15:25] = 3
    outlines = stacked_outlines(mask)
    assert [index for index, _ in outlines] == [3, 1, 3]
    assert [len(ring) for _, ring in outlines] == [4, 4, 4]
    np.testing.assert_array_equal(painted(outlines, mask.shape), mask)


def test_void_is_painted_only_where_it_lies_within_something():
    mask = np.full((30, 40), 255, np.uint8)
    mask[5:25, 5:30] = 0
    mask[10:20, 10:20] = 255
    assert [index for index, _ in stacked_outlines(mask)] == [0, 255]
    np.testing.assert_array_equal(painted(stacked_outlines(mask), mask.shape), mask)
    mask[10:, 10:20] = 255  # open to the void around
    assert [index for index, _ in stacked_outlines(mask)] == [0]
    assert stacked_outlines(np.full((3, 4), 255, np.uint8)) == []


def test_dots_and_lines_remain():
    mask = np.full((9, 9), 255, np.uint8)
    mask[1, 1], mask[3, 2:7], mask[5:8, 4] = 0, 1, 2
    np.testing.assert_array_equal(painted(stacked_outlines(mask), mask.shape), mask)


@pytest.mark.parametrize('seed', range(20))
def test_noise_is_kept_pixel_by_pixel(seed):
    # So little of it may be simplified that the last tolerance, none, is the one that counts.
    random = np.random.default_rng(seed)
    mask = random.choice([0, 1, 2, 255], random.integers(1, 20, 2)).astype(np.uint8)
    found = painted(stacked_outlines(mask), mask.shape)
    assert np.count_nonzero(found != mask) <= 0.004 * mask.size


def test_blobs_keep_their_pixels_but_for_half_a_percent_with_few_corners():
    y, x = np.mgrid[:240, :320]
    mask = np.zeros((240, 320), np.uint8)
    mask[y > 120 + 20 * np.sin(x / 25)] = 1
    mask[np.hypot(y - 100, x - 90) < 60] = 2
    mask[np.hypot(y - 100, x - 90) < 30] = 255
    mask[np.hypot(y - 150, x - 220) < 45] = 3
    mask[60:200, 280:284] = 4
    outlines = stacked_outlines(mask)
    assert np.mean(painted(outlines, mask.shape) != mask) < 0.005
    assert 4 * sum(len(ring) for _, ring in outlines) < 900  # of the 900 pixels that they follow


def test_simplified_neighbours_leave_no_gap():
    y, x = np.mgrid[:100, :100]
    mask = (np.hypot(y - 50, x + 30) < 90).astype(np.uint8)
    assert (painted(stacked_outlines(mask), mask.shape) != 255).all()
