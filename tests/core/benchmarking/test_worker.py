"""What the processes of a benchmark measure: frames, the ceiling; operations of a network."""

import sys

import numpy as np
import pytest
from torch import nn
from univseg_core.benchmarking import ceiling, frames
from univseg_core.benchmarking.operations import operations_of
from univseg_core.benchmarking.processes import Worker, WorkerError
from univseg_core.inference.backends import installed
from univseg_core.models.exported_file import load_exported
from univseg_core.models.model_file import load_model

SIZE = (24, 40)


def test_operations_of_a_network_in_onnx(exported):
    pytest.importorskip('onnxruntime')
    model, _ = load_exported(exported())
    # 3·5 cells: 4 features of 3·8·8 values, then of 3·3 each; the head is no part of the encoder.
    assert operations_of(model, SIZE) == 2 * 15 * (4 * 3 * 64 + 4 * 9)
    assert operations_of(model, (25, 40)) == 2 * 20 * (4 * 3 * 64 + 4 * 9)


def test_operations_of_a_network_of_torch(model_path):
    model, _ = load_model(model_path)
    model.encoder = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 4, 3, padding=1, groups=4))
    assert operations_of(model, SIZE) == 2 * 15 * (4 * 3 * 64 + 4 * 9)


def test_operations_that_cannot_be_told(exported, monkeypatch):
    model, _ = load_exported(exported())
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert operations_of(model, SIZE) is None


def test_the_ceiling_is_the_best_of_all_turns(monkeypatch):
    monkeypatch.setattr(ceiling, 'LARGEST', 512)
    measured = ceiling.begin({'precisions': ['fp32', 'int8'], 'device': 'cpu'})
    first = dict(measured.turn(0))
    assert first['fp32'] > 0.1
    assert first['int8'] >= 0
    second = measured.turn(0)
    assert all(second[name] >= first[name] for name in first)


def test_a_large_product_counts_two_operations_for_each_pair(monkeypatch):
    monkeypatch.setattr(ceiling, 'LARGEST', ceiling.SMALLEST)
    monkeypatch.setattr(ceiling, '_shortest', lambda product, times: 0.5)
    assert ceiling.begin({'precisions': ['fp32'], 'device': 'cpu'}).turn(0) == {
        'fp32': 2 * 256**3 / 0.5 / 1e9}


def test_a_frame_is_whole_and_seen_at_the_size_that_is_asked_for(exported):
    name, = installed(True)[:1] or pytest.skip('needs ONNX Runtime or OpenVINO')
    segmenter = frames.MeasuredSegmenter.load(exported(), backend=name, precision='fp32')
    segmenter.seen_at = SIZE
    image = frames.picture(50, 70)
    by_head, = segmenter.masks(image, ['place'])
    assert by_head.shape == (50, 70)
    assert segmenter.encode(image).features.shape == (4, 3, 5)
    assert segmenter.timed.seconds.keys() == {'encoder', 'tail'}
    segmenter.has_heads = False  # the head is the identity
    without, = segmenter.masks(image, ['place'])
    assert (without == by_head).all()
    assert len(np.unique(by_head)) > 1


def test_random_weights_have_typical_logits_before_the_tail(exported):
    name, = installed(True)[:1] or pytest.skip('needs ONNX Runtime or OpenVINO')
    segmenter = frames.MeasuredSegmenter.load(exported(), backend=name, precision='fp32')
    segmenter.seen_at, segmenter.timed.random = (160, 240), True
    mask, = segmenter.masks(frames.picture(160, 240), ['place'])
    expected = frames.typical_logits(4, 20, 30).argmax(0)
    assert (mask[4::8, 4::8] == expected).mean() > 0.9  # cells' centres lie between pixels
    assert len(np.unique(mask)) == 4
    assert (mask[:, 1:] != mask[:, :-1]).mean() < 0.05


def test_too_many_domains(exported):
    name, = installed(True)[:1] or pytest.skip('needs ONNX Runtime or OpenVINO')
    job = {'path': str(exported()), 'backend': name, 'device': 'cpu', 'precision': 'fp32',
           'size': SIZE, 'image': SIZE, 'domains': 2, 'has_heads': True, 'random': False,
           'began': 0}
    with pytest.raises(ValueError, match=r'one\.onnx: 2 domains: it has 1'):
        frames.begin(job)


def test_a_process_that_ends_says_why():
    with pytest.raises(WorkerError, match=r'ended \(exit status 1\): AssertionError'):
        Worker({'measure': 'nonsense', 'threads': 1})
