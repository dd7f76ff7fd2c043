"""The encoder in OpenVINO: on a CPU, or Intel's GPUs and NPUs."""

from functools import lru_cache
from typing import Any

import numpy as np
import openvino
from univseg_core.errors import UnivsegError
from univseg_core.inference.exported_network import as_error, choose_precision
from univseg_core.inference.on_cpu import OnCpu
from univseg_core.machine.memory import release_memory
from univseg_core.machine.processors import cpu_cores, is_good_at_bf16
from univseg_core.models.exported_file import ExportedModel, FEATURES

KEPT_SIZES = 1
"""Sizes of images, the latest ones, for which it stays compiled: 60 MB and more each."""

ELEMENT_TYPES = {'fp32': 'f32', 'bf16': 'bf16', 'fp16': 'f16', 'int8': 'f32'}
"""OpenVINO's names of what is computed in where the network does not say int8."""


class OpenVinoBackend(OnCpu):
    """
    An exported model's encoder in OpenVINO; see Backend.

    On a CPU with AMX, one that was exported in fp32 may also run in bf16, and does by `auto`. A
    network for images of any size is compiled for each size that comes, which takes a part of a
    second, and runs faster than one that is compiled for all.

    Raises UnivsegError for a device that OpenVINO does not find, a precision that the file does
    not have, or a network that it cannot take.
    """

    def __init__(self, model: ExportedModel, device: str = 'auto', precision: str = 'auto'):
        self._core = openvino.Core()
        self.device = _resolve(self._core, device)
        bf16 = ['bf16'] if self.device == 'cpu' and is_good_at_bf16() else []
        self.precision = choose_precision(model, precision, bf16)
        with as_error(f'{model.path}: OpenVINO cannot run it', UnivsegError):
            whole = self._core.read_model(model.network)
        self._model = openvino.Model([whole.output(FEATURES)], whole.get_parameters())
        self._request = lru_cache(KEPT_SIZES)(self._compiled)

    def _compiled(self, height: int, width: int) -> openvino.InferRequest:
        with as_error('OpenVINO'):
            fixed = self._model.clone()
            fixed.reshape([height, width, 3])
            properties: dict[str, Any] = {'PERFORMANCE_HINT': 'LATENCY',
                          'INFERENCE_PRECISION_HINT': ELEMENT_TYPES[self.precision]}
            if self.device == 'cpu':
                properties |= {'INFERENCE_NUM_THREADS': cpu_cores(), 'ENABLE_CPU_PINNING': False}
            request = self._core.compile_model(fixed, self.device.upper(),
                                               properties).create_infer_request()
        del fixed
        release_memory()  # of what it took to compile: as much as it takes to run
        return request

    def features(self, image: np.ndarray) -> np.ndarray:
        """Return F(x), (C_F, h, w) float32, of an image (H, W, 3) uint8 RGB."""
        request = self._request(*image.shape[:2])
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
