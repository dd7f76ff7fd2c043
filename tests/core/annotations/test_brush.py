import numpy as np
import pytest
from univseg_core.annotations.label_studio.brush import Brush, packed, unpacked
from univseg_core.annotations.regions import AnnotationError


def bits(*parts):
    text = ''.join(parts)
    size = -(-len(text) // 8)
    return int(text.ljust(8 * size, '0'), 2).to_bytes(size, 'big')


HEADER = (f'{9:032b}', '00111', '0010', '0011', '0111', '1111')
"""Nine values of 8 bits, and runs whose lengths have 3, 4, 8 or 16 bits."""


def test_runs_are_of_one_value_or_of_several():
    five_times_seven = '1' + '00' + '100' + '00000111'
    four_values = '0' + '01' + '0011' + '00000001' + '00000010' + '11111111' + '00000000'
    np.testing.assert_array_equal(unpacked(bits(*HEADER, five_times_seven, four_values)),
                                  [7, 7, 7, 7, 7, 1, 2, 255, 0])


def test_the_last_run_may_say_more_than_there_is():
    np.testing.assert_array_equal(unpacked(bits(*HEADER, '1', '10', '11111111', '00000011')),
                                  [3] * 9)


def test_what_is_packed_is_the_same_unpacked():
    masks = [np.random.default_rng(0).random((33, 70)) < 0.3, np.ones((300, 400), bool),
             np.zeros((1, 1), bool), np.eye(5, dtype=bool), np.arange(16384 * 3)[None] < 16384]
    for mask in masks:
        data = packed(mask)
        np.testing.assert_array_equal(unpacked(data), np.repeat(mask.ravel() * 255, 4))
        np.testing.assert_array_equal(Brush(data, *mask.shape).mask(*mask.shape), mask)


def test_a_pixel_is_covered_by_half_or_more():
    values = '0' + '10' + '00000111' + ''.join(f'{v:08b}' for v in (0, 0, 0, 127, 0, 0, 0, 128))
    data = bits(f'{8:032b}', *HEADER[1:], values)
    np.testing.assert_array_equal(Brush(data, 1, 2).mask(1, 2), [[False, True]])


def test_run_lengths_that_end_too_early_are_told():
    data = packed(np.random.default_rng(0).random((9, 9)) < 0.5)
    for length in range(4, len(data) - 1):
        with pytest.raises(AnnotationError, match='cut off'):
            Brush(data[:length], 9, 9).mask(9, 9)


def test_run_lengths_of_another_size_or_kind_are_told():
    with pytest.raises(AnnotationError, match='of 81 pixels, but an image of 8×9 has 72'):
        Brush(packed(np.ones((9, 9), bool)), 9, 8)
    with pytest.raises(AnnotationError, match='of 8 bits were expected, got 16'):
        unpacked(bits(f'{9:032b}', '01111', *HEADER[2:]))
    with pytest.raises(AnnotationError, match='an image of 9×9 pixels, not 9×8'):
        Brush(packed(np.ones((9, 9), bool)), 9, 9).mask(8, 9)
