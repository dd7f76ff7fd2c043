"""A network in ONNX whose operations can be counted by hand."""

import numpy as np
import pytest


def two_convolutions():
    """Return an ONNX model: patches of 8×8 pixels → 4 features, then 3×3 for each one alone."""
    onnx = pytest.importorskip('onnx')
    helper, to = onnx.helper, onnx.numpy_helper.from_array
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        [helper.make_node('Cast', ['image'], ['floats'], to=onnx.TensorProto.FLOAT),
         helper.make_node('Transpose', ['floats'], ['planes'], perm=[2, 0, 1]),
         helper.make_node('Unsqueeze', ['planes', 'axes'], ['batch']),
         helper.make_node('Conv', ['batch', 'patches'], ['cells'], strides=[8, 8],
                          kernel_shape=[8, 8], auto_pad='SAME_UPPER'),
         helper.make_node('Conv', ['cells', 'each'], ['found'], group=4, kernel_shape=[3, 3],
                          pads=[1, 1, 1, 1]),
         helper.make_node('Transpose', ['found'], ['features'], perm=[0, 2, 3, 1])],
        'network',
        [helper.make_tensor_value_info('image', onnx.TensorProto.UINT8, ['h', 'w', 3])],
        [helper.make_tensor_value_info('features', onnx.TensorProto.FLOAT, [1, None, None, 4])],
        [to(random.normal(size=(4, 3, 8, 8)).astype(np.float32), 'patches'),
         to(random.normal(size=(4, 1, 3, 3)).astype(np.float32), 'each'),
         to(np.array([0]), 'axes')])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)],
                             ir_version=8).SerializeToString()
