"""The encoder in ONNX Runtime: on a CPU, or on a GPU by CUDA or TensorRT."""

import numpy as np
import onnxruntime
from univseg_core.inference.exported_network import as_error, choose_precision
from univseg_core.inference.on_cpu import OnCpu
from univseg_core.inference.onnxruntime_gpu import open_on_gpu
from univseg_core.machine.processors import cpu_cores
from univseg_core.models.exported_file import ExportedModel, FEATURES


class OnnxRuntimeBackend(OnCpu):
    """
    An exported model's encoder in ONNX Runtime; see Backend.

    Where that is on a GPU, its features come back to the CPU, on which all else is computed.

    Raises UnivsegError for a device that this ONNX Runtime does not have, another precision than
    the file's, or a network that it cannot take.
    """

    def __init__(self, model: ExportedModel, device: str = 'auto', precision: str = 'auto'):
        self.precision = choose_precision(model, precision)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cpu_cores()
        options.enable_mem_pattern = False  # as fast, and tens of MB less
        # Threads that wait for the next image by spinning keep the masks of this one waiting.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        options.log_severity_level = 3  # warnings are of no use to whoever runs a model
        on_gpu = None if device == 'cpu' else open_on_gpu(model, device, options)
        if on_gpu:
            self.device, self._session = on_gpu
        else:
            with as_error(f'{model.path}: ONNX Runtime cannot run it'):
                self._session = onnxruntime.InferenceSession(
                    model.network, options, providers=['CPUExecutionProvider'])
            # It would keep the file's bytes, to begin anew with another provider where one fails.
            self._session.disable_fallback()
            self._session._model_bytes = None

    def features(self, image: np.ndarray) -> np.ndarray:
        """Return F(x), (C_F, h, w) float32, of an image (H, W, 3) uint8 RGB."""
        with as_error('ONNX Runtime'):
            found, = self._session.run([FEATURES], {'image': image})
        return found[0].transpose(2, 0, 1)
