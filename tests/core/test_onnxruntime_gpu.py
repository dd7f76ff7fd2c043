"""
Which provider of ONNX Runtime runs a file on a GPU, and what is said where none can.

Sessions on GPUs and the library of their driver are stand-ins; tests/gpu tries the real ones.
"""

import ctypes
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from univseg_core.errors import UnivsegError
from univseg_core.inference.exported_network import as_error
from univseg_core.machine import gpus
from univseg_core.machine.gpus import cuda_gpus, Gpu
from univseg_core.machine.memory import is_out_of_memory
from univseg_core.models.exported_file import Export

onnxruntime = pytest.importorskip('onnxruntime')
from univseg_core.inference import onnxruntime_backend, onnxruntime_gpu  # noqa: E402
from univseg_core.inference.onnxruntime_gpu import (  # noqa: E402
    CUDA,
    open_on_gpu,
    TENSORRT,
    tensorrt_version,
)

ORIN, H200 = Gpu('Orin', '8.7', '12.6'), Gpu('NVIDIA H200', '9.0', '13.0')


class Session:
    """A session that has the providers whose libraries are there, and says what it was given."""

    loadable = (TENSORRT, CUDA)

    def __init__(self, network, options, providers, enable_fallback):
        assert enable_fallback == 0
        assert providers[-1] == 'CPUExecutionProvider'
        self.given = dict(providers[:-1])
        if folder := self.given.get(TENSORRT, {}).get('trt_engine_cache_path'):
            (Path(folder) / 'graph.engine').write_bytes(b'engine')

    def get_providers(self):
        return [name for name in self.given if name in self.loadable] + ['CPUExecutionProvider']


@pytest.fixture
def machine(monkeypatch):
    """Make this a machine with two GPUs and the ONNX Runtime for them; return what to change."""
    session = type('Session', (Session,), {})
    runtime = SimpleNamespace(
        InferenceSession=session, preload_dlls=lambda: None, __version__='1.32.0',
        get_available_providers=lambda: [TENSORRT, CUDA, 'CPUExecutionProvider'])
    monkeypatch.setattr(onnxruntime_gpu, 'onnxruntime', runtime)
    monkeypatch.setattr(onnxruntime_gpu, 'cuda_gpus', lambda: [ORIN, H200])
    monkeypatch.setattr(onnxruntime_gpu, 'tensorrt_version', lambda: '10.3.0')
    return runtime


def model(tmp_path, target='onnx', precision='fp32', size=None):
    """Return as much of an exported model as chooses its provider."""
    return SimpleNamespace(path=tmp_path / 'yard.onnx', network=b'network', sha256='ab12',
                           export=Export(target, precision, size))


@pytest.mark.parametrize(('device', 'name', 'index'), [
    ('auto', 'cuda:0', 0), ('cuda', 'cuda:0', 0), ('cuda:1', 'cuda:1', 1)])
@pytest.mark.parametrize(('size', 'search'), [(None, 'HEURISTIC'), ((36, 48), 'EXHAUSTIVE')])
def test_a_file_for_onnx_runs_by_cuda(machine, tmp_path, device, name, index, size, search):
    found, session = open_on_gpu(model(tmp_path, size=size), device, None)
    assert found == name
    assert session.given == {CUDA: {'device_id': index, 'cudnn_conv_algo_search': search}}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(('precision', 'fp16', 'int8'), [
    ('fp32', False, False), ('fp16', True, False), ('int8', True, True)])
def test_a_file_for_tensorrt_runs_by_it_with_engines_beside_it(machine, tmp_path, precision,
                                                               fp16, int8):
    found, session = open_on_gpu(model(tmp_path, 'tensorrt', precision, (36, 48)), 'cuda:1', None)
    assert found == 'cuda:1'
    assert list(session.given) == [TENSORRT, CUDA]
    options = session.given[TENSORRT]
    assert Path(options.pop('trt_engine_cache_path')).parent == tmp_path / 'yard.onnx.engines'
    assert options == {'device_id': 1, 'trt_fp16_enable': fp16, 'trt_int8_enable': int8,
                       'trt_engine_cache_enable': True}
    told, = tmp_path.glob('yard.onnx.engines/*/made_for.json')
    for text in ('NVIDIA H200 (9.0)', '13.0', '10.3.0', '1.32.0', 'ab12'):
        assert f'"{text}"' in told.read_text()


