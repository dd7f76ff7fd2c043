"""Masks at an image's own size are those of the upsampled logits, however they are cut up."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.profiler import profile, ProfilerActivity
from univseg_core.inference import full_resolution
from univseg_core.inference.full_resolution import top_classes

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
}


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


@pytest.fixture(params=[2 ** 11, full_resolution.CPU_TILE], ids=['many tiles', 'one tile'])
def _tile(request, monkeypatch):
    """Cut the small images of these tests into many tiles, too."""
    monkeypatch.setattr(full_resolution, 'CPU_TILE', request.param)


@pytest.mark.usefixtures('_tile')
@pytest.mark.parametrize(('classes', 'stride'), [(1, 8), (2, 8), (13, 8), (255, 8), (13, 4)])
@pytest.mark.parametrize(('network_size', 'size'), SIZES.values(), ids=SIZES)
def test_classes_and_probabilities_are_those_of_the_upsampled_logits(network_size, size, classes,
                                                                     stride):
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
def test_a_mask_does_not_depend_on_what_else_is_asked_for(size):
    logits = random_logits(13, (27, 48), spread=0.1)
    mask, nothing = top_classes(logits, (27, 48), size, 8)
    assert nothing is None
    assert torch.equal(top_classes(logits, (27, 48), size, 8, confidence=True)[0], mask)
    assert torch.equal(top_classes(logits, (27, 48), size, 8, threshold=1e-9)[0], mask)


def test_the_first_of_equal_classes_is_taken():
    mask, probabilities = top_classes(torch.zeros(4, 3, 3), (20, 20), (31, 17), 8,
                                      confidence=True)
    assert not mask.any()
    assert (probabilities == 64).all()


@pytest.mark.usefixtures('_tile')
@pytest.mark.parametrize('threshold', [0.2, 0.5, 0.9])
def test_below_the_threshold_the_class_is_unknown(threshold):
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


def test_the_threshold_is_compared_before_a_probability_is_rounded_to_a_byte():
    logits = torch.tensor([0.0, 0.002]).view(2, 1, 1)  # p = 0.5005, as a byte 128: 0.50196
    for threshold, expected in ((0.5004, 1), (0.5006, 255)):
        mask, probabilities = top_classes(logits, (1, 1), (1, 1), 8, confidence=True,
                                          threshold=threshold)
        assert (mask.item(), probabilities.item()) == (expected, 128)


def test_what_is_sure_passes_any_threshold():
    mask, _ = top_classes(random_logits(1, (20, 30)), (20, 30), (40, 50), 8, threshold=1.0)
    assert not mask.any()


@pytest.mark.parametrize(('options', 'expected'), [
    ({}, False), ({'threshold': 0.0}, False), ({'threshold': 0.1}, True),
    ({'confidence': True}, True)])
def test_probabilities_are_computed_only_where_they_are_needed(options, expected):
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        top_classes(random_logits(3, (20, 30)), (20, 30), (20, 30), 8, **options)
    called = {event.key for event in profiled.key_averages()}
    assert 'aten::amax' in called
    assert ('aten::_softmax' in called) == expected


@pytest.mark.parametrize(('value', 'threshold'), [
    (math.nan, 0.0), (math.nan, 0.1), (math.inf, 0.1), (-math.inf, 0.1)])
def test_where_logits_are_not_finite_nothing_is_known(value, threshold):
    mask, probabilities = top_classes(torch.full((3, 2, 2), value), (16, 16), (20, 20), 8,
                                      confidence=True, threshold=threshold)
    assert (mask == 255).all()
    assert not probabilities.any()


def peak_memory(function):
    """Return how many bytes more than before PyTorch held at most during a call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == '[memory]']
    held = np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())])
    return held.max()


@pytest.mark.parametrize('confidence', [False, True])
@pytest.mark.parametrize('classes', [1, 13])
def test_memory_besides_the_results_does_not_grow_with_the_image(classes, confidence, monkeypatch):
    monkeypatch.setattr(full_resolution, 'CPU_TILE', 2 ** 12)
    tile = 4 * 2 ** 12 * torch.get_num_threads()
    logits, network_size = random_logits(classes, (24, 32)), (24, 32)
    for size in ((96, 128), (192, 256), (120, 1000)):
        results = (2 if confidence else 1) * size[0] * size[1]
        held = peak_memory(
            lambda size=size: top_classes(logits, network_size, size, 8,
                                          confidence=confidence))
        assert results < held <= results + 8 * tile + 4 * logits.nbytes
    assert 4 * classes * size[0] * size[1] > 24 * tile  # the logits that are never there at once


@pytest.mark.parametrize('size', [(1, 1), (1, 5000), (5000, 1), (30, 40), (4320, 7680)])
@pytest.mark.parametrize('pixels', [1, 1028, 20164, 2 ** 18])
def test_tiles_are_as_large_as_they_may_be(size, pixels):
    height, width = full_resolution._tile_size(size, pixels)
    assert 1 <= height <= size[0]
    assert 1 <= width <= size[1]
    assert height * width <= pixels
    assert height * width > min(size[0] * size[1], pixels) / 2
    if pixels <= min(size) ** 2:
        assert height <= width <= height + 2
