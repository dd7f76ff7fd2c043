"""Weights in int8 of which no two products overflow 16 bits; sums worked out by hand."""

import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import pytest
from univseg_core.exporting.pair_sums import largest_pairs, weight_ranges
from univseg_core.exporting.quantisation import quantise


def of_channels(*values):
    """Return weights (1, C, 1, 1) of one output channel."""
    return np.array(values, np.float32).reshape(1, -1, 1, 1)


@pytest.mark.parametrize(('weights', 'expected'), [
    (of_channels(3, 1), 4),
    (of_channels(-3, -1), 4),
    (of_channels(3, -1), 3),  # one product above 0, one below: nothing adds up
    (of_channels(1, 5, 4, 1), 6),  # 5 and 4 are of two pairs
    (of_channels(1, 5, 4), 9),  # with an odd number, pairs begin anywhere
    (of_channels(2, -1, 0), 2),
    (of_channels(0, 0), 0),
])
def test_the_largest_sum_is_that_of_two_neighbours_of_one_sign(weights, expected):
    assert largest_pairs(weights).tolist() == [expected]


def test_neighbours_are_channels_of_one_place_of_the_kernel():
    # Channels 0 and 1 at two places: (1, 2) and (8, 4).
    assert largest_pairs(np.array([[[[1, 8]], [[2, 4]]]], np.float32)).tolist() == [12]
    # Of three channels, the third at one place and the first at the next may be a pair.
    weights = np.array([[[[1, 8]], [[0, 0]], [[16, 0]]]], np.float32)
    assert largest_pairs(weights).tolist() == [24]


def test_of_one_channel_no_products_are_added_in_pairs():
    assert largest_pairs(np.array([[[[1, -8], [8, 4]]]], np.float32)).tolist() == [8]


def test_each_output_channel_has_its_own():
    weights = np.concatenate([of_channels(1, 1), of_channels(0.25, -0.5)])
    assert largest_pairs(weights).tolist() == [2, 0.5]


def network(weights):
    """Return a network: image (H, W, 3) → planes, as often as weights need → convolution."""
    outputs, channels = weights.shape[:2]
    nodes = [
        helper.make_node('Transpose', ['image'], ['planes'], perm=[2, 0, 1]),
        helper.make_node('Unsqueeze', ['planes', 'axis'], ['batch']),
        helper.make_node('Cast', ['batch'], ['colours'], to=TensorProto.FLOAT),
        helper.make_node('Concat', ['colours'] * (channels // 3), ['pixels'], axis=1),
        helper.make_node('Conv', ['pixels', 'weights', 'bias'], ['features'],
                         name='convolution')]
    constants = {'weights': weights, 'bias': np.zeros(outputs, np.float32), 'axis': np.array([0])}
    graph = helper.make_graph(
        nodes, 'network',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, ['height', 'width', 3])],
        [helper.make_tensor_value_info('features', TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)


def integers(weights, target):
    """Return the integers (O, C, h, w) that weights become, and the scales (O,) of them."""
    frame = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    quantised = quantise(network(weights).SerializeToString(), [frame], target)
    found = {each.name: numpy_helper.to_array(each)
             for each in onnx.load_model_from_string(quantised).graph.initializer}
    name = 'weights_quantized' if 'weights_quantized' in found else 'weights'
    return found[name], found['weights_scale']


def pair_sums(quantised):
    """Return the sum of each pair's products with pixels of 255, as 16 bits would hold them."""
    return [255 * (int(row[channel, y, x]) * (int(row[channel, y, x]) * sign > 0)
                   + int(row[channel + 1, y, x]) * (int(row[channel + 1, y, x]) * sign > 0))
            for row in quantised for channel in range(0, row.shape[0], 2)
            for y in range(row.shape[1]) for x in range(row.shape[2]) for sign in (1, -1)]


@pytest.mark.parametrize('target', ['onnx', 'openvino'])
def test_no_pair_of_products_overflows_16_bits_whatever_the_image(target):
    weights = np.random.default_rng(1).normal(size=(16, 6, 3, 3)).astype(np.float32)
    quantised, scales = integers(weights, target)
    assert quantised.dtype == np.int8
    found = pair_sums(quantised)
    assert min(found) >= -2 ** 15
    assert max(found) < 2 ** 15
    # That they do not is the ranges' doing, which are no wider than this takes.
    assert max(np.abs(found)) > 0.98 * 2 ** 15
    plain = np.round(weights * 127 / np.abs(weights).max((1, 2, 3), keepdims=True))
    assert max(pair_sums(plain)) >= 2 ** 15
    np.testing.assert_allclose(quantised * scales[:, None, None, None], weights,
                               atol=scales.max() / 2 * 1.001)


def test_tensorrt_has_all_of_its_8_bits():
    weights = np.ones((1, 6, 1, 1), np.float32)
    assert weight_ranges(network(weights))['weights'][0]['rmax'] == 2
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0] = 255
    found = onnx.load_model_from_string(
        quantise(network(weights).SerializeToString(), [frame], 'tensorrt')).graph.initializer
    scales = [numpy_helper.to_array(each) for each in found if each.name == 'weights_scale']
    np.testing.assert_allclose(scales, [[1 / 127]], rtol=1e-6)
