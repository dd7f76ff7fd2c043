"""Where a model contradicts a label map: by hand, and against another way to the same."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import softmax
import torch
from torch.nn.functional import interpolate
from univseg_core.errors import UnivsegError
from univseg_core.labelling.contradictions import Contradiction, contradictions


def logits_of(probabilities):
    """Return logits (C, H, W) of probabilities (H, W, C), moved by a number that changes none."""
    return (np.log(np.moveaxis(np.array(probabilities, float), 2, 0)) + 3).astype(np.float32)


def test_regions_by_hand():
    # Four rows of six pixels, all labelled 0, and the model is sure of it but in three places.
    probabilities = np.tile([0.9, 0.05, 0.05], (4, 6, 1))
    probabilities[:2, :2] = 0.1, 0.8, 0.1
    probabilities[2, 2] = 0.2, 0.7, 0.1  # touches them by a corner alone: another region
    probabilities[3, 4:] = (0.2, 0.1, 0.7), (0.1, 0.1, 0.8)
    found = contradictions(logits_of(probabilities), np.zeros((4, 6), np.uint8), (4, 6), 1)
    expected = [
        Contradiction(0, 1, (0, 0, 2, 2), 4 / 24, 0.8, np.log(8)),
        Contradiction(0, 2, (4, 3, 6, 4), 2 / 24, 0.75, (np.log(3.5) + np.log(8)) / 2),
        Contradiction(0, 1, (2, 2, 3, 3), 1 / 24, 0.7, np.log(3.5))]
    assert [(each.label, each.model, each.box, each.share) for each in found] == [
        (each.label, each.model, each.box, each.share) for each in expected]
    for name in ('confidence', 'log_odds'):
        np.testing.assert_allclose([getattr(each, name) for each in found],
                                   [getattr(each, name) for each in expected], rtol=1e-5)
    assert found[0].score == pytest.approx((1 / 6) ** (1 / 6) * np.log(8), rel=1e-5)


def test_a_region_has_one_label_and_one_class_of_the_model():
    probabilities = np.tile([0.1, 0.8, 0.1], (2, 4, 1))
    probabilities[:, 3] = 0.1, 0.1, 0.8
    label = np.array([[0, 0, 2, 0], [0, 255, 2, 255]], np.uint8)
    found = contradictions(logits_of(probabilities), label, (2, 4), 1)
    assert {(each.label, each.model): round(8 * each.share) for each in found} == {
        (0, 1): 3, (2, 1): 2, (0, 2): 1}


def test_what_is_void_or_agreed_upon_is_not_contradicted():
    probabilities = np.tile([0.1, 0.9], (3, 3, 1))
    label = np.full((3, 3), 255, np.uint8)
    assert contradictions(logits_of(probabilities), label, (3, 3), 1) == []
    label[1] = 1
    assert contradictions(logits_of(probabilities), label, (3, 3), 1) == []


def test_boxes_lie_in_the_label_map_whatever_the_network_sees():
    probabilities = np.tile([0.9, 0.1], (4, 4, 1))
    probabilities[1:3, 2:] = 0.1, 0.9
    found, = contradictions(logits_of(probabilities), np.zeros((10, 8), np.uint8), (4, 4), 1)
    assert (found.box, found.share) == ((4, 2, 8, 8), 0.25)


def test_specks_are_left_out():
    probabilities = np.tile([0.9, 0.1], (100, 100, 1))
    probabilities[10, :4] = probabilities[20, :5] = 0.1, 0.9
    found, = contradictions(logits_of(probabilities), np.zeros((100, 100), np.uint8), (100, 100),
                            1)
    assert found.box == (0, 20, 5, 21)


def test_more_doubt_and_more_pixels_score_more():
    def score(share, log_odds):
        return Contradiction(0, 1, (0, 0, 1, 1), share, 0.5, log_odds).score

    assert score(0.1, 2) > score(0.1, 1) > score(0.01, 1) > 0
    assert score(0.01, 3) > score(0.1, 1.5)


def test_logits_of_cells_are_upsampled_as_masks_are():
    generator = np.random.default_rng(0)
    logits = 3 * generator.normal(size=(3, 6, 8)).astype(np.float32)
    label = np.repeat(np.repeat(generator.integers(0, 3, (3, 4), np.uint8), 8, 0), 8, 1)[:22, :30]
    label[:4, :4] = 255
    wide = interpolate(torch.from_numpy(logits)[None], scale_factor=4, mode='bilinear',
                       align_corners=False)[0, :, :22, :30].numpy()
    probabilities = softmax(wide.astype(float), 0)
    expected = {}
    for each in range(3):
        for kind in {0, 1, 2} - {each}:
            parts, count = ndimage.label((label == each) & (wide.argmax(0) == kind))
            for number in range(1, count + 1):
                inside = parts == number
                rows, columns = np.nonzero(inside)
                expected[each, kind, columns.min(), rows.min(), columns.max() + 1,
                         rows.max() + 1] = (
                    inside.mean(), probabilities[kind][inside].mean(),
                    np.log(probabilities[kind] / probabilities[each])[inside].mean())
    found = contradictions(logits, label, (22, 30), 4)
    assert len(found) == len(expected) > 5
    for region in found:
        np.testing.assert_allclose((region.share, region.confidence, region.log_odds),
                                   expected[(region.label, region.model, *region.box)], rtol=1e-4)
    scores = [region.score for region in found]
    assert scores == sorted(scores, reverse=True)


def test_logits_that_differ_by_more_than_floats_exponentials_can_hold():
    logits = np.zeros((2, 1, 2), np.float32)
    logits[1] = 300, -300
    found, = contradictions(logits, np.zeros((1, 2), np.uint8), (1, 2), 1)
    assert (found.share, found.confidence, found.log_odds) == (0.5, 1, 300)


def test_a_model_that_gives_no_numbers_is_told():
    with pytest.raises(UnivsegError, match='no finite numbers'):
        contradictions(np.full((2, 2, 2), np.nan, np.float32), np.zeros((2, 2), np.uint8), (2, 2),
                       1)
