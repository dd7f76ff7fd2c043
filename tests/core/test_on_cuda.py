"""
Which passes become CUDA graphs, and what follows where one cannot: all but the recording itself.

Pinned memory, events and the recording are stand-ins here; tests/gpu tries the real ones.
"""

import logging

import pytest
from tiny_worlds import small_network
import torch
from univseg_core.errors import UnivsegError
from univseg_core.inference import on_cuda, torch_backend
from univseg_core.inference.on_cuda import EAGER_FRAMES, GraphedPass, KEPT_SIZES
from univseg_core.inference.torch_backend import choose_precision, TorchBackend


class Event:
    """An event that is always past."""

    def record(self, stream):
        pass

    def synchronize(self):
        pass


class Recording:
    """Passes that are replayed by running them, into one tensor as a graph does; or errors."""

    def __init__(self):
        self.sizes, self.error = [], None

    def __call__(self, run, image):
        self.sizes.append(tuple(image.shape[:3]))
        if self.error is not None:
            raise self.error
        result = run(image)
        return lambda: result.copy_(run(image))


@pytest.fixture
def recording(monkeypatch):
    """Return what records passes on this CPU, as if it were a GPU."""
    recording = Recording()
    monkeypatch.setattr(on_cuda, 'pinned', lambda like: torch.empty(like.shape, dtype=like.dtype))
    monkeypatch.setattr(on_cuda, 'record', recording)
    monkeypatch.setattr(torch.cuda, 'Event', Event)
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: None)
    return recording


def doubled():
    """Return a pass that doubles its image, and a list that counts how often it ran."""
    ran = []

    def run(image):
        ran.append(image.shape)
        return 2 * image.float()
    return GraphedPass(run, torch.device('cpu')), ran


def image(height=4, width=6, value=1, count=1):
    return torch.full((count, height, width, 3), value, dtype=torch.uint8)


def test_a_size_is_recorded_once_it_has_come_often(recording):
    run, _ = doubled()
    for value in range(EAGER_FRAMES + 4):
        assert recording.sizes == [(1, 4, 6)] * (value > EAGER_FRAMES)
        assert torch.equal(run(image(value=value)), torch.full((1, 4, 6, 3), 2.0 * value))


def test_a_replayed_result_lies_where_the_last_one_did(recording):
    run, _ = doubled()
    for _ in range(EAGER_FRAMES + 1):
        first = run(image())
    assert run(image(value=7)) is first
    assert (first == 14).all()


def test_an_image_is_the_callers_again_at_once(recording):
    run, _ = doubled()
    given = image(value=3)
    result = run(given)
    given.fill_(9)
    assert (result == 6).all()
    assert (given == 9).all()


def test_sizes_that_come_seldom_are_not_recorded(recording):
    run, _ = doubled()
    for width in range(1, 40):
        assert run(image(width=width)).shape == (1, 4, width, 3)
    assert recording.sizes == []


def test_the_latest_sizes_stay_recorded(recording):
    run, _ = doubled()
    sizes = list(range(1, KEPT_SIZES + 2))
    for width in sizes:
        for _ in range(EAGER_FRAMES + 1):
            run(image(width=width))
    assert recording.sizes == [(1, 4, width) for width in sizes]
    for width in sizes[1:]:
        run(image(width=width))
    assert len(recording.sizes) == len(sizes)
    for _ in range(EAGER_FRAMES + 1):
        run(image(width=sizes[0]))  # the first was given up
    assert recording.sizes == [(1, 4, width) for width in [*sizes, sizes[0]]]


def test_batches_leave_single_images_and_each_other_their_graphs(recording):
    run, _ = doubled()
    counts = list(range(1, KEPT_SIZES + 3))
    for _ in range(EAGER_FRAMES + 1):
        for count in counts:
            result = run(image(value=count, count=count))
            assert torch.equal(result, torch.full((count, 4, 6, 3), 2.0 * count))
    assert recording.sizes == [(count, 4, 6) for count in counts]
    for count in counts:
        assert (run(image(value=9, count=count)) == 18).all()
    assert len(recording.sizes) == len(counts)


def test_what_cannot_be_recorded_runs_as_it_is_and_is_told_once(recording, caplog):
    recording.error = RuntimeError('operation not permitted when stream is capturing\nmore')
    run, ran = doubled()
    with caplog.at_level(logging.WARNING):
        for width in (6, 8):
            for _ in range(EAGER_FRAMES + 3):
                assert (run(image(width=width)) == 2).all()
    assert recording.sizes == [(1, 4, 6)]
    assert len(ran) == 2 * (EAGER_FRAMES + 3)
    told, = caplog.messages
    assert 'cannot be recorded as a CUDA graph' in told
    assert told.endswith('operation not permitted when stream is capturing')


