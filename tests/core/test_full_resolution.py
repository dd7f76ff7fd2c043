"""Masks at an image's own size are those of the upsampled logits, however they are cut up."""

import math
import tracemalloc

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from univseg_core.inference import full_resolution, full_resolution_torch
from univseg_core.inference.cell_weights import cell_weights, knots_between
from univseg_core.inference.linear_tops import between

# The sizes (height, width) at which the network saw an image, and of the image itself.
SIZES = {
    'as seen': ((48, 64), (48, 64)),
    'as seen, cells cut off': ((37, 50), (37, 50)),
    'a pixel': ((1, 1), (1, 1)),
    'a pixel made larger': ((1, 1), (5, 3)),
    'a row': ((1, 90), (1, 90)),
    'a column': ((77, 1), (77, 1)),
    'a row made longer': ((1, 40), (1, 333)),
    'a column made shorter': ((120, 1), (7, 1)),
    'larger by a whole number': ((24, 40), (72, 120)),
    'larger': ((27, 48), (113, 199)),
    'slightly larger': ((41, 63), (42, 64)),
    'slightly smaller': ((42, 64), (41, 63)),
    'smaller': ((120, 95), (43, 34)),
    'much smaller': ((200, 310), (3, 4)),
    'to a pixel': ((33, 50), (1, 1)),
    'narrower and higher': ((30, 61), (59, 17)),
    'more pixels between two centres of cells than a byte counts': ((18, 9), (680, 4)),
}


def on_cpu(logits, *sizes, **options):
    """Return what the way of CPUs finds, as tensors like the logits."""
    mask, probabilities = full_resolution.top_classes(logits.numpy(), *sizes, **options)
    return torch.from_numpy(mask), None if probabilities is None else torch.from_numpy(
        probabilities)


WAYS = {'of CPUs': on_cpu, 'of GPUs': full_resolution_torch.top_classes}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def top_classes(request):
    """Either of the two ways to find classes, on tensors."""
    return request.param


@pytest.fixture(params=['small parts', 'parts as they are'])
def _parts(request, monkeypatch):
    """Cut the small images of these tests into many parts, too."""
    if request.param == 'small parts':
        monkeypatch.setattr(full_resolution_torch, 'DEVICE_TILE', 2 ** 11)
        monkeypatch.setattr(full_resolution, 'BAND', 2 ** 9)
        monkeypatch.setattr(full_resolution, 'TILE', 2 ** 8)


