"""Changes of an ONNX model: heads behind the features, half the precision."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
from univseg_core.models.exported_file import FEATURES
from univseg_core.models.heads import LinearMap


def logits_of(name: str) -> str:
    """Return the name of the output that has a domain's logits."""
    return f'logits_{name}'


def logits_graph(heads: Mapping[str, LinearMap]) -> bytes:
    """
    Return the graph (onnx.proto, GraphProto) that makes the logits of each domain's head.

    `logits_DOMAIN` (1, h, w, C) float32, of `features` (1, h, w, C_F): so other tools have all of
    the model. Protobuf merges it into that of a network with these features.
    """
    graph = onnx.GraphProto()
    for name, head in heads.items():
        output = logits_of(name)
        graph.initializer.extend([
            numpy_helper.from_array(np.ascontiguousarray(head.weight.T), f'head_{name}.weight'),
            numpy_helper.from_array(head.bias, f'head_{name}.bias')])
        graph.node.extend([
            helper.make_node('MatMul', [FEATURES, f'head_{name}.weight'], [f'head_{name}']),
            helper.make_node('Add', [f'head_{name}', f'head_{name}.bias'], [output])])
        graph.output.append(helper.make_tensor_value_info(
            output, TensorProto.FLOAT, [1, None, None, len(head.bias)]))
    return graph.SerializeToString()


def in_half(network: bytes) -> bytes:
    """Return an ONNX model that computes in fp16, with float32 outputs."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load_model_from_string(network)
    return convert_float_to_float16(model, keep_io_types=True).SerializeToString()
