"""Made colours: how far apart they are, by formulas of colour science written out here."""

from itertools import combinations

import numpy as np
import pytest
from univseg_core.domains import Domain
from univseg_core.domains.palettes import distinct_colours

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
LEAST = 12
"""The difference below which two colours count as alike here; 1 is just seen side by side."""

# Machado, Oliveira and Fernandes, 2009, at full severity: linear RGB as such eyes see it.
EYES = {
    'all cones': np.eye(3),
    'no long ones': [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                     [-0.003882, -0.048116, 1.051998]],
    'no middle ones': [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                       [-0.011820, 0.042940, 0.968881]],
    'no short ones': [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                      [0.004733, 0.691367, 0.303900]],
}

# Viénot, Brettel and Mollon, 1999, and its kin for the third kind: the answer of the missing cones
# is made of those of the others.
TO_CONES = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714],
                     [0.0299566, 0.184309, 1.46709]])
EYES |= {f'{name}, by the others': np.linalg.inv(TO_CONES) @ rest @ TO_CONES for name, rest in {
    'no long ones': [[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]],
    'no middle ones': [[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]],
    'no short ones': [[1, 0, 0], [0, 1, 0], [-0.395913, 0.801109, 0]]}.items()}


def cielab(colour, eyes='all cones'):
    """Return L*, a* and b* of an sRGB colour (0..255) under D65."""
    values = np.array(colour) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(EYES[eyes]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                       [0.0193339, 0.1191920, 0.9503041]])
    x, y, z = (np.cbrt(v) if v > (6 / 29) ** 3 else v / (3 * (6 / 29) ** 2) + 4 / 29
               for v in to_xyz @ linear / to_xyz.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(one, other):
    """Return the difference of two colours in CIELAB by CIEDE2000 (Sharma et al., 2005)."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    c = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1 + 0.5 * (1 - np.sqrt(c ** 7 / (c ** 7 + 25 ** 7)))
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, stretch * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0
    hue = h1 + turn / 2 if c1 * c2 else h1 + h2
    light, c = (l1 + l2) / 2, (c1 + c2) / 2
    cosines = [weight * np.cos(np.radians(k * hue + phase)) for weight, k, phase in (
        (-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))]
    dl = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    dc = (c2 - c1) / (1 + 0.045 * c)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * c * (1 + sum(cosines)))
    rotation = -2 * np.sqrt(c ** 7 / (c ** 7 + 25 ** 7)) * np.sin(
        np.radians(60 * np.exp(-((hue % 360 - 275) / 25) ** 2)))
    return np.sqrt(dl ** 2 + dc ** 2 + dh ** 2 + rotation * dc * dh)


def least_difference(colours, eyes='all cones'):
    """Return the smallest of both differences, CIE76 and CIEDE2000, of any two colours."""
    labs = [cielab(colour, eyes) for colour in colours]
    return min(min(np.linalg.norm(a - b), ciede2000(a, b)) for a, b in combinations(labs, 2))


@pytest.mark.parametrize(('one', 'other', 'expected'), [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, -1, 2), (50, 0, 0), 2.3669),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
])
def test_the_difference_is_that_of_the_published_examples(one, other, expected):
    assert ciede2000(one, other) == pytest.approx(expected, abs=1e-4)
    assert ciede2000(other, one) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize('count', [13, 40])
@pytest.mark.parametrize('name', ['', 'street'])
def test_up_to_forty_classes_differ_from_each_other_and_from_void(count, name):
    assert least_difference([BLACK, WHITE, *distinct_colours(count, name)]) >= LEAST


@pytest.mark.parametrize('eyes', EYES)
@pytest.mark.parametrize('name', ['', 'street'])
def test_up_to_twelve_classes_differ_for_all_eyes(eyes, name):
    assert least_difference([BLACK, WHITE, *distinct_colours(12, name)], eyes) >= LEAST
    assert set(distinct_colours(5, name)) < set(distinct_colours(12, name))


@pytest.mark.parametrize('count', [1, 2, 12, 13, 40, 41, 255])
def test_made_colours_are_distinct_and_valid(count):
    colours = distinct_colours(count)
    assert len(set(colours)) == len(colours) == count
    assert all(0 <= value <= 255 for colour in colours for value in colour)
    assert colours == distinct_colours(count)
    assert BLACK not in colours


def test_two_domains_have_different_colours_for_their_classes():
    classes = [f'class {i}' for i in range(12)]
    street, room = Domain.create('street', classes), Domain.create('room', classes)
    assert street.palette == tuple(distinct_colours(12, 'street'))
    assert sum(a == b for a, b in zip(street.palette, room.palette, strict=True)) < 4