def test_where_memory_runs_out_while_recording_passes_run_as_they_are(recording, caplog):
    recording.error = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')
    run, _ = doubled()
    for _ in range(EAGER_FRAMES + 2):
        assert (run(image()) == 2).all()
    told, = caplog.messages
    assert told.endswith('Tried to allocate 2.00 GiB')
    assert len(recording.sizes) == 1


@pytest.mark.parametrize('waits', [
    lambda x: x * x.sum().item(), lambda x: x if x.sum() > 0 else -x, lambda x: int(x.max())],
    ids=['item', 'if', 'int'])
def test_a_pass_that_waits_for_its_device_is_found(waits):
    with torch.inference_mode():
        image = torch.ones(3)
        with pytest.raises(RuntimeError, match=r'_local_scalar_dense.* waits for cpu'):
            on_cuda.check(waits, image)
        with on_cuda.NoWaiting(torch.device('cuda:0')):  # nothing of a GPU is read
            waits(image)


def test_what_leaves_its_device_is_found():
    with pytest.raises(RuntimeError, match=r'_to_copy.* waits for cpu'):
        on_cuda.check(lambda image: image.to('meta'), torch.ones(3))


@pytest.mark.parametrize('encoder', ['light', 'drn_d_22', 'efficientnet_lite0'])
def test_our_encoders_wait_for_nothing(encoder):
    network = small_network(encoder=encoder, width=1 if 'lite' in encoder else 1 / 8)
    shapes = []
    with torch.inference_mode():
        image = torch.zeros(1, 3, 40, 56, dtype=torch.uint8)
        on_cuda.check(lambda image: shapes.append(network.features(image).shape[2:]), image)
    assert shapes == [(5, 7)]


@pytest.mark.parametrize('before', [False, True])
def test_algorithms_are_timed_in_a_block_alone(before, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', before)
    with pytest.raises(ZeroDivisionError), on_cuda.fastest_algorithms():
        assert torch.backends.cudnn.benchmark
        raise ZeroDivisionError
    assert torch.backends.cudnn.benchmark is before


@pytest.mark.parametrize(('capability', 'expected'), [
    ((9, 0), 'bf16'), ((8, 7), 'bf16'), ((7, 5), 'fp16'), ((7, 2), 'fp16'), ((6, 1), 'fp32')])
def test_auto_is_what_a_gpu_is_good_at(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    assert choose_precision(torch.device('cuda:0'), 'auto') == expected
    for precision in ('fp32', 'bf16', 'fp16'):
        assert choose_precision(torch.device('cuda:0'), precision) == precision


@pytest.mark.parametrize(('good', 'expected'), [(True, 'bf16'), (False, 'fp32')])
def test_auto_is_what_a_cpu_is_good_at(monkeypatch, good, expected):
    monkeypatch.setattr(torch_backend, 'is_good_at_bf16', lambda: good)
    assert choose_precision(torch.device('cpu'), 'auto') == expected


@pytest.mark.parametrize(('precision', 'message'), [
    ('fp16', "^precision 'fp16' is for GPUs: a CPU computes in fp32 or bf16$"),
    ('int8', "^precision 'int8': expected one of auto, fp32, bf16, fp16; `univseg export --prec"),
    ('fp8', "^precision 'fp8': expected one of auto, fp32, bf16, fp16$")])
def test_precisions_that_a_cpu_lacks_are_refused(precision, message):
    with pytest.raises(UnivsegError, match=message):
        choose_precision(torch.device('cpu'), precision)


def test_a_network_that_fp16_does_not_hold_is_refused(monkeypatch):
    """Rather than masks of nothing but 255; a CPU computes it, more slowly, to try it here."""
    monkeypatch.setattr(torch_backend, 'choose_precision', lambda device, precision: 'fp16')
    network = small_network()
    assert TorchBackend(network, 'cpu').precision == 'fp16'
    with torch.no_grad():
        for parameter in network.encoder.parameters():
            parameter.mul_(30)
    with pytest.raises(UnivsegError, match=r'^precision fp16: features of this drn_d_22 go beyo'):
        TorchBackend(network, 'cpu')
