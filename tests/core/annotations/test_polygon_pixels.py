"""Only the rectangle around a polygon is drawn, and of it what is near to the image."""

import numpy as np
from pycocotools import mask as coco
import pytest
from univseg_core.annotations.drawn import Drawn
from univseg_core.annotations.polygon_pixels import clipped
from univseg_core.annotations.regions import AnnotationError, Polygons, ring

HEIGHT, WIDTH = 36, 48


def of_the_whole_image(rings, height, width):
    """Return the pixels within some rings as pycocotools makes them."""
    parts = coco.frPyObjects([each.ravel().tolist() for each in rings], height, width)
    return coco.decode(coco.merge(parts)).astype(bool)


def test_pixels_are_those_of_the_whole_image():
    random = np.random.default_rng(3)
    filled = 0
    for _ in range(800):
        height, width = random.integers(1, 60, 2)
        rings = [random.uniform(-0.7, 1.7, 2) * (width, height)
                 + random.normal(0, 10 ** random.uniform(-0.5, 2), (random.integers(3, 9), 2))
                 for _ in range(random.integers(1, 4))]
        # Of whole numbers and tenths there are ties in rounding; all within one size outside.
        rings = [np.clip(np.round(each, random.integers(0, 3)), (-width, -height),
                         (2 * width, 2 * height)) for each in rings]
        expected = of_the_whole_image(rings, height, width)
        holes = [each / 2 for each in rings[1:]]
        if not expected.any():
            continue
        np.testing.assert_array_equal(Polygons(rings).mask(height, width), expected)
        if holes:
            expected = expected & ~of_the_whole_image(holes, height, width)
        np.testing.assert_array_equal(Polygons(rings, holes).mask(height, width), expected)
        filled += expected.any()
    assert filled > 300


@pytest.mark.parametrize('shape', [
    lambda corners: Polygons([corners]), Drawn, lambda corners: Drawn(corners, outline=False)])
@pytest.mark.parametrize('far', [10 * WIDTH, 1e6, 1e300])
def test_a_polygon_that_reaches_far_outside_keeps_its_slopes(shape, far):
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    for corners, expected in (
            ([(0, 0), (far, 0), (far, far / 2)], y < x / 2),
            ([(0, HEIGHT), (-far, HEIGHT - far), (far, HEIGHT - far)],  # crosses at (0, 36)
             (HEIGHT - y > np.abs(x)))):
        found = shape(ring(corners)).mask(HEIGHT, WIDTH)
        # Borders run through pixels: those may be on either side.
        assert (found != expected).sum() <= WIDTH + HEIGHT


def test_of_a_ring_what_is_near_is_left():
    near = ring([(1, 2), (-WIDTH, 5), (7, 2 * HEIGHT)])
    assert clipped(near, HEIGHT, WIDTH) is near
    assert clipped(near + 1000, HEIGHT, WIDTH).shape == (0, 2)
    cut = clipped(ring([(0, 0), (4 * WIDTH, 0), (4 * WIDTH, 8), (0, 8)]), HEIGHT, WIDTH)
    assert cut.tolist() == [[0, 0], [2 * WIDTH, 0], [2 * WIDTH, 8], [0, 8]]


def test_a_line_that_reaches_far_outside_keeps_its_slope():
    line = Drawn(np.array([(0., 0.), (4800., 3600.)]), 'line').mask(HEIGHT, WIDTH)
    near = Drawn(np.array([(0., 0.), (48., 36.)]), 'line').mask(HEIGHT, WIDTH)
    assert (line != near)[:30, :40].sum() <= 4
    back = Drawn(np.array([(0., 0.), (4800., 3600.), (4800., 0.), (0., 9000.)]), 'line')
    assert (back.mask(HEIGHT, WIDTH) == line).all()


@pytest.mark.parametrize('drawn', [
    Drawn(np.array([(90., 1.), (99., 1.), (99., 9.)])),
    Drawn(np.array([(90., 1.), (300., 9.)]), 'rectangle'),
    Drawn(np.array([(-9., -99.), (20., -50.)]), 'line'),
    Drawn(np.array([(-20., 9.), (-12., 9.)]), 'circle'),
    Drawn(np.array([(20., 99.)]), 'point')])
def test_a_figure_that_lies_outside_is_an_error(drawn):
    with pytest.raises(AnnotationError, match='lie outside of the image of 48×36'):
        drawn.mask(HEIGHT, WIDTH)
