"""Pictures for eyes: their sizes, and the few pixels that say something."""

import numpy as np
import pytest
from tiny_worlds import COLOURS, draw, HEIGHT, OUTDOOR, random_image, small_network, WIDTH
from univseg_core.data.folders import Sample
from univseg_core.domains import Domain
from univseg_core.figures import legend, overlay, panel, validation_panel, with_legend
from univseg_core.images import write_png
from univseg_core.inference import Segmenter
from univseg_core.models.model_file import ModelCard


def test_an_overlay_tints_by_class_and_leaves_the_unknown():
    domain = Domain.create('a', ['x', 'y'], [(200, 0, 100), (0, 50, 250)])
    image = np.full((1, 3, 3), 100, np.uint8)
    picture = overlay(image, np.array([[0, 1, 255]], np.uint8), domain, opacity=0.25)
    assert picture.dtype == np.uint8
    assert np.abs(picture[0] - np.array([[125, 75, 100], [75, 88, 138], [100] * 3])).max() <= 1
    assert picture[0, 2].tolist() == [100] * 3


@pytest.mark.parametrize('classes', [1, 3, 40])
@pytest.mark.parametrize('width', [60, 320, 1000])
def test_a_legend_shows_every_colour(classes, width):
    domain = Domain.create('a', [f'class {i}' for i in range(classes)])
    strip = legend(domain, width)
    assert strip.shape[1:] == (width, 3)
    colours = {tuple(pixel) for pixel in strip.reshape(-1, 3).tolist()}
    assert set(domain.palette) <= colours


def test_a_legend_goes_below_the_picture():
    picture = random_image(50, 200)
    both = with_legend(picture, OUTDOOR)
    assert np.array_equal(both[:50], picture)
    assert np.array_equal(both[50:], legend(OUTDOOR, 200))


def test_a_panel_has_its_pictures_in_rows():
    rows = [[random_image(30, 40, 2 * row + column) for column in (0, 1)] for row in range(3)]
    picture = panel(rows, ['left', 'right'], OUTDOOR, width=40)
    assert picture.shape[1] == 2 * 44
    assert np.array_equal(picture[26 + 4:26 + 34, 4:44], rows[0][0])
    assert np.array_equal(picture[26 + 38:26 + 68, 48:88], rows[1][1])


@pytest.mark.parametrize(('available', 'shown'), [
    (8, [0, 2, 4, 6]), (5, [0, 1, 2, 3]), (4, [0, 1, 2, 3]), (2, [0, 1]), (1, [0])])
def test_a_validation_panel_shows_evenly_spaced_images_once(tmp_path, available, shown):
    generator = np.random.default_rng(0)
    samples, images = [], []
    for i in range(available):
        image, label = draw(COLOURS['outdoor'], generator)
        samples.append(Sample(tmp_path / f'{i}.png', tmp_path / f'{i}_label.png'))
        write_png(samples[-1].image, image)
        write_png(samples[-1].label, label)
        images.append(np.kron(image, np.ones((5, 5, 1), np.uint8)))
    segmenter = Segmenter(small_network(), ModelCard(), device='cpu', precision='fp32')
    picture = validation_panel(segmenter, OUTDOOR, samples)
    assert 5 * WIDTH == 320
    cells = [picture[top:top + 5 * HEIGHT, 4:324]
             for top in (30 + row * (5 * HEIGHT + 4) for row in range(len(shown)))]
    for cell, index in zip(cells, shown, strict=True):
        assert np.array_equal(cell, images[index])
    assert len(picture) == 26 + len(shown) * (5 * HEIGHT + 4) + len(legend(OUTDOOR, 3 * 324))