def random_logits(classes, network_size, *, spread=5.0, seed=0, stride=8):
    """Return logits (C, h, w) as the network would give for an image of that size."""
    cells = [-(-side // stride) for side in network_size]
    return spread * torch.randn(classes, *cells, generator=torch.manual_seed(seed))


def upsampled(logits, network_size, size, stride=8):
    """Return all the logits (C, H, W) as float64, by what PyTorch offers for it."""
    full = F.interpolate(logits[None].double(), scale_factor=stride, mode='bilinear',
                         align_corners=False)
    full = full[:, :, :network_size[0], :network_size[1]]
    return F.interpolate(full, size, mode='bilinear', align_corners=False)[0]


def is_clear(full):
    """Return where (H, W) the two largest logits differ by more than rounding may change."""
    if len(full) == 1:
        return torch.ones(full.shape[1:], dtype=torch.bool)
    top = full.topk(2, 0).values
    return top[0] - top[1] > 1e-4


@pytest.mark.usefixtures('_parts')
@pytest.mark.parametrize(('classes', 'stride'), [(1, 8), (2, 8), (13, 8), (255, 8), (13, 4)])
@pytest.mark.parametrize(('network_size', 'size'), SIZES.values(), ids=SIZES)
def test_classes_and_probabilities_are_those_of_the_upsampled_logits(top_classes, network_size,
                                                                     size, classes, stride):
    logits = random_logits(classes, network_size, stride=stride)
    untouched = logits.clone()
    full = upsampled(logits, network_size, size, stride)
    clear = is_clear(full)
    mask, probabilities = top_classes(logits, network_size, size, stride, confidence=True)
    assert torch.equal(logits, untouched)
    assert mask.shape == probabilities.shape == size
    assert mask.dtype == probabilities.dtype == torch.uint8
    assert torch.equal(mask[clear].long(), full.argmax(0)[clear])
    assert clear.double().mean() > 0.99
    expected = 255 * full.softmax(0).amax(0)
    assert (probabilities - expected).abs().max() <= 0.501


@pytest.mark.parametrize('size', [(27, 48), (113, 199)])
def test_a_mask_does_not_depend_on_what_else_is_asked_for(top_classes, size):
    logits = random_logits(13, (27, 48), spread=0.1)
    mask, nothing = top_classes(logits, (27, 48), size, 8)
    assert nothing is None
    assert torch.equal(top_classes(logits, (27, 48), size, 8, confidence=True)[0], mask)
    assert torch.equal(top_classes(logits, (27, 48), size, 8, threshold=1e-9)[0], mask)


def test_the_first_of_equal_classes_is_taken(top_classes):
    mask, probabilities = top_classes(torch.zeros(4, 3, 3), (20, 20), (31, 17), 8,
                                      confidence=True)
    assert not mask.any()
    assert (probabilities == 64).all()


@pytest.mark.parametrize('size', [(37, 50), (113, 199), (20, 31)])
def test_the_first_of_equal_classes_is_taken_where_others_are_near(size):
    logits = random_logits(6, (37, 50)).repeat(2, 1, 1)
    mask, _ = on_cpu(logits, (37, 50), size, 8)
    assert mask.unique().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.usefixtures('_parts')
@pytest.mark.parametrize('threshold', [0.2, 0.5, 0.9])
def test_below_the_threshold_the_class_is_unknown(top_classes, threshold):
    logits, sizes = random_logits(5, (37, 50), spread=2), ((37, 50), (80, 91))
    probability = upsampled(logits, *sizes).softmax(0).amax(0)
    plain, plain_probabilities = top_classes(logits, *sizes, 8, confidence=True)
    mask, probabilities = top_classes(logits, *sizes, 8, confidence=True, threshold=threshold)
    assert torch.equal(probabilities, plain_probabilities)
    sure = probability >= threshold
    decided = (probability - threshold).abs() > 1e-6
    assert torch.equal(mask[decided & sure], plain[decided & sure])
    assert (mask[decided & ~sure] == 255).all()
    assert decided.double().mean() > 0.99
    assert torch.equal(top_classes(logits, *sizes, 8, threshold=threshold)[0], mask)
    assert sure.any()


def test_the_threshold_is_compared_before_a_probability_is_rounded_to_a_byte(top_classes):
    logits = torch.tensor([0.0, 0.002]).view(2, 1, 1)  # p = 0.5005, as a byte 128: 0.50196
    for threshold, expected in ((0.5004, 1), (0.5006, 255)):
        mask, probabilities = top_classes(logits, (1, 1), (1, 1), 8, confidence=True,
                                          threshold=threshold)
        assert (mask.item(), probabilities.item()) == (expected, 128)


def test_what_is_sure_passes_any_threshold(top_classes):
    mask, _ = top_classes(random_logits(1, (20, 30)), (20, 30), (40, 50), 8, threshold=1.0)
    assert not mask.any()


@pytest.mark.parametrize(('value', 'threshold'), [
    (math.nan, 0.0), (math.nan, 0.1), (math.inf, 0.1), (-math.inf, 0.1)])
def test_where_logits_are_not_finite_nothing_is_known(top_classes, value, threshold):
    mask, probabilities = top_classes(torch.full((3, 2, 2), value), (16, 16), (20, 20), 8,
                                      confidence=True, threshold=threshold)
    assert (mask == 255).all()
    assert not probabilities.any()


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_a_cell_that_is_not_finite_spoils_no_pixels_far_from_it(value):
    logits = random_logits(3, (8, 64))
    expected, _ = on_cpu(logits, (8, 64), (8, 64), 8)
    logits[1, 0, 4] = value
    assert torch.equal(on_cpu(logits, (8, 64), (8, 64), 8)[0],
                       on_cpu(logits, (8, 64), (8, 64), 8, confidence=True)[0])
    mask, probabilities = on_cpu(logits, (8, 64), (8, 64), 8, confidence=True)
    assert (mask[:, 28:44] == 255).all()
    assert not probabilities[:, 28:44].any()
    assert torch.equal(mask[:, :16], expected[:, :16])
    assert torch.equal(mask[:, 56:], expected[:, 56:])


SMOOTH = [((48, 64), (96, 128), 8), ((37, 50), (113, 199), 8), ((8, 8), (8, 8), 8),
          ((8, 8), (64, 64), 4), ((1, 64), (1, 64), 8), ((64, 1), (333, 3), 4),
          ((270, 480), (720, 1280), 4), ((270, 480), (720, 1280), 8), ((121, 67), (121, 67), 4),
          ((200, 310), (111, 93), 4), ((101, 103), (307, 211), 8), ((68, 120), (2160, 3840), 4)]


@pytest.mark.parametrize('classes', [2, 12])
@pytest.mark.parametrize(('network_size', 'size', 'stride'), SMOOTH)
def test_what_is_filled_is_what_would_be_computed(network_size, size, stride, classes):
    """Smooth logits make large areas of one class, as those of a trained network do."""
    logits = random_logits(classes, network_size, spread=20, stride=stride)
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 1.5) for plane in logits.numpy()])
    expected, _ = full_resolution_torch.top_classes(torch.from_numpy(smooth), network_size, size,
                                                    stride)
    mask, probabilities = full_resolution.top_classes(smooth, network_size, size, stride)
    assert probabilities is None
    differs = mask != expected.numpy()
    assert differs.mean() < 1e-3
    if differs.any():
        row, column = np.nonzero(differs)
        first, weights = (cell_weights(cells, seen, length, stride) for cells, seen, length in zip(
            smooth.shape[1:], network_size, size, strict=True))
        for y, x in zip(row, column, strict=True):
            above, left = first[0][y], weights[0][x]
            values = smooth[:, above:above + 3, left:left + 3].astype(float)
            values = (values * first[1][y][:values.shape[1], None]
                      * weights[1][x][:values.shape[2]]).sum((1, 2))
            assert values[mask[y, x]] > values.max() - 1e-4


