"""How well domains are told from each other and from none, counted by hand."""

import numpy as np
import pytest
from univseg_core.measuring.recognition import compare_unknown, Recognised


def recognised(probabilities, unfamiliarity):
    return Recognised(('outdoor', 'indoor'), np.array(probabilities), np.array(unfamiliarity))


def test_recognitions_are_counted_and_averaged():
    found = recognised([[.9, .1], [.2, .8], [.9, .1]], [0, 3, .3])
    assert found.taken_for() == {'outdoor': 2, 'indoor': 1}
    assert found.averaged(2).probabilities == pytest.approx(
        np.array([[.9, .1], [.55, .45], [.55, .45]]))
    assert found.averaged(2).unfamiliarity == pytest.approx([0, 1.5, 1.65])
    assert found.to_dict('outdoor') == {
        'images': 3, 'taken_for': {'outdoor': 2, 'indoor': 1}, 'right': pytest.approx(2 / 3),
        'right_over_5': 1.0, 'false_alarms': pytest.approx(1 / 3),
        'false_alarms_over_5': pytest.approx(2 / 3)}


def test_what_processes_have_looked_at_in_turn_is_in_its_order_again():
    parts = [recognised([[1, 0], [.8, .2]], [0, 2]), recognised([[.9, .1]], [1])]
    found = Recognised.in_turn(parts)
    assert found.probabilities.tolist() == [[1, 0], [.9, .1], [.8, .2]]
    assert found.unfamiliarity.tolist() == [0, 1, 2]


def test_unknown_images_beside_known_ones():
    known = [recognised([[1, 0]] * 101, np.linspace(0, 1, 101))]
    found = compare_unknown(known, recognised([[1, 0]] * 4, [.5, .995, 1.5, 2]))
    # Two of four are above all known ones; .995 above all but one, and .5 above half of them.
    assert found.auroc == pytest.approx((2 + 100 / 101 + 50.5 / 101) / 4)
    assert (found.images, found.found, found.found_at_1_percent) == (4, .5, .75)
