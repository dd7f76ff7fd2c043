"""How many operations the encoder of a network takes: those of convolutions and products."""

from collections.abc import Sequence
import json
from math import prod
from pathlib import Path
import tempfile
from typing import Any, TYPE_CHECKING

import numpy as np
from univseg_core.errors import UnivsegError
from univseg_core.inference.backends import Network
from univseg_core.inference.segmenter import load_network
from univseg_core.models.exported_file import ExportedModel, FEATURES

if TYPE_CHECKING:
    from univseg_core.models.universal import UniversalSegmenter


WEIGHTS = {'Conv': 1, 'ConvInteger': 1, 'QLinearConv': 3, 'ConvTranspose': 1, 'MatMul': 1,
           'MatMulInteger': 1, 'Gemm': 1}
"""The operators of ONNX that count, and which of their inputs has the weights."""


class Operations:
    """What a worker has counted when it is `ready`; it takes no turns."""

    def __init__(self, operations: float | None):
        self.ready = {'operations': operations}


def begin(job: dict[str, Any]) -> Operations:
    """Count the operations of the file `path` at the `size` (height, width) of a job."""
    network, _ = load_network(job['path'])
    return Operations(operations_of(network, tuple(job['size'])))


def operations_of(network: Network, size: tuple[int, int]) -> float | None:
    """
    Return the operations of an encoder for an image of a size (height, width).

    Those of convolutions and matrix products count, a multiplication and an addition being two.
    None for an exported network where ONNX Runtime is missing or does not run it.
    """
    try:
        if isinstance(network, ExportedModel):
            return _of_exported(network, size)
        return _of_torch(network, size)
    except (ImportError, UnivsegError):
        return None


def _of_torch(network: 'UniversalSegmenter', size: tuple[int, int]) -> float:
    """Count by the shapes alone, of tensors without values, which take no memory."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    encoder = network.encoder.eval()
    weights = {name: torch.empty_like(value, device='meta')
               for name, value in encoder.state_dict().items()}
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        torch.func.functional_call(encoder, weights, torch.zeros(1, 3, *size, device='meta'))
    return float(counter.get_total_flops())


def _of_exported(network: ExportedModel, size: tuple[int, int]) -> float:
    """Count by what ONNX Runtime says of each operator that it runs, nothing being merged."""
    import onnxruntime
    from univseg_core.inference.exported_network import as_error

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry('session.disable_prepacking', '1')  # or weights are not told
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder, as_error('ONNX Runtime'):
        options.profile_file_prefix = str(Path(folder) / 'profile')
        session = onnxruntime.InferenceSession(network.network, options,
                                               providers=['CPUExecutionProvider'])
        session.run([FEATURES], {'image': np.zeros((*size, 3), np.uint8)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding='utf-8'))
    return float(sum(_of_event(event.get('args', {})) for event in events))


def _of_event(event: dict[str, Any]) -> int:
    """Return the operations of an event of ONNX Runtime's profile, 0 for other operators."""
    kind = event.get('op_name')
    if kind not in WEIGHTS or 'output_type_shape' not in event:
        return 0
    inputs, outputs = (_shapes(event[key]) for key in ('input_type_shape', 'output_type_shape'))
    weights = inputs[WEIGHTS[kind]]
    if kind in ('MatMul', 'MatMulInteger', 'Gemm'):
        return 2 * prod(outputs[0]) * inputs[0][-1]
    if kind == 'ConvTranspose':  # each value that comes in is multiplied by all weights of its own
        return 2 * prod(inputs[0]) * prod(weights[1:])
    return 2 * prod(outputs[0]) * prod(weights[1:])


def _shapes(values: Sequence[dict[str, list[int]]]) -> list[list[int]]:
    return [next(iter(each.values()), []) for each in values]