@pytest.mark.parametrize('threshold', [0.0, 0.6, 0.99])
def test_probabilities_of_smooth_logits(threshold):
    """Where blocks agree, and where they do not; sides of blocks differ by a pixel."""
    logits = random_logits(12, (100, 120), spread=60, stride=4).numpy()
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 3) for plane in logits])
    arguments = (100, 120), (267, 319), 4
    mask, probabilities = full_resolution.top_classes(smooth, *arguments, confidence=True,
                                                      threshold=threshold)
    full = upsampled(torch.from_numpy(smooth), *arguments)
    probability, expected = (part.numpy() for part in full.softmax(0).max(0))
    assert abs(probabilities - 255 * probability).max() <= 0.501
    decided = is_clear(full).numpy() & (abs(probability - threshold) > 1e-5)
    expected = np.where(probability < threshold, 255, expected)
    np.testing.assert_array_equal(mask[decided], expected[decided])


@pytest.mark.parametrize('classes', [2, 7])
def test_probabilities_of_logits_whose_exponentials_no_float_holds(classes):
    """Between cells whose top classes differ by hundreds, both may be far below either's top."""
    logits = random_logits(classes, (37, 50), spread=300)
    full = upsampled(logits, (37, 50), (113, 199))
    mask, probabilities = on_cpu(logits, (37, 50), (113, 199), 8, confidence=True)
    probability, expected = full.softmax(0).max(0)
    assert (probabilities - 255 * probability).abs().max() <= 0.501 + 255 * 1e-5
    clear = is_clear(full)
    assert torch.equal(mask[clear].long(), expected[clear])


@pytest.mark.parametrize(('arguments', 'places', 'gap', 'share'), [
    # The network's pixels 1 and 2 lie on either side of a centre of two cells of four pixels.
    ((2, 8, 16, 4, 32), [-.5, 0, 1, 2, 5, 6, 7, 7.5],
     [0, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4, 5, 5, 6],
     [.5, .25, .75, .25, .75, .25 / 3, .25, 1.25 / 3, 1.75 / 3, .75, 2.75 / 3, .25, .75, .25, .75,
      .5]),
    # As many knots as that are not fewer than the pixels: each pixel is one.
    ((2, 8, 3, 4, 32), [5 / 6, 3.5, 37 / 6, 7], [0, 1, 2], [0, 0, 0]),
])
def test_knots(arguments, places, gap, share):
    cells, seen, length, stride, _ = arguments
    knots = knots_between(*arguments)
    np.testing.assert_array_equal(knots.gap, gap)
    np.testing.assert_allclose(knots.share, share, atol=1e-6)
    coordinate = (np.add(np.clip(places, 0, seen - 1), 0.5) / stride - 0.5).clip(0, cells - 1)
    dense = np.zeros((len(places), cells + 2))
    np.put_along_axis(dense, knots.cells[:, None] + np.arange(3), knots.weights, axis=1)
    if len(places) > length:
        np.testing.assert_allclose(dense[:, :cells] @ np.arange(cells), coordinate, atol=1e-6)
    its_first, its_weights = cell_weights(cells, seen, length, stride)
    pixels = np.zeros((length, cells + 2))
    np.put_along_axis(pixels, its_first[:, None] + np.arange(3), its_weights, axis=1)
    part = knots.share[:, None]
    np.testing.assert_allclose((1 - part) * dense[knots.gap] + part * dense[knots.gap + 1], pixels,
                               atol=1e-6)


