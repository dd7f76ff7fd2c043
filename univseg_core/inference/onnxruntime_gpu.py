"""ONNX Runtime on NVIDIA's GPUs: by CUDA, or by TensorRT with engines that are kept."""

import ctypes
import importlib
import logging
from pathlib import Path
import re
from typing import Any

import onnxruntime
from univseg_core.errors import UnivsegError
from univseg_core.inference.engine_cache import engines_folder, with_kept_engines
from univseg_core.inference.exported_network import as_error
from univseg_core.machine.gpus import cuda_gpus, Gpu
from univseg_core.models.exported_file import ExportedModel

CUDA, TENSORRT = 'CUDAExecutionProvider', 'TensorrtExecutionProvider'

BRINGS = {
    CUDA: "pip install 'onnxruntime-gpu[cuda,cudnn]' brings the libraries of CUDA and cuDNN",
    TENSORRT: 'TensorRT must be installed, in the version that this ONNX Runtime was built for '
              '(pip install tensorrt brings the newest); `univseg export --to onnx` makes a file '
              'that does without',
}
"""What makes up for a provider that cannot be loaded."""

ENGINE_BYTES = 4
"""Free disk for an engine, in sizes of its network; engines take one to two."""

TENSORRT_VERSIONS = range(12, 7, -1)
"""Major versions of TensorRT that may be the machine's."""

Provider = tuple[str, dict[str, Any]]

log = logging.getLogger(__name__)


def open_on_gpu(model: ExportedModel, device: str, options: onnxruntime.SessionOptions
                ) -> tuple[str, onnxruntime.InferenceSession] | None:
    """
    Return the name of a GPU, such as cuda:0, and a session there that runs a model.

    A model that was exported for TensorRT runs by it, any other by CUDA. `device` is auto, cuda
    or cuda:N; for auto, None stands for the CPU: where there is no GPU, and, as a line in the log
    says, where this ONNX Runtime cannot use it.

    Raises UnivsegError for a device that is not there, or where ONNX Runtime cannot use it, with
    what would help.
    """
    gpus = cuda_gpus()
    if device == 'auto' and not gpus:
        return None
    try:
        index = _index(device, gpus)
        if model.export.target == 'tensorrt':
            return f'cuda:{index}', _by_tensorrt(model, index, gpus[index], options)
        return f'cuda:{index}', _session(model, options, [_cuda(model, index)])
    except UnivsegError as error:
        if device != 'auto':
            raise
        log.warning('ONNX Runtime takes the CPU: %s', error)
        return None


def _index(device: str, gpus: list[Gpu]) -> int:
    """Return the number of a GPU by its name: auto, cuda or cuda:N."""
    match = re.fullmatch(r'auto|cuda(?::(\d{1,3}))?', device)
    if not match:
        raise UnivsegError(f'device {device!r}: ONNX Runtime has auto, cpu, cuda, cuda:1 …')
    index = int(match[1] or 0)
    if index >= len(gpus):
        there = ', '.join(f'cuda:{i} is {gpu.name}' for i, gpu in enumerate(gpus))
        raise UnivsegError(f'device {device!r} is not available: '
                           + (there or 'no driver of an NVIDIA GPU is found, or no GPU'))
    return index


def _session(model: ExportedModel, options: onnxruntime.SessionOptions,
             providers: list[Provider]) -> onnxruntime.InferenceSession:
    """Return a session by the first of some providers; UnivsegError where that is not used."""
    first, _ = providers[0]
    if first not in onnxruntime.get_available_providers():
        raise UnivsegError(
            f'the ONNX Runtime that is installed has no {first}: pip uninstall onnxruntime, then '
            'pip install onnxruntime-gpu, which takes its place')
    if hasattr(onnxruntime, 'preload_dlls'):  # those that pip has installed
        onnxruntime.preload_dlls()
    with as_error(f'{model.path}: ONNX Runtime cannot run it by {first}'):
        session = onnxruntime.InferenceSession(
            model.network, options, providers=[*providers, 'CPUExecutionProvider'],
            enable_fallback=0)
    # Where libraries are missing, ONNX Runtime prints that, and takes the next provider.
    if session.get_providers()[0] != first:
        raise UnivsegError(f'ONNX Runtime cannot load its {first}, for the reason that it has '
                           f'printed: {BRINGS[first]}')
    return session


def _cuda(model: ExportedModel, index: int) -> Provider:
    # To try all algorithms takes seconds, for each size: right where there is one.
    search = 'HEURISTIC' if model.export.size is None else 'EXHAUSTIVE'
    return CUDA, {'device_id': index, 'cudnn_conv_algo_search': search}


def _by_tensorrt(model: ExportedModel, index: int, gpu: Gpu,
                 options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    if model.export.size is None:
        raise UnivsegError(f'{model.path} is for TensorRT, but for images of any size: export it '
                           'again with --size WIDTHxHEIGHT')

    def open_session(folder: Path | None) -> onnxruntime.InferenceSession:
        return _session(model, options, [
            tensorrt(index, model.export.precision, folder), _cuda(model, index)])

    made_for = {'GPU': f'{gpu.name} ({gpu.capability})', "the driver's CUDA": gpu.driver,
                'TensorRT': tensorrt_version(), 'ONNX Runtime': onnxruntime.__version__,
                'model': model.sha256}
    return with_kept_engines(engines_folder(model.path), made_for,
                             ENGINE_BYTES * len(model.network), open_session)


def tensorrt(index: int, precision: str, folder: Path | None) -> Provider:
    """Return TensorRT on a GPU for a network in a precision, with its engines in a folder."""
    kept = {} if folder is None else {
        'trt_engine_cache_enable': True, 'trt_engine_cache_path': str(folder)}
    return TENSORRT, {'device_id': index, 'trt_fp16_enable': precision != 'fp32',
                      'trt_int8_enable': precision == 'int8', **kept}


def tensorrt_version() -> str:
    """
    Return the version of TensorRT, and load its libraries where pip has installed them.

    'unknown' where it is not found: whether ONNX Runtime finds it, the session shows.
    """
    try:
        return importlib.import_module('tensorrt').__version__
    except (ImportError, OSError):
        pass
    for library in map('libnvinfer.so.{}'.format, TENSORRT_VERSIONS):
        try:
            return str(ctypes.CDLL(library).getInferLibVersion())
        except (OSError, AttributeError):
            continue
    return 'unknown'
