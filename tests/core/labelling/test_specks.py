import numpy as np
import pytest
from univseg_core.labelling.specks import without_specks

VOID = 255


def test_small_regions_become_what_is_next_to_them():
    mask = np.zeros((6, 9), np.uint8)
    mask[:, 5:] = 2
    mask[1, 1] = mask[2, 2] = 7  # touch at a corner: 2 pixels
    mask[4, 7] = VOID
    mask[0, 8] = 3
    expected = np.zeros((6, 9), np.uint8)
    expected[:, 5:] = 2
    np.testing.assert_array_equal(without_specks(mask, 3), expected)
    expected[1, 1] = expected[2, 2] = 7
    np.testing.assert_array_equal(without_specks(mask, 2), expected)


def test_the_nearest_pixel_of_a_larger_region_counts():
    mask = np.array([[0] * 4 + [9, 8, 9, 8] + [1] * 4], np.uint8)
    assert without_specks(mask, 2).tolist() == [[0] * 6 + [1] * 6]


@pytest.mark.parametrize(('mask', 'least'), [
    (np.arange(12, dtype=np.uint8).reshape(3, 4), 5), (np.eye(4, dtype=np.uint8), 4),
    (np.arange(12, dtype=np.uint8).reshape(3, 4), 0)])
def test_where_none_or_all_are_small_a_mask_stays(mask, least):
    np.testing.assert_array_equal(without_specks(mask, least), mask)