@pytest.mark.parametrize('stride', [2, 3, 4, 8])
def test_there_are_at_most_so_many_pixels_from_knot_to_knot(stride):
    for length in range(1, 400):
        knots = knots_between(-(-16 // stride), 16, length, stride, 10)
        assert np.bincount(knots.gap).max() == len(knots.pixels) <= 10
        assert ((knots.share >= 0) & (knots.share <= 1)).all()


def test_what_is_on_top_between_two_places():
    # Three ways: 0 falls from 2 to 0 and 1 rises from 0 to 2; 1 rises to 6; 2 is 1.5 throughout.
    first = np.array([[2, 2, 2], [0, 0, 0], [0, 0, 1.5]], np.float32)
    second = np.array([[0, 0, 0], [2, 6, 2], [0, 0, 1.5]], np.float32)
    shares = np.array([[0.0, 0, 0], [.2, .2, .2], [.3, .3, .3], [.6, .6, .6], [.9, .9, .9]],
                      np.float32)
    tops = np.zeros(3, np.uint8), np.ones(3, np.uint8)
    found = between(first, second.copy(), *tops, shares, with_top=True, tile=1)
    assert found.number.tolist()[:2] == [3, 2]  # equal at 1/2, at 1/4
    assert found.third.tolist() == [2]
    assert found.classes[:, 0].tolist() == [0, 0, 2, 2, 1]
    np.testing.assert_allclose(found.top[:, 0], [2, 1.6, 1.4, 1.2, 1.8], rtol=1e-6)
    np.testing.assert_allclose(found.top[:, 1], [2, 1.6, 1.8, 3.6, 5.4], rtol=1e-6)
    np.testing.assert_allclose(found.top[:, 2], [2, 1.6, 1.5, 1.5, 1.8], rtol=1e-6)


def peak_memory(function):
    """Return how many bytes more than before NumPy held at most during a call."""
    function()
    tracemalloc.start()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize('confidence', [False, True])
@pytest.mark.parametrize('classes', [1, 13])
def test_memory_besides_the_results_does_not_grow_with_the_image(classes, confidence, monkeypatch):
    monkeypatch.setattr(full_resolution, 'BAND', 2 ** 14)
    monkeypatch.setattr(full_resolution, 'TILE', 2 ** 12)
    logits, network_size = random_logits(classes, (24, 32)).numpy(), (24, 32)
    extra = []
    for size in ((96, 128), (480, 640), (960, 1280)):
        results = (2 if confidence else 1) * size[0] * size[1]
        extra.append(peak_memory(
            lambda size=size: full_resolution.top_classes(
                logits, network_size, size, 8, confidence=confidence)) - results)
    assert max(extra) < 2 ** 19
    assert 4 * classes * size[0] * size[1] > 8 * 2 ** 19  # the logits, were they there at once


@pytest.mark.parametrize(('arguments', 'first', 'weights'), [
    ((2, 2, 2, 1), [0, 1], [[1, 0, 0], [1, 0, 0]]),
    ((2, 4, 4, 2), [0, 0, 0, 1], [[1, 0, 0], [.75, .25, 0], [.25, .75, 0], [1, 0, 0]]),
    # Half-way from the network's pixel 1, ¼ of the way from cell 0 to 1, to pixel 2, at ¾.
    ((2, 4, 1, 2), [0], [[.5, .5, 0]]),
    # Half-way from pixel 5, ⅞ of the way from cell 0 to 1, to pixel 6, ⅛ from cell 1 to 2.
    ((3, 12, 1, 4), [0], [[.0625, .875, .0625]]),
])
def test_the_weights_of_cells(arguments, first, weights):
    found = cell_weights(*arguments)
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_allclose(found[1], weights, atol=1e-7)


@pytest.mark.parametrize('size', [(1, 1), (1, 5000), (5000, 1), (30, 40), (4320, 7680)])
@pytest.mark.parametrize('pixels', [1, 1028, 20164, 2 ** 18])
def test_tiles_are_as_large_as_they_may_be(size, pixels):
    height, width = full_resolution_torch._tile_size(size, pixels)
    assert 1 <= height <= size[0]
    assert 1 <= width <= size[1]
    assert height * width <= pixels
    assert height * width > min(size[0] * size[1], pixels) / 2
    if pixels <= min(size) ** 2:
        assert height <= width <= height + 2