def test_engines_of_another_gpu_are_not_used(machine, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    file = model(tmp_path, 'tensorrt', size=(36, 48))
    for device in ('cuda:0', 'cuda:1', 'cuda:0'):
        open_on_gpu(file, device, None)
    assert len(list((tmp_path / 'yard.onnx.engines').iterdir())) == 2
    assert "kept here for GPU 'Orin (8.7)', which is now 'NVIDIA H200 (9.0)'" in caplog.text


def test_engines_are_not_kept_where_there_is_no_place(machine, tmp_path, caplog):
    (tmp_path / 'yard.onnx.engines').touch()
    _, session = open_on_gpu(model(tmp_path, 'tensorrt', size=(36, 48)), 'cuda', None)
    assert session.given[TENSORRT] == {'device_id': 0, 'trt_fp16_enable': False,
                                       'trt_int8_enable': False}
    assert 'engines cannot be kept here' in caplog.text


@pytest.mark.parametrize(('target', 'loadable', 'missing', 'helps'), [
    ('onnx', (), CUDA, r'onnxruntime-gpu\[cuda,cudnn\]'),
    ('tensorrt', (CUDA,), TENSORRT, 'pip install tensorrt'),
    ('tensorrt', (), TENSORRT, 'pip install tensorrt')])
def test_a_silent_fall_back_is_found(machine, tmp_path, caplog, target, loadable, missing, helps):
    machine.InferenceSession.loadable = loadable
    file = model(tmp_path, target, size=(36, 48))
    with pytest.raises(UnivsegError, match=f'cannot load its {missing}.*{helps}'):
        open_on_gpu(file, 'cuda', None)
    assert not list(tmp_path.glob('*.engines/*'))
    assert open_on_gpu(file, 'auto', None) is None
    assert f'ONNX Runtime takes the CPU: ONNX Runtime cannot load its {missing}' in caplog.text


@pytest.mark.parametrize(('target', 'available', 'missing'), [
    ('onnx', [], CUDA), ('tensorrt', [CUDA], TENSORRT)])
def test_an_onnx_runtime_for_cpus_is_told_with_what_takes_its_place(machine, tmp_path, caplog,
                                                                    target, available, missing):
    machine.get_available_providers = lambda: [*available, 'CPUExecutionProvider']
    file = model(tmp_path, target, size=(36, 48))
    with pytest.raises(UnivsegError, match=f'has no {missing}: pip uninstall onnxruntime, then '
                                           'pip install onnxruntime-gpu'):
        open_on_gpu(file, 'cuda', None)
    assert open_on_gpu(file, 'auto', None) is None
    assert f'has no {missing}' in caplog.text


def test_a_session_that_cannot_be_made_names_the_file(machine, tmp_path):
    def broken(*arguments, **options):
        raise ValueError('no such operator')

    machine.InferenceSession = broken
    with pytest.raises(UnivsegError, match=f'yard.onnx: ONNX Runtime cannot run it by {CUDA}: no'):
        open_on_gpu(model(tmp_path), 'cuda', None)


def test_an_engine_is_for_one_size(machine, tmp_path):
    with pytest.raises(UnivsegError, match=r'yard\.onnx is for TensorRT.*--size WIDTHxHEIGHT'):
        open_on_gpu(model(tmp_path, 'tensorrt'), 'cuda', None)


@pytest.mark.parametrize(('device', 'message'), [
    ('cuda:2', "^device 'cuda:2' is not available: cuda:0 is Orin, cuda:1 is NVIDIA H200$"),
    ('gpu', "^device 'gpu': ONNX Runtime has auto, cpu, cuda, cuda:1 …$"),
    ('cuda:', "^device 'cuda:': ONNX Runtime has"), ('cuda:-1', "^device 'cuda:-1': ONNX")])
def test_a_device_that_is_not_there_is_told(machine, tmp_path, device, message):
    with pytest.raises(UnivsegError, match=message):
        open_on_gpu(model(tmp_path), device, None)


def test_without_a_gpu_auto_is_the_cpu_and_nothing_is_said(machine, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(onnxruntime_gpu, 'cuda_gpus', list)
    caplog.set_level(logging.DEBUG)
    assert open_on_gpu(model(tmp_path), 'auto', None) is None
    assert not caplog.messages
    with pytest.raises(UnivsegError, match="'cuda' is not available: no driver of an NVIDIA GPU"):
        open_on_gpu(model(tmp_path), 'cuda', None)


def test_the_backend_says_where_it_runs(machine, monkeypatch, tmp_path):
    machine.InferenceSession.run = lambda self, names, inputs: [
        np.full((1, 3, 4, 2), inputs['image'].max(), np.float32)]
    backend = onnxruntime_backend.OnnxRuntimeBackend(model(tmp_path, precision='fp16'), 'cuda:1')
    assert (backend.device, backend.precision) == ('cuda:1', 'fp16')
    features = backend.features(np.full((24, 32, 3), 7, np.uint8))
    assert np.array_equal(features, np.full((2, 3, 4), 7))


def test_that_memory_ran_out_is_told_however_long_the_error_is():
    text = f'{"Non-zero status code " * 30}: Failed to allocate memory for requested buffer'
    with pytest.raises(RuntimeError) as found, as_error('ONNX Runtime'):
        raise Exception(text)  # as ONNX Runtime's own are
    assert len(str(found.value)) < 450
    assert is_out_of_memory(found.value)


@pytest.mark.parametrize(('library', 'expected'), [
    (SimpleNamespace(getInferLibVersion=lambda: 100300), '100300'), (None, 'unknown')])
def test_the_version_of_tensorrt_is_that_of_its_library(monkeypatch, library, expected):
    def load(name):
        if library is None or name != 'libnvinfer.so.10':
            raise OSError(name)
        return library

    def no_package(name):
        raise ImportError(name)

    monkeypatch.setattr(onnxruntime_gpu.importlib, 'import_module', no_package)
    monkeypatch.setattr(ctypes, 'CDLL', load)
    assert tensorrt_version() == expected


class Driver:
    """The functions of a driver's library, with two GPUs; a result other than 0 is an error."""

    def __init__(self, failing=''):
        self.failing = failing

    def __getattr__(self, name):
        def call(*arguments):
            if name == self.failing:
                return 100
            return getattr(self, f'_{name}')(*arguments) or 0
        return call

    def _cuInit(self, flags):  # noqa: N802
        assert flags == 0

    def _cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 12060

    def _cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = 2

    def _cuDeviceGet(self, device, index):  # noqa: N802
        device._obj.value = 5 + index

    def _cuDeviceGetName(self, name, length, device):  # noqa: N802
        name.value = {5: b'Orin', 6: b'NVIDIA H200'}[device.value]

    def _cuDeviceGetAttribute(self, number, attribute, device):  # noqa: N802
        number._obj.value = {5: {75: 8, 76: 7}, 6: {75: 9, 76: 0}}[device.value][attribute]


def test_gpus_are_as_their_driver_tells(monkeypatch):
    monkeypatch.setattr(gpus.ctypes, 'CDLL', lambda name: Driver())
    assert cuda_gpus() == [Gpu('Orin', '8.7', '12.6'), Gpu('NVIDIA H200', '9.0', '12.6')]


@pytest.mark.parametrize('failing', ['cuInit', 'cuDriverGetVersion', 'cuDeviceGetCount'])
def test_there_are_none_where_the_driver_has_none(monkeypatch, failing):
    monkeypatch.setattr(gpus.ctypes, 'CDLL', lambda name: Driver(failing))
    assert cuda_gpus() == []


def test_there_are_none_without_a_driver(monkeypatch):
    def missing(name):
        raise OSError(f'{name}: cannot open shared object file')

    monkeypatch.setattr(gpus.ctypes, 'CDLL', missing)
    assert cuda_gpus() == []
