"""How undecided a model is of its cells: by hand, and beside a loop in float64."""

import math

import numpy as np
import pytest
from univseg_core.inference.cell_entropy import cell_entropy, ENTROPY_BINS, entropy_counts


def test_entropy_is_of_the_softmax_over_its_largest():
    logits = np.log(np.array([[[.5, 1, 1]], [[.25, 0.0001, 1]], [[.25, 0.0001, 1]]], np.float32))
    half, sure, even = cell_entropy(logits)[0]
    assert half == pytest.approx(1.5 * math.log(2) / math.log(3), abs=1e-5)
    assert sure < 0.01
    assert even == pytest.approx(1, abs=1e-6)
    assert cell_entropy(logits[:1]).tolist() == [[0, 0, 0]]
    unknown = np.array([[[np.nan, np.inf, 0]], [[0, np.inf, -np.inf]]], np.float32)
    assert cell_entropy(unknown)[0].tolist() == [1, 1, 0]


def test_cells_are_counted_by_their_entropy_in_equal_parts_of_its_range():
    logits = np.random.default_rng(0).normal(0, 2, (5, 6, 7)).astype(np.float32)
    expected = [0] * ENTROPY_BINS
    for cell in logits.astype(float).reshape(5, -1).T:
        shares = [math.exp(value) for value in cell]
        shares = [share / sum(shares) for share in shares]
        nats = -sum(share * math.log(share) for share in shares)
        expected[int(nats / math.log(5) * ENTROPY_BINS)] += 1
    counts = entropy_counts(logits)
    assert counts.tolist() == expected
    assert counts.dtype == np.int64
    assert entropy_counts(np.zeros((3, 1, 2)))[-1] == 2  # the largest there is
