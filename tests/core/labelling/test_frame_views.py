"""What is kept of a frame: worked out by hand, and against the model's own outputs."""

import cv2
import numpy as np
import pytest
from scipy.special import softmax
from tiny_worlds import random_image, small_network
from univseg_core.domains import Domain, DomainError
from univseg_core.inference.segmenter import Segmenter
from univseg_core.labelling.frame_views import (
    cell_uncertainty,
    cells_of,
    largest_confusion,
    view_frame,
)
from univseg_core.labelling.label_cost import outline_length
from univseg_core.models.model_file import ModelCard
from univseg_core.pictures.likeness import dhash


def test_cells_count_by_the_square_of_the_ratio_and_in_full_where_contradicted():
    ratio = np.array([[1, 0.5, 0.5, 0]])
    contradicted = np.array([[False, False, True, True]])
    assert cell_uncertainty(ratio, contradicted).tolist() == [[0.5, 0.125, 0.25, 0]]
    assert cell_uncertainty(ratio, None).tolist() == [[1, 0.25, 0.25, 0]]


def test_the_largest_confusion_takes_both_orders_of_two_classes_together():
    # Six cells, the first decided; of the others, 2/0 three times and 1/2 twice.
    order = np.array([[[0, 1, 2, 2, 0, 0]], [[1, 2, 1, 1, 2, 2]]])
    undecided = np.array([[False, True, True, True, True, True]])
    assert largest_confusion(order, undecided, 3) == (2, 1, 0.5)
    assert largest_confusion(order, undecided & False, 3) is None


def test_a_view_is_what_head_and_label_embeddings_say(segmenter):
    image = random_image(48, 64)
    view = view_frame(segmenter, image, 'outdoor')
    encoded = segmenter.encode(image)
    probabilities = softmax(segmenter.logits(encoded, 'outdoor'), 0)
    ordered = np.sort(probabilities, 0)
    ratio = ordered[-2] / ordered[-1]
    similar = np.einsum('cd,dhw->chw', segmenter.label_embeddings('outdoor'),
                        segmenter.embed(encoded))
    contradicted = similar.argmax(0) != probabilities.argmax(0)
    assert 0 < contradicted.mean() < 1
    unsure = ratio ** 2 * (1 + contradicted) / 2
    assert view.uncertainty == pytest.approx(unsure.mean())
    np.testing.assert_allclose(view.uncertain, [
        (unsure * (probabilities.argmax(0) == c)).mean() for c in range(3)], rtol=1e-5)
    assert view.undecided == pytest.approx((ratio >= 0.5).mean())
    assert view.contradicted == pytest.approx(((ratio >= 0.5) & contradicted).mean())
    np.testing.assert_allclose(view.vector, encoded.features.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(view.shown, probabilities.mean((1, 2)), rtol=1e-5)
    assert view.picture == dhash(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    assert view.outline == outline_length(probabilities.argmax(0))
    cells = cells_of(segmenter, image, 'outdoor')
    np.testing.assert_array_equal(cells.undecided, ratio >= 0.5)
    np.testing.assert_allclose(cells.uncertainty, unsure, rtol=1e-5)


def test_a_temperature_divides_the_logits(segmenter):
    image = random_image(48, 64)
    view = view_frame(segmenter, image, 'indoor', temperature=2.0)
    probabilities = softmax(segmenter.logits(segmenter.encode(image), 'indoor') / 2, 0)
    np.testing.assert_allclose(view.shown, probabilities.mean((1, 2)), rtol=1e-5)
    assert view.uncertainty == pytest.approx(
        ((probabilities.min(0) / probabilities.max(0)) ** 2).mean())
    assert view.uncertainty > view_frame(segmenter, image, 'indoor').uncertainty


def test_without_label_embeddings_the_head_alone_counts(segmenter):
    image = random_image(48, 64)
    view = view_frame(segmenter, image, 'indoor')
    ordered = softmax(segmenter.logits(segmenter.encode(image), 'indoor'), 0)
    assert view.contradicted is None
    assert view.uncertainty == pytest.approx(((ordered.min(0) / ordered.max(0)) ** 2).mean())


def test_a_frame_is_encoded_once(segmenter, monkeypatch):
    passes = []
    encode = segmenter.encode
    monkeypatch.setattr(segmenter, 'encode', lambda image: passes.append(1) or encode(image))
    view_frame(segmenter, random_image(48, 64), 'outdoor')
    assert passes == [1]


def test_domains_that_cannot_be_ranked_are_told(segmenter):
    with pytest.raises(DomainError, match="unknown domain 'attic'"):
        view_frame(segmenter, random_image(8, 8), 'attic')
    single = Segmenter(small_network(Domain.create('yard', ['grass'])), ModelCard(), device='cpu')
    with pytest.raises(DomainError, match='yard: with one class'):
        view_frame(single, random_image(8, 8), 'yard')
