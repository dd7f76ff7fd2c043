"""Which backend runs an exported file by auto: the fastest that can, by times that are kept."""

from dataclasses import replace
import json
import logging
from typing import ClassVar

from exported_models import CARD
import numpy as np
import pytest
from univseg_core.errors import UnivsegError
from univseg_core.inference import choice
from univseg_core.inference.on_cpu import OnCpu
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.exported_file import Export, load_exported

TIMES = {'onnxruntime': 3.0, 'openvino': 2.0}


class Measured:
    """What stands for the measurement: it counts, and finds what `times` says."""

    def __init__(self):
        self.count = 0
        self.times = TIMES
        self.size = None

    def __call__(self, backends, size):
        self.count += 1
        self.size = size
        return {name: self.times[name] for name in backends}


class Still(OnCpu):
    """A backend that is there at once, unless `broken` has its name."""

    precision = 'fp32'
    broken: ClassVar[dict[str, str]] = {}

    def __init__(self, name, model, device, precision):
        self._name = name
        if self.broken.get(name) == 'built':
            raise UnivsegError('it lacks an operator')

    def features(self, image):
        if self.broken.get(self._name) == 'run':
            raise UnivsegError('it lacks an operator')
        return np.zeros((8, 1, 1), np.float32)


@pytest.fixture
def measured(monkeypatch):
    """Return what notes each measurement, of backends that are there at once."""
    measured = Measured()
    monkeypatch.setattr(choice, '_milliseconds', measured)
    monkeypatch.setattr(choice, 'build_backend', Still)
    monkeypatch.setattr(Still, 'broken', {})
    return measured


def times_file(path):
    return path.with_name(f'{path.name}.speed.json')


def test_the_fastest_is_taken_and_its_times_are_kept(copied, measured, caplog):
    with caplog.at_level(logging.INFO):
        segmenter = Segmenter.load(copied)
    assert (segmenter.backend, segmenter.measured) == ('openvino', TIMES)
    assert measured.size == (48, 64)  # of the images that it learned from
    assert 'openvino, the fastest encoder of an image of 64×48: onnxruntime 3.0' in caplog.text
    measured.times = {'onnxruntime': 1.0, 'openvino': 2.0}
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again = Segmenter.load(copied)
    assert (again.backend, again.measured, measured.count) == ('openvino', TIMES, 1)
    assert f'by the times in {times_file(copied)}' in caplog.text
    times_file(copied).unlink()
    assert Segmenter.load(copied).backend == 'onnxruntime'


def test_both_are_measured_as_they_are(copied):
    segmenter = Segmenter.load(copied)
    assert segmenter.measured.keys() == {'onnxruntime', 'openvino'}
    assert all(value > 0 for value in segmenter.measured.values())
    assert segmenter.backend == min(segmenter.measured, key=segmenter.measured.__getitem__)
    assert json.loads(times_file(copied).read_text())['milliseconds'] == segmenter.measured


def test_one_that_is_named_is_not_measured(copied, measured):
    segmenter = Segmenter.load(copied, backend='onnxruntime')
    assert (segmenter.backend, segmenter.measured, measured.count) == ('onnxruntime', {}, 0)
    assert not times_file(copied).exists()


def test_one_that_is_alone_is_not_measured(copied, measured, monkeypatch):
    monkeypatch.setattr(choice, 'installed', lambda exported: ['openvino'])
    assert Segmenter.load(copied).backend == 'openvino'
    assert measured.count == 0


@pytest.mark.parametrize(('name', 'value'), [
    ('cpu_cores', lambda: 77), ('cpu_name', lambda: 'another'), ('version_of', lambda name: '9')])
def test_on_another_machine_they_are_measured_anew(copied, measured, monkeypatch, name, value):
    Segmenter.load(copied)
    monkeypatch.setattr(choice, name, value)
    Segmenter.load(copied)
    Segmenter.load(copied)
    assert measured.count == 2


def test_of_another_file_or_size_they_are_measured_anew(copied, measured):
    Segmenter.load(copied)
    assert Segmenter.load(copied, inference_size=80).inference_size == 80
    assert (measured.count, measured.size) == (2, (60, 80))
    model, _ = load_exported(copied)
    Segmenter(replace(model, sha256='f' * 64), CARD, inference_size=80)
    assert measured.count == 3
    Segmenter(replace(model, export=Export(size=(37, 50))), CARD)
    assert (measured.count, measured.size) == (4, (37, 50))
    Segmenter(model, replace(CARD, image_size=None))
    assert (measured.count, measured.size) == (5, (360, 480))


@pytest.mark.parametrize('damage', [
    lambda text: text[:len(text) // 2], lambda text: '', lambda text: '[]', lambda text: '7',
    lambda text: '{"milliseconds": {}}', lambda text: '\0', lambda text: '[' * 5000,
    lambda text: text.replace('2.0', '"soon"'), lambda text: text.replace('2.0', '1' + '0' * 400),
    lambda text: text.replace('"openvino": 2.0', '"tensorflow": 2.0')])
def test_times_that_nobody_can_read_are_measured_anew(copied, measured, damage):
    Segmenter.load(copied)
    sound = times_file(copied).read_text()
    times_file(copied).write_text(damage(sound))
    assert Segmenter.load(copied).measured == TIMES
    assert measured.count == 2
    assert times_file(copied).read_text() == sound


def test_times_that_cannot_be_kept_are_used_all_the_same(copied, measured, monkeypatch, caplog):
    def fail(path, text):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(choice, 'write_text', fail)
    with caplog.at_level(logging.INFO):
        assert Segmenter.load(copied).backend == 'openvino'
    assert 'cannot be kept, and will be measured again: [Errno 13]' in caplog.text
    monkeypatch.undo()
    times_file(copied).mkdir()
    assert Segmenter.load(copied).measured.keys() == TIMES.keys()


@pytest.mark.parametrize('when', ['built', 'run'])
def test_a_backend_that_fails_is_left_out(copied, measured, caplog, when):
    Still.broken['openvino'] = when
    with caplog.at_level(logging.INFO):
        segmenter = Segmenter.load(copied)
    assert (segmenter.backend, segmenter.measured) == ('onnxruntime', {'onnxruntime': 3.0})
    assert 'backend openvino is left out: it lacks an operator' in caplog.text
    assert not times_file(copied).exists()  # what failed is tried again the next time
    Still.broken['onnxruntime'] = when
    with pytest.raises(UnivsegError, match=r'^it lacks an operator$'):  # and once, of both
        Segmenter.load(copied)


def test_where_the_fastest_cannot_be_had_any_more_another_is_taken(copied, measured):
    assert Segmenter.load(copied).backend == 'openvino'
    Still.broken['openvino'] = 'built'
    assert Segmenter.load(copied).backend == 'onnxruntime'
