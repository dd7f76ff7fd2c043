"""A deployed model on a CUDA device has the masks of the CPU, in every way that it may run."""

import gc
import logging
import math

import numpy as np
import pytest
from tiny_worlds import random_image, small_network
import torch
from torch import nn
from univseg_core.errors import UnivsegError
from univseg_core.inference import on_cuda
from univseg_core.inference.segmenter import Request, Segmenter
from univseg_core.machine.memory import is_out_of_memory, release_memory
from univseg_core.models.domain_evidence import DomainEvidence
from univseg_core.models.heads import LinearMap
from univseg_core.models.model_card import ModelCard

DEVICE = 'cuda'

SIZES = [(48, 64), (37, 50), (1, 1), (5, 90), (240, 320)]

EQUAL = {'fp32': 0.999, 'fp16': 0.99, 'bf16': 0.98}
"""The share of equal pixels; the networks are random, so that many classes are nearly alike."""


def segmenter(network, device=DEVICE, precision='fp32', **options):
    return Segmenter(network, ModelCard(), device=device, precision=precision, **options)


def equal_share(one, other, images):
    """Return the share of equal pixels of two models' masks, of all domains."""
    equal = total = 0
    for image in images:
        masks, others = one(image), other(image)
        for name, result in masks.items():
            equal += int((result.mask == others[name].mask).sum())
            total += result.mask.size
    return equal / total


@pytest.fixture
def network():
    return small_network(width=1 / 4)


def test_an_image_is_recognised_as_on_the_cpu(network):
    generator = np.random.default_rng(0)

    def some(*shape):
        return generator.normal(size=shape).astype(np.float32)
    channels = network.encoder.out_channels
    network.evidence = DomainEvidence(
        ('outdoor', 'indoor'), LinearMap(some(3, channels), some(3)),
        LinearMap(some(2, 12, 12), some(2, 12)), LinearMap(some(3, 12), some(3)), some(3))
    for size in SIZES:
        found, expected = (each.recognise(each.encode(random_image(*size)))
                           for each in (segmenter(network), segmenter(network, 'cpu')))
        assert found.probabilities == pytest.approx(expected.probabilities, abs=.01)
        assert found.unfamiliarity == pytest.approx(expected.unfamiliarity, rel=.01)


@pytest.fixture
def graphs(monkeypatch):
    """Record the pass of each size at once."""
    monkeypatch.setattr(on_cuda, 'EAGER_FRAMES', 0)


def is_recorded(model, height, width, count=1):
    return model._backend._run.size(count, height, width).replay is not None


@pytest.mark.parametrize('eager', [0, math.inf], ids=['graphs', 'eager'])
@pytest.mark.parametrize('precision', list(EQUAL))
def test_masks_are_those_of_the_cpu_in_float32(network, precision, eager, monkeypatch):
    monkeypatch.setattr(on_cuda, 'EAGER_FRAMES', eager)
    images = [random_image(*size) for size in SIZES]
    model = segmenter(network, precision=precision)
    assert model.precision == precision
    assert equal_share(model, segmenter(network, 'cpu'), images) >= EQUAL[precision]
    assert is_recorded(model, *SIZES[-1]) == (eager == 0)


@pytest.mark.parametrize('encoder', ['light', 'drn_d_22'])
def test_each_image_has_its_own_masks_when_a_graph_is_replayed(encoder, graphs):
    network = small_network(encoder=encoder, width=1 / 4)
    model, other = segmenter(network), segmenter(network, 'cpu')
    for turn in range(3):
        for size in SIZES[:3]:
            image = random_image(*size, seed=turn)
            for name, found in model(image, confidence=True).items():
                expected = other(image, [name], confidence=True)[name]
                assert (found.mask == expected.mask).mean() >= 0.999
                difference = found.confidence.astype(int) - expected.confidence
                assert np.quantile(abs(difference), 0.999) <= 1
    assert all(is_recorded(model, *size) for size in SIZES[:3])


def test_features_of_a_graph_are_those_of_a_pass_without(network, monkeypatch):
    image = random_image(48, 64)
    model = segmenter(network)
    found = []
    for frame in range(on_cuda.EAGER_FRAMES + 2):
        assert is_recorded(model, 48, 64) == (frame > on_cuda.EAGER_FRAMES)
        found.append(model.features(model.encode(image)))
    for features in found[1:]:
        assert np.linalg.norm(features - found[0]) <= 1e-5 * np.linalg.norm(found[0])


def test_one_encoder_pass_serves_all_domains(network, graphs):
    model, image = segmenter(network), random_image(48, 64)
    together = model(image)
    for name, expected in together.items():
        assert np.array_equal(model(image, [name])[name].mask, expected.mask)
    encoded = model.encode(image)
    for name, expected in together.items():
        assert np.array_equal(model.head_mask(encoded, name), expected.mask)


def test_masks_are_the_callers(network, graphs):
    """They lie in memory that the next frame does not take."""
    model, image = segmenter(network), random_image(48, 64)
    first = model(image)['indoor'].mask
    kept = first.copy()
    for seed in range(5):
        model(random_image(48, 64, seed=seed))
    assert np.array_equal(first, kept)


