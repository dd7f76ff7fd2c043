"""Depthwise weights in int8, whose sums stay; roundings worked out by hand."""

import numpy as np
from onnx import helper, numpy_helper, TensorProto
import onnxruntime
import pytest
from univseg_core.exporting.depthwise_rounding import keep_sums
from univseg_core.exporting.quantisation import quantise, RECIPES


@pytest.mark.parametrize(('weights', 'expected'), [
    ([127, 0.4, 0.3, 0.45], [127, 0, 0, 1]),  # 128.15: one more, of what was rounded furthest
    ([127, 0.6, 0.7, 0.55], [127, 1, 1, 0]),  # 128.85, not 130
    ([-127, -0.4, -0.3, -0.45], [-127, 0, 0, -1]),
    ([-127, 5.4, -5.4, 0], [-127, 5, -5, 0]),  # what is rounded away adds up to nothing
    ([0, 0, 0, 0], [0, 0, 0, 0]),
])
def test_a_kernel_is_rounded_so_that_its_sum_stays(weights, expected):
    assert keep_sums(np.array([weights], np.float32)).tolist() == [expected]


def test_each_weight_is_a_multiple_beside_it_and_no_sum_is_further_than_half_of_one():
    weights = np.random.default_rng(0).normal(size=(500, 1, 5, 5)).astype(np.float32)
    got = keep_sums(weights)
    assert got.dtype == np.float32
    step = np.abs(weights).max((1, 2, 3), keepdims=True) / 127
    np.testing.assert_allclose(got / step, np.round(got / step), atol=1e-4)
    assert (np.abs(got - weights) < step * 1.0001).all()
    assert np.abs(got / step).max() < 127.0001
    sums = np.abs((got - weights).sum((1, 2, 3)) / step.ravel())
    assert sums.max() < 0.5001
    nearest = np.round(weights / step) * step
    assert np.abs((nearest - weights).sum((1, 2, 3)) / step.ravel()).max() > 2


def network(weights):
    """Return a network: image (H, W, 3) → depthwise convolution → features."""
    nodes = [
        helper.make_node('Transpose', ['image'], ['planes'], perm=[2, 0, 1]),
        helper.make_node('Unsqueeze', ['planes', 'axis'], ['batch']),
        helper.make_node('Cast', ['batch'], ['pixels'], to=TensorProto.FLOAT),
        helper.make_node('Conv', ['pixels', 'weights', 'bias'], ['features'], group=3,
                         name='convolution')]
    constants = {'weights': weights, 'bias': np.zeros(3, np.float32), 'axis': np.array([0])}
    graph = helper.make_graph(
        nodes, 'network',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, ['height', 'width', 3])],
        [helper.make_tensor_value_info('features', TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)],
                             ir_version=10).SerializeToString()


@pytest.mark.parametrize('target', RECIPES)
def test_of_an_even_image_a_quantised_network_computes_what_the_float_one_does(target):
    # Rounded each to the nearest, all but one would lose 0.4 steps: 9.6 in all.
    weights = np.full((3, 1, 5, 5), 10.4 / 127, np.float32)
    weights[:, 0, 2, 2] = 1
    frame = np.full((5, 5, 3), 200, np.uint8)
    session = onnxruntime.InferenceSession(quantise(network(weights), [frame], target),
                                           providers=['CPUExecutionProvider'])
    got = session.run(None, {'image': frame})[0].ravel()
    expected = 200 * weights.sum((1, 2, 3))
    # Half a step of the sum, and one of the features.
    most = 0.5 * 200 / 127 + expected.max() / 127
    np.testing.assert_allclose(got, expected, rtol=0, atol=most)
    assert 2 * most < 9.6 * 200 / 127
