"""Augmentation: image and label stay one picture, and nothing is invented."""

import numpy as np
import pytest
from tiny_worlds import random_image
from univseg_core.batches.transforms import Augmentation, jitter_colour, PADDING_COLOUR

VOID = 255
SEEDS = range(25)


def ramp(height=120, width=200):
    """Return an image whose red is the column and whose green is the row."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([x, y, np.zeros_like(x)], axis=-1)


def blocks(seed, height=120, width=160, side=20, classes=6):
    """Return an image and label of blocks in which the class decides the colour."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, classes, (height // side, width // side)).astype(np.uint8)
    label = label.repeat(side, 0).repeat(side, 1)
    colours = generator.permutation(256)[:3 * classes].reshape(classes, 3).astype(np.uint8)
    return colours[label], label, colours


def inside(label):
    """Return which pixels' 5×5 neighbourhoods are of one class."""
    padded = np.pad(label.astype(int), 2, mode='edge')
    height, width = label.shape
    around = [padded[y:y + height, x:x + width] for y in range(5) for x in range(5)]
    return (np.stack(around) == label).all(0)


@pytest.mark.parametrize('seed', SEEDS)
def test_away_from_edges_every_pixel_keeps_its_classes_colour(seed):
    image, label, colours = blocks(seed)
    crop, target = Augmentation(64, (0.5, 2), flip=True)(
        image, label, np.random.default_rng(seed))
    sure = inside(target) & (target != VOID)
    assert sure.mean() > 0.2
    assert np.array_equal(crop[sure], colours[target[sure]])


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('seed', SEEDS)
def test_image_and_label_are_aligned_to_a_pixel(seed, axis):
    """Where colours and label both say the place, they differ by no more than rounding."""
    image = ramp()
    crop, target = Augmentation(48, (0.4, 2.5), flip=True)(
        image, image[..., axis].copy(), np.random.default_rng(seed))
    filled = np.argwhere(target != VOID)
    (top, left), (bottom, right) = filled.min(0), filled.max(0)
    inner = np.s_[top + 1:bottom, left + 1:right]
    assert np.abs(crop[inner][..., axis].astype(int) - target[inner]).max() <= 1


@pytest.mark.parametrize('seed', SEEDS)
def test_without_scaling_the_crop_is_a_piece_of_the_original(seed):
    image = ramp(50, 70)
    label = image[..., 0] ^ image[..., 1]
    crop, target = Augmentation(32)(image, label, np.random.default_rng(seed))
    left, top = crop[0, 0, :2].astype(int)
    window = np.s_[top:top + 32, left:left + 32]
    assert np.array_equal(crop, image[window])
    assert np.array_equal(target, label[window])


def test_every_place_is_cropped():
    image, generator = ramp(35, 34), np.random.default_rng(0)
    corners = {tuple(Augmentation(32)(image, image[..., 0], generator)[0][0, 0, :2].tolist())
               for _ in range(200)}
    assert corners == {(left, top) for left in range(3) for top in range(4)}


def test_the_scale_fills_its_range():
    image, generator = ramp(240, 240), np.random.default_rng(0)
    scales = []
    for _ in range(100):
        crop, _ = Augmentation(96, (0.75, 1.5))(image, image[..., 0], generator)
        row = crop[48, 4:-4, 0].astype(float)
        scales.append((len(row) - 1) / (row[-1] - row[0]))
    assert 0.72 < min(scales) < 0.85
    assert 1.4 < max(scales) < 1.55


def test_a_large_image_needs_no_padding():
    image, label = random_image(200, 300), np.zeros((200, 300), np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(100):
        _, target = Augmentation(48, (0.75, 1.5))(image, label, generator)
        assert not target.any()


@pytest.mark.parametrize(('height', 'width'), [(20, 30), (20, 100), (100, 30)])
def test_what_a_small_image_leaves_is_padding(height, width):
    image, label = random_image(height, width), np.ones((height, width), np.uint8)
    crop, target = Augmentation(48)(image, label, np.random.default_rng(0))
    bottom, right = min(height, 48), min(width, 48)
    assert crop.shape == (48, 48, 3)
    assert (target[:bottom, :right] == 1).all()
    outside = np.ones((48, 48), bool)
    outside[:bottom, :right] = False
    assert (target[outside] == VOID).all()
    assert (crop[outside] == PADDING_COLOUR).all()


def test_half_of_the_crops_are_mirrored():
    image, generator = ramp(32, 32), np.random.default_rng(0)
    label = image[..., 0].copy()
    mirrored = 0
    for _ in range(200):
        crop, target = Augmentation(32, flip=True)(image, label, generator)
        is_mirrored = bool(crop[0, 0, 0] > crop[0, -1, 0])
        assert np.array_equal(crop, image[:, ::-1] if is_mirrored else image)
        assert np.array_equal(target, label[:, ::-1] if is_mirrored else label)
        mirrored += is_mirrored
    assert 70 < mirrored < 130


@pytest.mark.parametrize('seed', SEEDS)
def test_label_values_are_never_invented(seed):
    generator = np.random.default_rng(seed)
    label = generator.choice([0, 7, 254], (60, 80)).astype(np.uint8)
    _, target = Augmentation(64, (0.3, 3), flip=True, colour=0.5)(
        random_image(60, 80), label, generator)
    assert set(np.unique(target)) <= {0, 7, 254, VOID}


def test_equal_generators_give_equal_crops_and_the_input_stays():
    image, label, _ = blocks(0)
    copies = image.copy(), label.copy()
    augmentation = Augmentation(64, (0.5, 2), flip=True, colour=0.4)
    first, again, other = (augmentation(image, label, np.random.default_rng(seed))
                           for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(image, copies[0])
    assert np.array_equal(label, copies[1])


def test_crops_are_whole_blocks_of_memory():
    image, label, _ = blocks(0)
    for seed in SEEDS:
        crop, target = Augmentation(64, flip=True)(image, label, np.random.default_rng(seed))
        assert crop.flags.c_contiguous
        assert target.flags.c_contiguous
        assert crop.dtype == target.dtype == np.uint8


def test_colour_of_no_strength_changes_nothing():
    image = random_image(20, 30)
    assert np.array_equal(jitter_colour(image, 0, np.random.default_rng(0)), image)


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('strength', [0.1, 0.4, 0.9])
def test_colours_change_as_the_formula_says(strength, seed):
    """Saturation mixes a pixel with its grey, contrast with the mean grey, brightness scales."""
    image = random_image(20, 30, seed)
    changed = jitter_colour(image, strength, np.random.default_rng(seed))
    brightness, contrast, saturation = np.random.default_rng(seed).uniform(
        1 - strength, 1 + strength, 3)
    rgb = image.astype(float)
    grey = (rgb @ [0.299, 0.587, 0.114])[..., None]
    expected = saturation * rgb + (1 - saturation) * grey
    expected = contrast * expected + (1 - contrast) * grey.mean()
    expected = np.clip(brightness * expected, 0, 255)
    assert changed.dtype == np.uint8
    assert np.abs(changed - expected).max() <= 1  # OpenCV computes it in fixed point


def test_colour_leaves_the_label_alone():
    image, label, _ = blocks(0)
    plain, jittered = (Augmentation(64, (0.5, 2), flip=True, colour=colour)(
        image, label, np.random.default_rng(5)) for colour in (0, 0.4))
    assert np.array_equal(plain[1], jittered[1])
    assert not np.array_equal(plain[0], jittered[0])