def test_each_image_of_a_batch_has_its_own_masks_when_a_graph_is_replayed(network, graphs):
    model, other = segmenter(network), segmenter(network, 'cpu')
    for turn in range(3):
        images = [random_image(48, 64, seed=3 * turn + i) for i in range(3)]
        made = model.segment_together([Request(image, ['indoor', 'outdoor']) for image in images])
        model(images[0])  # a single one between does not touch what is not made yet
        for image, segment in zip(images, made, strict=True):
            expected = other(image)
            for name, found in segment().items():
                assert (found.mask == expected[name].mask).mean() >= 0.999
    assert is_recorded(model, 48, 64, count=3)
    assert is_recorded(model, 48, 64)


def test_batches_are_measured_with_their_graphs(network):
    model = segmenter(network)
    times = model.measure_batches(2, 64)
    assert times.images == 2
    assert min(times.at_once, times.one_by_one) > 0
    assert is_recorded(model, 48, 64, count=2)
    assert is_recorded(model, 48, 64)


class Waiting(nn.Module):
    """An encoder that reads a value back in the midst of its pass."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.out_channels = encoder, encoder.out_channels

    def forward(self, images):
        return self.encoder(images) * (1 if images.sum().item() < math.inf else 0)


def test_an_encoder_that_waits_for_the_gpu_runs_without_graphs(network, graphs, caplog):
    expected = segmenter(network, 'cpu')
    network.encoder = Waiting(network.encoder)
    model = segmenter(network)
    stream = torch.cuda.current_stream()
    with caplog.at_level(logging.WARNING):
        share = equal_share(model, expected, [random_image(*size) for size in SIZES])
    assert share >= EQUAL['fp32']
    assert sum('cannot be recorded' in each for each in caplog.messages) == 1
    assert torch.cuda.current_stream() == stream


@pytest.mark.parametrize('eager', [0, math.inf], ids=['graphs', 'eager'])
def test_out_of_memory_is_known_and_a_smaller_image_goes_on(network, eager, monkeypatch):
    monkeypatch.setattr(on_cuda, 'EAGER_FRAMES', eager)
    model, small = segmenter(network), random_image(48, 64)
    expected = model(small)
    release_memory()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(
        (torch.cuda.memory_reserved() + 64 * 2 ** 20) / total)
    try:
        with pytest.raises((MemoryError, RuntimeError)) as found:
            model(random_image(2048, 2048))
        assert is_out_of_memory(found.value)
        del found
        release_memory()
        for name, result in model(small).items():
            assert np.array_equal(result.mask, expected[name].mask)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_model_with_graphs_leaves_no_memory_behind(network, graphs):
    def use():
        model = segmenter(network)
        for size in SIZES:
            model(random_image(*size))

    allocated = []
    for _ in range(3):  # libraries keep the workspaces of the first
        use()
        gc.collect()
        torch.cuda.synchronize()
        allocated.append(torch.cuda.memory_allocated())
    assert allocated[2] <= allocated[1] <= allocated[0]


def test_auto_takes_a_gpu_and_what_it_is_good_at(network):
    model = segmenter(network, 'auto', 'auto')
    assert model.device.startswith('cuda')
    assert model.precision in ('bf16', 'fp16', 'fp32')
    assert (model.precision == 'bf16') == (torch.cuda.get_device_capability() >= (8, 0))


def test_a_device_too_many_is_refused(network):
    with pytest.raises(UnivsegError, match="device 'cuda:99' is not available"):
        segmenter(network, 'cuda:99')


@pytest.mark.parametrize('target', ['onnx', 'tensorrt'])
def test_an_exported_file_has_the_masks_of_its_original(network, tmp_path, target, caplog):
    onnxruntime = pytest.importorskip('onnxruntime')
    from univseg_core.datasets.folders import Sample
    from univseg_core.exporting.export import export_model
    from univseg_core.inference.onnxruntime_gpu import CUDA, TENSORRT
    from univseg_core.models.model_file import save_model
    from univseg_core.pictures.images import write_png

    provider = {'onnx': CUDA, 'tensorrt': TENSORRT}[target]
    if provider not in onnxruntime.get_available_providers():
        pytest.skip(f'this ONNX Runtime has no {provider}')
    images = [random_image(48, 64, seed=seed) for seed in range(4)]
    for i, image in enumerate(images):
        write_png(tmp_path / 'images' / f'{i}.png', image)
    source, out = tmp_path / 'x.univseg', tmp_path / 'x.onnx'
    save_model(source, network, ModelCard())
    samples = [Sample(path) for path in sorted((tmp_path / 'images').iterdir())]
    export_model(network, ModelCard(), source, out, target=target, precision='fp32',
                 size=(48, 64), samples=dict.fromkeys(network.domains, samples))
    for turn in ('built', 'used'):
        with caplog.at_level(logging.INFO):
            model = Segmenter.load(out, device=DEVICE, backend='onnxruntime')
        assert model.device == 'cuda:0'
        # TF32, which ONNX Runtime and TensorRT take for float32, is as exact as fp16.
        assert equal_share(model, segmenter(network, 'cpu'), images) >= EQUAL['fp16']
        if target == 'tensorrt':
            assert ('the engines that are kept here are used' in caplog.text) == (turn == 'used')
            assert list(tmp_path.glob('x.onnx.engines/*/*.engine'))
