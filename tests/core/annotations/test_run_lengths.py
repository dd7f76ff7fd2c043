import numpy as np
from pycocotools import mask as coco
import pytest
from univseg_core.annotations.regions import AnnotationError
from univseg_core.annotations.run_lengths import (
    bits_of,
    ColumnRuns,
    lengths_of,
    RowRuns,
    unpacked,
)


def test_coco_counts_down_the_columns():
    expected = np.array([[0, 1, 0], [1, 1, 0]], bool)
    np.testing.assert_array_equal(ColumnRuns((1, 3, 2), 2, 3).mask(2, 3), expected)


def test_cvat_counts_along_the_rows_of_a_rectangle():
    expected = np.zeros((3, 4), bool)
    expected[1] = [0, 0, 1, 1]
    expected[2] = [0, 1, 0, 0]
    np.testing.assert_array_equal(RowRuns('1, 3,2', 2, 3, 1, 1).mask(3, 4), expected)


@pytest.mark.parametrize('share', [0, 0.02, 0.5, 1])
def test_packed_lengths_are_those_that_pycocotools_packs(share):
    # Runs of up to 6000 pixels, and differences of both signs.
    mask = np.random.default_rng(3).random((60, 100)) < share
    text = coco.encode(np.asfortranarray(mask, np.uint8))['counts'].decode()
    np.testing.assert_array_equal(ColumnRuns(text, 60, 100).mask(60, 100), mask)
    assert sum(unpacked(text)) == 6000


@pytest.mark.parametrize('bits', [[], [0], [1], [0, 1, 1, 0], [1, 1, 0]])
def test_lengths_go_there_and_back(bits):
    bits = np.array(bits, bool)
    np.testing.assert_array_equal(bits_of(lengths_of(bits), len(bits)), bits)


@pytest.mark.parametrize(('counts', 'said'), [
    ((1, 3), '4 pixels together, expected 6'), ((1, 3, 2, 1), '7 pixels'), ((), '0 pixels'),
    ((10**30,), 'expected 6'), ((7, -1), 'whole numbers of 0 or more'), ((6.0,), 'whole numbers'),
    ((True, 5), 'whole numbers'), (('6',), 'whole numbers'), ('', '0 pixels together'),
    ('1', '1 pixels'), ('o', 'cut off'), ('oooooooooooooo0', 'not run lengths'),
    ('\xff', 'not run lengths'), ('1 3', 'not run lengths')])
def test_lengths_that_cannot_be_are_refused(counts, said):
    with pytest.raises(AnnotationError, match=said):
        ColumnRuns(counts, 2, 3).mask(2, 3)


@pytest.mark.parametrize(('counts', 'said'), [
    ('1, 3', '4 pixels together, expected 6'), ('1, x, 2', 'such as 3, 1, 4'),
    ('', 'such as 3, 1, 4'), ('-1, 7', '0 or more'), (f'6, {"9" * 5000}', 'such as 3, 1, 4')])
def test_lists_of_cvat_that_cannot_be_are_refused(counts, said):
    with pytest.raises(AnnotationError, match=said):
        RowRuns(counts, 2, 3, 0, 0).mask(2, 3)


def test_masks_of_another_place_are_refused():
    with pytest.raises(AnnotationError, match='of an image of 3×2, not of 2×3'):
        ColumnRuns((6,), 2, 3).mask(3, 2)
    with pytest.raises(AnnotationError, match='does not fit into an image of 4×3'):
        RowRuns('6', 2, 3, 2, 1).mask(3, 4)
