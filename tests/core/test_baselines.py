"""What a network must beat, on labels and colours whose answer is known."""

import cv2
import numpy as np
import pytest
from tiny_worlds import INDOOR, OUTDOOR, random_image
from univseg_core.batches.dataset import DomainData
from univseg_core.datasets.folders import Sample
from univseg_core.measuring.baselines import location_prior, pixel_values, random_forest
from univseg_core.pictures.images import write_png

VOID = 255


@pytest.fixture
def data_of(tmp_path):
    """Return a function that writes (image, label) pairs and returns them as a domain's data."""
    def write(domain, labelled, validation):
        samples = []
        for i, (image, label) in enumerate([*labelled, *validation]):
            sample = Sample(tmp_path / f'{i}_image.png', tmp_path / f'{i}_label.png')
            write_png(sample.image, image)
            write_png(sample.label, label)
            samples.append(sample)
        return DomainData(domain, samples[:len(labelled)], [], samples[len(labelled):])
    return write


def noise_with(*labels):
    return [(random_image(*label.shape, seed), label) for seed, label in enumerate(labels)]


def test_the_location_prior_is_the_most_frequent_class_of_each_place(data_of):
    """
    Of three 2×2 maps, each place has a majority: 0 1 / 1 2. Void does not vote.

    The truth 0 1 / 2 2 then has: class 0 1/1, class 1 1/2, class 2 1/2.
    """
    maps = [np.array(m, np.uint8) for m in (
        [[0, 1], [1, VOID]], [[0, 2], [1, VOID]], [[1, 1], [2, 2]])]
    truth = np.array([[0, 1], [2, 2]], np.uint8)
    result = location_prior(data_of(OUTDOOR, noise_with(*maps), noise_with(truth)), grid=(2, 2))
    assert result.confusion.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]]
    assert result.iou.tolist() == [1, 1 / 2, 1 / 2]


def test_the_location_prior_fits_images_of_every_size(data_of):
    def halves(height, width):
        label = np.zeros((height, width), np.uint8)
        label[height // 2:] = 1
        return label

    data = data_of(INDOOR, noise_with(halves(20, 30), halves(44, 16)),
                   noise_with(halves(90, 60), halves(10, 200)))
    assert location_prior(data).iou.tolist() == [1, 1]


def test_pixel_values_are_colour_and_place():
    image = random_image(3, 4)
    values = pixel_values(image)
    assert values.shape == (12, 8)
    assert values.dtype == np.float32
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    for y in range(3):
        for x in range(4):
            expected = [*image[y, x], *hsv[y, x], x / 4, y / 3]
            np.testing.assert_allclose(values[4 * y + x], expected, rtol=1e-6)


def coloured(seed, height=48, width=64):
    """Return an image whose classes have colours of their own, in boxes at random places."""
    generator = np.random.default_rng(seed)
    label = np.zeros((height, width), np.uint8)
    for index in (1, 2):
        top, left = generator.integers(0, height - 16), generator.integers(0, width - 16)
        label[top:top + 16, left:left + 16] = index
    colours = np.array([(90, 140, 60), (200, 50, 40), (40, 70, 210)])
    noise = generator.integers(-20, 21, (height, width, 3))
    label[0] = VOID
    return (colours[np.where(label == VOID, 0, label)] + noise).astype(np.uint8), label


@pytest.mark.parametrize('image_size', [None, 64, 32])
def test_the_forest_finds_classes_by_their_colour(data_of, image_size):
    data = data_of(OUTDOOR, [coloured(i) for i in range(4)], [coloured(i) for i in (10, 11)])
    result = random_forest(data, image_size, trees=5)
    assert result.confusion.sum() == 2 * 47 * 64
    assert result.miou > (0.99 if image_size != 32 else 0.75)
    assert location_prior(data).miou < 0.6


def test_the_forest_is_that_of_its_seed(data_of):
    data = data_of(INDOOR, noise_with(np.eye(24, dtype=np.uint8)),
                   noise_with(np.eye(24, dtype=np.uint8)))
    first, again, other = (random_forest(data, None, seed, trees=3) for seed in (0, 0, 1))
    assert np.array_equal(first.confusion, again.confusion)
    assert not np.array_equal(first.confusion, other.confusion)
