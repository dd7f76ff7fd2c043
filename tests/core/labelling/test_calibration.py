"""The temperature: a known one is found again, by labels drawn from the probabilities."""

import numpy as np
import pytest
from scipy.special import softmax
from tiny_worlds import random_image
from univseg_core.errors import UnivsegError
from univseg_core.labelling.calibration import at_cells, best_temperature, fitted_temperature


@pytest.mark.parametrize('temperature', [0.5, 1.0, 3.0])
def test_the_temperature_of_which_labels_were_drawn_is_found(temperature):
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (20000, 4))
    chance = softmax(logits / temperature, 1).cumsum(1)
    classes = (generator.uniform(size=(20000, 1)) > chance).sum(1)
    assert best_temperature(logits, classes) == pytest.approx(temperature, rel=0.05)


def test_the_label_in_the_middle_of_a_cell_counts():
    label = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
    assert at_cells(label, 2, 2).tolist() == [[1 * 8 + 2, 1 * 8 + 6], [4 * 8 + 2, 4 * 8 + 6]]
    assert at_cells(label, 6, 8).tolist() == label.tolist()


def test_void_says_nothing(segmenter):
    image = random_image(48, 64)
    top = segmenter.head_mask(segmenter.encode(image), 'indoor')
    half = top.copy()
    half[:24] = 255
    # What the model says itself is likeliest where it is surest.
    assert fitted_temperature(segmenter, 'indoor', [(image, half)]) < 0.2
    with pytest.raises(UnivsegError, match='no labelled image'):
        fitted_temperature(segmenter, 'indoor', [(image, np.full_like(top, 255))])
