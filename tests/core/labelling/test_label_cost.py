"""What a label costs: lengths worked out by hand, and of lines in all directions."""

import numpy as np
import pytest
from univseg_core.labelling.label_cost import LabelCost, outline_length


def test_outlines_are_the_edges_between_classes():
    # A square of 2 x 2 at the border of 4 x 3 cells, whose diagonal is 5, has 6 edges.
    classes = np.zeros((4, 3), int)
    classes[1:3, :2] = 1
    assert outline_length(classes) == pytest.approx(np.pi / 4 * 6 / 5)
    classes = np.zeros((6, 8), int)
    classes[2:4, 3:5] = 7
    assert outline_length(classes) == pytest.approx(np.pi / 4 * 8 / 10)
    assert outline_length(np.zeros((6, 8), int)) == 0


def test_the_outline_of_a_disc_is_about_its_circumference():
    down, across = np.mgrid[:300, :400]
    disc = (down - 150) ** 2 + (across - 200) ** 2 < 100 ** 2
    assert outline_length(disc) == pytest.approx(2 * np.pi * 100 / 500, rel=0.01)


def test_a_finer_map_has_outlines_as_long():
    classes = np.random.default_rng(0).integers(0, 3, (6, 8))
    finer = classes.repeat(4, 0).repeat(4, 1)
    assert outline_length(finer) == pytest.approx(outline_length(classes))


def test_minutes_are_those_of_the_frame_and_its_outlines():
    assert LabelCost(90, 30).minutes(5) == 4
    assert LabelCost().minutes(0) == 1
