"""A network in int8: what its numbers are, what stays of it, and what is refused."""

import builtins
import sys
from tempfile import gettempdir

import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import onnxruntime
import pytest
from univseg_core.errors import UnivsegError
from univseg_core.exporting import quantisation
from univseg_core.exporting.quantisation import quantise

TARGETS = tuple(quantisation.RECIPES)

LARGE_AND_SMALL = np.zeros((2, 3, 1, 1), np.float32)
LARGE_AND_SMALL[:, :, 0, 0] = [[1, -0.5, 0.25], [0.001, 0.002, -0.004]]


def tiny(weights=LARGE_AND_SMALL, height='height', width='width', operator='Relu'):
    """Return a network: image (H, W, 3) → 1×1 convolution, activation → features (C, H, W)."""
    nodes = [
        helper.make_node('Transpose', ['image'], ['planes'], perm=[2, 0, 1]),
        helper.make_node('Unsqueeze', ['planes', 'axis'], ['batch']),
        helper.make_node('Cast', ['batch'], ['pixels'], to=TensorProto.FLOAT),
        helper.make_node('Conv', ['pixels', 'weights', 'bias'], ['values'], name='convolution'),
        helper.make_node(operator, ['values'], ['active']),
        helper.make_node('Squeeze', ['active', 'axis'], ['features']),
    ]
    graph = helper.make_graph(
        nodes, 'tiny',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [height, width, 3])],
        [helper.make_tensor_value_info('features', TensorProto.FLOAT,
                                       [len(weights), height, width])],
        [numpy_helper.from_array(weights, 'weights'),
         numpy_helper.from_array(np.full(len(weights), 0.5, np.float32), 'bias'),
         numpy_helper.from_array(np.array([0]), 'axis')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    helper.set_model_props(model, {'univseg': '{"domains": ["here", "there"]}'})
    return model.SerializeToString()


def noise(height=6, width=8, seed=0):
    """Return a frame of noise that has both the darkest and the lightest pixel."""
    frame = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    frame[0, 0], frame[0, 1] = 0, 255
    return frame


def run(network, frame):
    session = onnxruntime.InferenceSession(network, providers=['CPUExecutionProvider'])
    return session.run(None, {'image': frame})[0]


def initialisers(network):
    return {each.name: numpy_helper.to_array(each)
            for each in onnx.load_model_from_string(network).graph.initializer}


@pytest.mark.parametrize('target', TARGETS)
def test_features_are_those_of_the_network_but_for_the_steps_of_its_integers(target):
    got = run(quantise(tiny(), [noise()], target), noise())
    planes = noise().astype(np.float32).transpose(2, 0, 1)
    expected = np.maximum(np.einsum('oc,chw->ohw', LARGE_AND_SMALL[:, :, 0, 0], planes) + 0.5, 0)
    # Signed pixels have steps of 255/127, unsigned ones of 1; weights of 1/127 of the largest;
    # the features, where they are quantised, too, of 1/255 of their range.
    pixel = 255 / 127 if target == 'tensorrt' else 1
    step = (pixel * np.abs(LARGE_AND_SMALL).sum((1, 2, 3)) / 2
            + 255 * 3 * np.abs(LARGE_AND_SMALL).max((1, 2, 3)) / 127 / 2
            + expected.max() / 255 / 2)
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    assert (np.abs(got - expected) <= step[:, None, None]).all()
    assert (got[0] != expected[0]).any()  # or nothing was quantised


@pytest.mark.parametrize('target', TARGETS)
def test_weights_have_a_scale_of_their_own_for_each_output_channel(target):
    scales = initialisers(quantise(tiny(), [noise()], target))['weights_scale']
    # The largest weight of a channel is the integer 127.
    np.testing.assert_allclose(scales, [1 / 127, 0.004 / 127], rtol=1e-6)


def test_zero_points_are_zero_for_tensorrt():
    found = initialisers(quantise(tiny(), [noise()], 'tensorrt'))
    points = {name: value for name, value in found.items() if name.endswith('_zero_point')}
    assert points
    assert all(value.dtype == np.int8 and not value.any() for value in points.values())
    assert found['bias'].dtype == np.float32


@pytest.mark.parametrize(('target', 'expected'), [
    ('onnx', 'DequantizeLinear'), ('openvino', 'Relu'), ('tensorrt', 'Relu')])
def test_features_are_integers_first_for_onnx_runtime_alone(target, expected):
    graph = onnx.load_model_from_string(quantise(tiny(), [noise()], target)).graph
    makers = {name: node for node in graph.node for name in node.output}
    node = makers['features']
    while node.op_type == 'Squeeze':
        node = makers[node.input[0]]
    assert node.op_type == expected


@pytest.mark.parametrize('target', TARGETS)
def test_sizes_names_and_metadata_stay(target):
    before = onnx.load_model_from_string(tiny())
    network = quantise(tiny(), [noise()], target)
    after = onnx.load_model_from_string(network)
    onnx.checker.check_model(after)
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert list(after.metadata_props) == list(before.metadata_props)
    for height, width in ((1, 2), (3, 5), (20, 31)):
        assert run(network, noise(height, width)).shape == (2, height, width)


def test_ranges_are_those_of_all_frames():
    dark = np.full((4, 4, 3), 10, np.uint8)
    scales = [initialisers(quantise(tiny(), frames))['pixels_scale']
              for frames in ([dark], [dark, noise()], [noise(), dark])]
    # Of unsigned integers, 255 stands for the largest pixel.
    np.testing.assert_allclose(scales, [10 / 255, 1, 1], rtol=1e-6)


def test_frames_may_come_one_by_one():
    frames = [noise(seed=seed) for seed in range(3)]
    assert quantise(tiny(), iter(frames)) == quantise(tiny(), frames)


def test_progress_tells_of_the_frames(capfd):
    quantise(tiny(), [noise(), noise()])
    assert '2/2' in capfd.readouterr().err


def test_no_frame_is_refused():
    with pytest.raises(UnivsegError, match='calibration: no frame'):
        quantise(tiny(), iter(()))


@pytest.mark.parametrize('frame', [
    np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_a_frame_that_is_no_image_is_refused_by_its_number(frame):
    with pytest.raises(UnivsegError, match=r'calibration frame 2: expected shape \(any, any, 3\)'):
        quantise(tiny(), [noise(), frame])


def test_a_frame_of_another_size_is_refused_where_the_size_is_fixed():
    fixed = tiny(height=6, width=8)
    quantise(fixed, [noise(6, 8)])
    with pytest.raises(UnivsegError, match=r'expected shape \(6, 8, 3\).* got \(8, 6, 3\)'):
        quantise(fixed, [noise(8, 6)])


def test_a_full_disk_is_told_with_the_folder_that_has_no_room(full_disk):
    large = tiny(np.ones((512, 3, 4, 4), np.float32))
    with full_disk(), pytest.raises(UnivsegError) as error:
        quantise(large, [noise()])
    assert str(error.value) == (f'int8 is made in files of {gettempdir()}, which cannot be '
                                'written: File too large; TMPDIR names another folder')


def test_an_unknown_target_is_refused_with_those_there_are():
    with pytest.raises(UnivsegError, match=r"'tensort'.*onnx, openvino, tensorrt; did you mean "):
        quantise(tiny(), [noise()], 'tensort')


@pytest.mark.parametrize('package', ['onnx', 'onnxruntime'])
def test_a_missing_package_is_told_with_the_line_that_installs_it(monkeypatch, package):
    original = builtins.__import__

    def without(name, *args, **options):
        if name.partition('.')[0] == package:
            raise ImportError(f'No module named {name!r}')
        return original(name, *args, **options)

    network = tiny()
    for name in [each for each in sys.modules if each.startswith('onnxruntime.quantization')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(UnivsegError, match='pip install onnx onnxruntime'):
        quantise(network, [noise()])


def normalising(weights, mean, deviation, padding=1):
    """Return a network: image → normalised → 3×3 convolution with padding → features."""
    nodes = [
        helper.make_node('Transpose', ['image'], ['planes'], perm=[2, 0, 1]),
        helper.make_node('Unsqueeze', ['planes', 'axis'], ['batch']),
        helper.make_node('Cast', ['batch'], ['pixels'], to=TensorProto.FLOAT),
        helper.make_node('Sub', ['pixels', 'mean'], ['centred']),
        helper.make_node('Div', ['centred', 'deviation'], ['normal']),
        helper.make_node('Conv', ['normal', 'weights', 'bias'], ['values'], name='convolution',
                         pads=[padding] * 4),
        helper.make_node('Squeeze', ['values', 'axis'], ['features'])]
    sides = ['height', 'width']
    constants = {'mean': mean, 'deviation': deviation, 'weights': weights,
                 'bias': np.zeros(len(weights), np.float32), 'axis': np.array([0])}
    graph = helper.make_graph(
        nodes, 'normalising',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [*sides, 3])],
        [helper.make_tensor_value_info('features', TensorProto.FLOAT, [len(weights), *sides])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)],
                             ir_version=10).SerializeToString()


def test_pixels_are_the_integers_of_the_first_convolution():
    mean = np.array([120, 116, 105], np.float32).reshape(1, 3, 1, 1)
    deviation = np.array([50, 60, 40], np.float32).reshape(1, 3, 1, 1)
    weights = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)
    network = normalising(weights, mean, deviation)
    quantised = quantise(network, [noise()])
    kinds = {node.op_type for node in onnx.load_model_from_string(quantised).graph.node}
    assert not kinds & {'Cast', 'Sub', 'Div'}
    assert not {'mean', 'deviation'} & initialisers(quantised).keys()  # nobody uses them
    got, expected = run(quantised, noise()), run(network, noise())
    # Pixels are exact: what is left are steps of the weights, and of the features.
    scaled = np.abs(weights / deviation).max((1, 2, 3))
    step = 255 * 27 * scaled / 127 / 2 + np.ptp(expected) / 255
    difference = np.abs(got - expected)
    assert (difference[:, 1:-1, 1:-1] <= step[:, None, None]).all()
    # At the border, 114 stands beyond it in place of each channel's mean.
    beyond = np.abs(weights / deviation * (114 - mean)).sum((1, 2, 3))
    assert (difference <= (step + beyond)[:, None, None]).all()


def test_where_no_normalisation_comes_before_a_convolution_pixels_are_quantised_as_all_else():
    names = [node.op_type for node in onnx.load_model_from_string(
        quantise(tiny(), [noise()])).graph.node]
    assert 'Cast' in names
    assert 'QuantizeLinear' in names


def test_signed_integers_keep_the_normalisation():
    mean = np.full((1, 3, 1, 1), 127.5, np.float32)
    network = normalising(np.ones((1, 3, 3, 3), np.float32), mean, mean)
    nodes = onnx.load_model_from_string(quantise(network, [noise()], 'tensorrt')).graph.node
    assert {'Cast', 'Sub', 'Div'} <= {node.op_type for node in nodes}
