"""The encoder in OpenVINO: on a CPU, or Intel's GPUs and NPUs."""

from typing import Any

import numpy as np
import openvino
from univseg_core.errors import UnivsegError
from univseg_core.inference.exported_network import as_error, choose_precision
from univseg_core.inference.on_cpu import OnCpu
from univseg_core.machine.memory import release_memory
from univseg_core.machine.processors import cpu_cores, is_good_at_bf16
from univseg_core.models.exported_file import ExportedModel

COMPILED_SIZES = 4
"""Changes of the images' size, the first among them, for which a network is compiled anew."""

ELEMENT_TYPES = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16', 'int8': 'f32'}
"""OpenVINO's names of what is computed in where the network does not say int8."""


class OpenVinoBackend(OnCpu):
    """
    An exported model's encoder in OpenVINO; see Backend.

    On a CPU with AMX, one that was exported in fp32 also runs in bf16 where that is asked for. A
    network for images of any size is compiled for the size that comes, which takes a part of a
    second, and runs faster than one for all sizes; after COMPILED_SIZES, others get the latter.

    Raises UnivsegError for a device that OpenVINO does not find, a precision that the file does
    not have, or a network that it cannot take.
    """

    def __init__(self, model: ExportedModel, device: str = 'auto', precision: str = 'auto'):
        self._core = openvino.Core()
        self.device = _resolve(self._core, device)
        bf16 = ['bf16'] if self.device == 'cpu' and is_good_at_bf16() else []
        self.precision = choose_precision(model, precision, bf16)
        with as_error(f'{model.path}: OpenVINO cannot run it'):
            self._model = self._core.read_model(model.network)
        self._compilations = 0
        self._size: tuple[int, int] | None = None
        self._fixed: openvino.InferRequest | None = None
        self._for_any: openvino.InferRequest | None = None

    def _request(self, size: tuple[int, int]) -> openvino.InferRequest:
        """Return what runs images of a size; one size is kept, which takes 60 MB and more."""
        if size == self._size:
            return self._fixed
        if self._compilations < COMPILED_SIZES:
            self._fixed = self._size = None  # its memory, before the next one takes some
            self._fixed, self._size = self._compiled(size), size
            self._compilations += 1
            return self._fixed
        if self._for_any is None:
            self._for_any = self._compiled(None)
        return self._for_any

    def _compiled(self, size: tuple[int, int] | None) -> openvino.InferRequest:
        with as_error('OpenVINO'):
            model = self._model.clone()
            if size is not None:
                model.reshape([*size, 3])
            properties: dict[str, Any] = {
                'PERFORMANCE_HINT': 'LATENCY',
                'INFERENCE_PRECISION_HINT': ELEMENT_TYPES[self.precision]}
            if self.device == 'cpu':
                properties |= {'INFERENCE_NUM_THREADS': cpu_cores(), 'ENABLE_CPU_PINNING': False}
            request = self._core.compile_model(model, self.device.upper(),
                                               properties).create_infer_request()
        del model
        release_memory()  # of what it took to compile: as much as it takes to run
        return request

    def features(self, image: np.ndarray) -> np.ndarray:
        """Return F(x), (C_F, h, w) float32, of an image (H, W, 3) uint8 RGB."""
        request = self._request((image.shape[0], image.shape[1]))
        with as_error('OpenVINO'):
            found = request.infer([image], share_inputs=True, share_outputs=True)[0]
        return found[0].transpose(2, 0, 1)


def _resolve(core: openvino.Core, device: str) -> str:
    """Return OpenVINO's device of a name, in small letters; UnivsegError if it has none."""
    if device == 'auto':
        return 'cpu'
    there = [each.lower() for each in core.available_devices]
    if device not in there:
        raise UnivsegError(f'device {device!r} is not available: OpenVINO has '
                           f'{", ".join(there)}')
    return device
