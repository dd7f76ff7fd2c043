"""Confidence beside accuracy: worked by hand."""

import numpy as np
import pytest
from univseg_core.measuring.reliability import BINS, Reliability, ReliabilityCount


def test_pixels_are_counted_by_confidence_and_by_being_right():
    """
    Confidences 255 and 255 (1.0), 51 (0.2) and 51, one of each right; the fifth pixel is void.

    ½ of the pixels are 1.0 sure and 0.5 right, ½ are 0.2 sure and 0.5 right: ½·0.5 + ½·0.3 = 0.4.
    """
    count = ReliabilityCount()
    count.add(np.array([[0, 1, 0]], np.uint8), np.array([[255, 255, 9]], np.uint8),
              np.array([[0, 0, 255]], np.uint8))
    count.add(np.array([[2, 2]], np.uint8), np.array([[51, 51]], np.uint8),
              np.array([[2, 1]], np.uint8))
    found = count.result()
    assert found.pixels.sum() == 4
    low, high = 51 * BINS // 256, BINS - 1
    assert (found.pixels[low], found.pixels[high]) == (2, 2)
    assert (found.confidence[high], found.accuracy[high]) == (1, 0.5)
    assert found.confidence[low] == pytest.approx(0.2)
    assert np.isnan(found.accuracy[0])
    assert found.error == pytest.approx(0.4)
    assert (found.mean_confidence, found.mean_accuracy) == (pytest.approx(0.6), 0.5)


def test_who_is_as_sure_as_right_has_no_error():
    generator = np.random.default_rng(0)
    confidence = generator.integers(0, 256, (400, 500), np.uint8)
    truth = np.zeros(confidence.shape, np.uint8)
    right = generator.random(confidence.shape) < confidence / 255
    count = ReliabilityCount()
    count.add(np.where(right, 0, 1).astype(np.uint8), confidence, truth)
    assert count.result().error < 0.01


def test_nothing_is_known_of_no_pixel():
    found = ReliabilityCount().result()
    assert isinstance(found, Reliability)
    assert np.isnan([found.error, found.mean_confidence, found.mean_accuracy]).all()
