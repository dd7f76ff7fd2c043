"""A node that runs an exported model: without PyTorch, with the masks of the segmenter."""

from pathlib import Path
import signal

import cv2
from lifecycle_msgs.msg import State, Transition
import numpy as np
import pytest
from quick_model import write_quick_model
from robot import assert_shows, DOMAINS, expected_outputs, frame, Robot
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import Segmenter

SIZE = (48, 64)
ALONE = 'this model was exported for images that are seen at 64×48 alone'


@pytest.fixture(scope='module')
def exported_file(tmp_path_factory):
    """Return the path of a tiny model for images of one size."""
    pytest.importorskip('onnx', reason='needs the package onnx')
    path = tmp_path_factory.mktemp('exported') / 'tiny.onnx'
    write_quick_model(path, Domain.create('outdoor', ['road', 'sky', 'tree']),
                      Domain.create('indoor', ['floor', 'wall']), size=SIZE)
    return str(path)


@pytest.fixture(scope='module')
def robot(start, peer, exported_file):
    """Return a node that runs it by OpenVINO, and is active; at last it is interrupted."""
    robot = Robot(start, peer, 'exported', '-p', f'model:={exported_file}', '-p',
                  'precision:=fp32', '-p', 'backend:=openvino')
    robot.wait_until_active()
    yield robot
    robot.end(signal.SIGINT)


@pytest.fixture(scope='module')
def picture():
    """Return a picture (96, 128, 3) uint8 with patches of all colours."""
    patches = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(patches, (128, 96))


def loaded_libraries(process):
    return Path(f'/proc/{process.pid}/maps').read_text()


def test_masks_are_those_of_the_segmenter_and_domains_switch(robot, exported_file, picture):
    expected = Segmenter.load(exported_file, precision='fp32', backend='openvino')
    for domain in reversed(DOMAINS):
        assert robot.set_parameter('active_domains', [domain]).successful
        sent, mask = robot.segment(frame(picture), domain)
        assert_shows(mask, expected(picture, [domain])[domain].mask, sent.header)
        assert len(np.unique(mask.data)) > 1
    assert robot.set_parameter('active_domains', list(DOMAINS)).successful
    for (domain, name), array in expected_outputs(expected, picture).items():
        if name == 'confidence':
            sent, message = robot.segment(frame(picture), domain, name=name)
            assert_shows(message, array, sent.header)


def test_it_says_what_runs_it(robot):
    robot.process.wait_for('openvino runs it in fp32')
    _, message, values = robot.diagnostics()
    assert (values['backend'], values['precision'], values['device']) == (
        'openvino', 'fp32', 'cpu')
    assert (values['model'], values['inference size']) == ('tiny.onnx', '64')
    assert 'memory ran out' not in message


def test_neither_pytorch_nor_another_backend_is_in_its_memory(robot):
    libraries = loaded_libraries(robot.process)
    assert 'libopenvino' in libraries
    for other in ('libtorch', 'libc10', 'onnxruntime'):
        assert other not in libraries


def test_an_inference_size_that_the_file_cannot_take_is_refused(robot, picture):
    for size in (32, 65, 8192):
        result = robot.set_parameter('inference_size', size)
        assert not result.successful
        assert f'inference size {size}: {ALONE}' in result.reason
        assert robot.get_parameter('inference_size') == 0
    for size in (64, 0):
        assert robot.set_parameter('inference_size', size).successful
    robot.segment(frame(picture), 'outdoor')


def test_a_camera_of_another_shape_is_told_what_is_wrong(robot, picture):
    robot.outputs('outdoor', 'mask')
    square = frame(picture[:, :96])
    robot.publish(square(robot.peer.header()))
    robot.wait_for_diagnostics(
        lambda level, message, values: f'an image of 96×96: {ALONE}' in values.get(
            'last frame failed', ''))
    robot.segment(frame(picture), 'outdoor')


def test_a_backend_that_does_not_run_the_file_leaves_it_unconfigured(robot, picture,
                                                                    exported_file):
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert robot.change_state(transition)
    for name, value, reason in (
            ('backend', 'torch', "backend 'torch' does not run what `univseg export` made, which "
             'is for onnxruntime or openvino'),
            ('precision', 'int8', f"precision 'int8': {exported_file} was exported in fp32"),
            ('inference_size', 32, f'inference size 32: {ALONE}')):
        before = robot.get_parameter(name)
        assert robot.set_parameter(name, value).successful
        assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
        assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
        _, message, _ = robot.diagnostics()
        assert message.startswith(f'not configured: {reason}')
        assert robot.set_parameter(name, before).successful
    assert robot.set_parameter('backend', 'auto').successful
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert robot.change_state(transition)
    robot.segment(frame(picture), 'outdoor')
    values = robot.diagnostics()[2]
    times = {name: float(values[f'encoder by {name}, when compared [ms]'])
             for name in ('onnxruntime', 'openvino')}
    assert values['backend'] == min(times, key=times.__getitem__) or len({*times.values()}) == 1
    assert Path(f'{exported_file}.speed.json').is_file()
    assert 'libtorch' not in loaded_libraries(robot.process)
