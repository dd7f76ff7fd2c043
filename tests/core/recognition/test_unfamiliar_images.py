"""Images of no domain: made of others, and of nothing."""

import cv2
import numpy as np
import pytest
from univseg_core.method import unfamiliar_images


def test_what_is_made_of_an_image_is_of_its_own_stuff():
    image = np.random.default_rng(2).integers(0, 256, (56, 84, 3), np.uint8)

    def colours(of):
        return {tuple(pixel) for pixel in of.reshape(-1, 3).tolist()}
    generator = np.random.default_rng(3)
    for _ in range(5):
        moved = unfamiliar_images.with_patches_exchanged(image, generator)
        assert moved.shape == image.shape
        assert not np.array_equal(moved, image)
        assert colours(moved) <= colours(image)
        assert colours(unfamiliar_images.in_colour_cells(image, generator)) <= colours(image)
        assert len(colours(unfamiliar_images.in_colour_cells(image, generator))) <= 200
        other = unfamiliar_images.in_other_colours(image, generator)
        assert (other.shape, other.dtype) == (image.shape, np.uint8)
        assert np.abs(other.astype(int) - image).mean() > 20

    class Quarters:
        def __init__(self, quarters):
            self.integers = lambda *_: quarters
    assert np.array_equal(unfamiliar_images.turned(image, Quarters(2)), image[::-1, ::-1])
    # Of 56×84, the midst of 56×37 has, lying, nearly the shape of the whole.
    assert np.array_equal(unfamiliar_images.turned(image, Quarters(1)), cv2.resize(
        np.rot90(image[:, 23:60]), (84, 56), interpolation=cv2.INTER_LINEAR))


@pytest.mark.parametrize(('height', 'width'), [(40, 56), (1, 1), (9, 300)])
def test_images_of_nothing_have_the_size_and_follow_from_the_seed(height, width):
    def some():
        generator = np.random.default_rng(4)
        return [make(height, width, generator)
                for make in dict.fromkeys(unfamiliar_images.made_up(1))]
    for image, again in zip(some(), some(), strict=True):
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8
        assert np.array_equal(image, again)
    image = np.zeros((height, width, 3), np.uint8)
    for each in unfamiliar_images.distorted(image, np.random.default_rng(0)):
        assert each.shape == image.shape
