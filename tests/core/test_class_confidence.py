"""How sure a model is of each class."""

import numpy as np
import pytest
from univseg_core.inference.class_confidence import class_confidence


def test_it_is_the_mean_of_the_cells_where_a_class_is_on_top():
    # Two classes: probabilities of the first are 0.75, 0.5 (the first of equal ones) and 0.2.
    odds = np.array([3.0, 1.0, 0.25])
    logits = np.stack([np.log(odds), np.zeros(3)]).reshape(2, 1, 3).astype(np.float32)
    assert class_confidence(logits) == pytest.approx([(0.75 + 0.5) / 2, 0.8])


def test_a_class_that_is_nowhere_on_top_has_none():
    logits = np.zeros((3, 2, 2), np.float32)
    logits[1] = 80.0
    found = class_confidence(logits)
    assert np.isnan(found[[0, 2]]).all()
    assert found[1] == pytest.approx(1.0)


def test_it_agrees_with_the_formula():
    logits = np.random.default_rng(0).normal(0, 3, (7, 11, 13)).astype(np.float32)
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum(0)
    top = shares.argmax(0)
    assert class_confidence(logits) == pytest.approx(
        [shares[each][top == each].mean() for each in range(7)])
