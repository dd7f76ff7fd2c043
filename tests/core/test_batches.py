"""Several images in one pass of the encoder: as one by one, and only where that is faster."""

import numpy as np
import pytest
from tiny_worlds import random_image, small_network
import torch
from univseg_core.domains import DomainError
from univseg_core.inference import batches
from univseg_core.inference.batches import BatchTimes, measure_batches
from univseg_core.inference.segmenter import Request, Segmenter
from univseg_core.inference.torch_backend import TorchBackend
from univseg_core.models.model_card import ModelCard


@pytest.fixture
def model():
    return Segmenter(small_network(width=1 / 4), ModelCard(), device='cpu', precision='fp32')


@pytest.mark.parametrize(('encoder', 'width'), [
    ('drn_d_22', 1 / 8), ('light', 1 / 4), ('efficientnet_lite0', 1)])
@pytest.mark.parametrize('size', [(48, 64), (37, 50), (1, 1)])
def test_features_of_several_images_are_those_of_each(encoder, width, size):
    backend = TorchBackend(small_network(encoder=encoder, width=width), 'cpu', 'fp32')
    images = np.stack([random_image(*size, seed=seed) for seed in range(3)])
    before = images.copy()
    found = backend.features_of_several(images)
    assert len(found) == 3
    for image, features in zip(images, found, strict=True):
        expected = backend.features(image.copy())
        assert features.dtype == np.float32
        assert features.shape == expected.shape
        assert np.abs(features - expected).max() <= 1e-4 * max(1, np.abs(expected).max())
    assert np.array_equal(images, before)


def test_each_image_of_several_has_its_own_masks(model):
    """Of other sizes and domains, though the network sees them at one size."""
    wanted = [Request(random_image(48, 64, seed=1), ['indoor'], threshold=0.2),
              Request(random_image(96, 128, seed=2), ['indoor', 'outdoor'], True,
                      inference_size=64),
              Request(random_image(48, 64, seed=3), ['outdoor'], ['outdoor'])]
    made = [segment() for segment in model.segment_together(wanted)]
    for request, found in zip(wanted, made, strict=True):
        expected = model(request.image, request.domains, confidence=request.confidence,
                         threshold=request.threshold, inference_size=request.inference_size)
        assert list(found) == list(expected) == request.domains
        for name in expected:
            assert np.mean(found[name].mask == expected[name].mask) > 0.999
            assert (found[name].confidence is None) == (expected[name].confidence is None)


def test_features_of_several_stay_until_the_last_has_its_logits(model):
    images = [random_image(48, 64, seed=seed) for seed in range(3)]
    encoded = model.encode_together(images, [None] * 3)
    logits = [model.logits(each, 'indoor') for each in encoded]
    for image, found in zip(images, logits, strict=True):
        np.testing.assert_allclose(found, model.logits(model.encode(image), 'indoor'), atol=1e-4)


def test_masks_that_were_not_asked_for_yet_outlast_further_images(model):
    images = [random_image(48, 64, seed=seed) for seed in range(3)]
    segment = model.segment_together([Request(image, ['indoor']) for image in images])
    for seed in range(10, 13):
        model(random_image(48, 64, seed=seed))
    for image, each in zip(images, segment, strict=True):
        assert np.mean(each()['indoor'].mask == model(image)['indoor'].mask) > 0.999


def test_what_cannot_go_together_is_refused(model):
    images = [random_image(48, 64), random_image(48, 72)]
    with pytest.raises(ValueError, match='different sizes, as the network sees them'):
        model.encode_together(images, [None, None])
    assert len(model.encode_together([images[0], random_image(96, 128)], [None, 64])) == 2
    with pytest.raises(DomainError, match='unknown domain'):
        model.segment_together([Request(images[0], ['indoor']), Request(images[0], ['attic'])])


class OneAtATime:
    """A backend that takes one image."""

    device, precision = 'cpu', 'fp32'

    def features(self, image):
        return np.zeros((3, 6, 8), np.float32)

    def linear(self, each):
        return each


def test_a_backend_that_takes_one_image_says_so(model):
    assert model.takes_batches
    model._backend = OneAtATime()
    assert not model.takes_batches
    assert model.measure_batches(4) == BatchTimes()
    assert BatchTimes().largest == 1
    assert str(BatchTimes()) == 'one by one'
    image = random_image(48, 64)
    with pytest.raises(ValueError, match='2 images at once: torch takes one'):
        model.encode_together([image, image], [None, None])


@pytest.fixture
def timed(monkeypatch):
    """Return a function that measures an encoder which takes that long for N images, in s."""
    now = [0.0]
    monkeypatch.setattr(batches.time, 'perf_counter', lambda: now[0])

    def measure(most, seconds):
        def encode(images):
            assert images.dtype == np.uint8
            assert images.shape[1:] == (6, 8, 3)
            seen.append(len(images))
            now[0] += seconds(len(images))

        seen = []
        return measure_batches(encode, most, (6, 8)), seen
    return measure


def test_a_batch_is_taken_where_it_is_faster_by_a_twentieth(timed):
    times, _ = timed(3, lambda count: 0.01 if count == 1 else 0.0284)
    assert times == BatchTimes(3, 28.4, 30.0)
    assert times.largest == 3
    assert str(times) == '3 at once (the encoder took 28.4 ms for 3 at once, 30.0 ms one by one)'
    times, _ = timed(3, lambda count: 0.01 if count == 1 else 0.0286)
    assert times.largest == 1
    assert str(times).startswith('one by one (the encoder took 28.6 ms for 3 at once, ')


def test_where_a_large_batch_is_slower_a_smaller_one_is_tried(timed):
    times, seen = timed(6, lambda count: 0.01 * count * (0.8 if count == 3 else 1))
    assert times.largest == times.images == 3
    assert {*seen} == {6, 3, 1}
    times, seen = timed(5, lambda count: 0.01 * count)
    assert times.largest == 1
    assert {*seen} == {5, 2, 1}


def test_measuring_a_slow_encoder_is_short(timed):
    _, seen = timed(2, lambda count: 5.0 * count)
    assert seen == [2, 1, 2, 1, 1]


def test_a_batch_that_memory_does_not_suffice_for_is_left_out(timed):
    def seconds(count):
        if count > 3:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return 0.01

    assert timed(8, seconds)[0].largest == 2
    assert timed(1, seconds)[0] == BatchTimes()

    def broken(count):
        raise RuntimeError('the device is gone')
    with pytest.raises(RuntimeError, match='gone'):
        timed(2, broken)


def test_an_encoder_of_torch_is_measured(model, monkeypatch):
    sizes = []
    features = model._backend.features_of_several
    monkeypatch.setattr(model._backend, 'features_of_several',
                        lambda images: sizes.append(images.shape) or features(images))
    times = model.measure_batches(2, 64)
    assert times.images == 2
    assert min(times.at_once, times.one_by_one) > 0
    assert {*sizes} == {(1, 48, 64, 3), (2, 48, 64, 3)}
