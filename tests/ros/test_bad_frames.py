"""Frames that cannot be used, and cameras that do what they should not: the node goes on."""

import signal

from lifecycle_msgs.msg import State
import numpy as np
import pytest
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from robot import (
    assert_shows,
    CAMERA_QOS,
    fault,
    FAULTY_NODE,
    frame,
    PAUSE,
    Robot,
    SENSOR_QOS,
    serve_among,
)
from sensor_msgs.msg import Image
from univseg_core.inference.segmenter import Segmenter
from univseg_core.pictures.image_messages import decode
from univseg_ros.messages import rgb_message


@pytest.fixture(scope='module')
def robot(start, peer, model_file, fault_folder):
    """Return a node that is active, with the domain outdoor; at last it is interrupted."""
    robot = Robot(start, peer, 'robust', '-p', f'model:={model_file}', '-p', 'precision:=fp32',
                  run=(*FAULTY_NODE, str(fault_folder)))
    robot.wait_until_active()
    yield robot
    robot.end(signal.SIGINT)


def image_of(encoding, height, width, step, size):
    return lambda header: Image(
        header=header, encoding=encoding, height=height, width=width, step=step, data=bytes(size))


BAD = {
    'nothing at all': lambda header: Image(header=header),
    'no size': image_of('rgb8', 0, 0, 0, 0),
    'no height': image_of('rgb8', 0, 5, 15, 0),
    'no width': image_of('mono8', 5, 0, 0, 0),
    'no size, but data': image_of('rgb8', 0, 0, 0, 1000),
    'no data': image_of('rgb8', 20, 20, 60, 0),
    'too little data': image_of('rgb8', 20, 20, 60, 20 * 60 - 1),
    'too much data': image_of('rgb8', 20, 20, 60, 200 * 60 + 1),
    'no step': image_of('rgb8', 20, 20, 0, 20 * 60),
    'a step too small': image_of('rgb8', 20, 20, 59, 20 * 60),
    'an absurd step': image_of('rgb8', 20, 20, 2**32 - 1, 20 * 60),
    'absurd sizes': image_of('rgb8', 2**32 - 1, 2**32 - 1, 2**32 - 1, 1000),
    'sizes whose product is 0 in 32 bits': image_of('mono8', 2**16, 2**16, 2**16, 0),
    'an odd YUV width': image_of('yuv422', 20, 21, 42, 20 * 42),
    'an odd NV12 height': image_of('nv12', 21, 20, 20, 32 * 20),
    'a tiny Bayer pattern': image_of('bayer_rggb8', 1, 1, 1, 1),
    'distances': image_of('16UC1', 20, 20, 40, 20 * 40),
    'distances in metres': image_of('32FC1', 20, 20, 80, 20 * 80),
    'no encoding': image_of('', 20, 20, 60, 20 * 60),
    'an unknown encoding': image_of('rgb9', 20, 20, 60, 20 * 60),
    'an endless encoding': image_of('rgb8' * 10_000, 20, 20, 60, 20 * 60),
}


def test_bad_frames_are_counted_and_the_ones_among_them_served(robot, pictures):
    serve_among(robot, BAD.values(), frame(pictures[0]), 'outdoor')
    robot.process.wait_for('frame skipped, it cannot be decoded: image of encoding')
    level, message, values = robot.diagnostics()
    assert level == b'\x01'
    assert f'frames of the last 10 s could not be decoded: {values["last frame undecodable"]}' in (
        message)
    assert max(map(len, robot.process.output.splitlines())) < 1000


def test_bytes_that_are_no_message_are_survived(robot, peer, pictures):
    good = serialize_message(rgb_message(pictures[0], peer.header()))
    generator = np.random.default_rng(0)
    robot.segment(frame(pictures[0]), 'outdoor')
    for data in (b'', good[:4], good[:40], good[:-100], good[:4] + b'\xff' * 100,
                 good[:12] + b'\xff' * 8 + good[20:], generator.bytes(1000),
                 *(good[:4] + generator.bytes(length) for length in range(4, 60))):
        peer.publish(data, f'{robot.namespace}/image', CAMERA_QOS)
    for _ in range(3):
        robot.segment(frame(pictures[0]), 'outdoor')


def test_sizes_and_encodings_that_change_from_frame_to_frame(robot, segmenter):
    generator = np.random.default_rng(0)

    def message_of(encoding, shape, header, padding=0, dtype=np.uint8):
        pixels = generator.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        rows = np.pad(pixels.reshape(shape[0], -1).view(np.uint8), ((0, 0), (0, padding)))
        return Image(header=header, encoding=encoding, height=shape[0], width=shape[1],
                     step=rows.shape[1], data=rows.tobytes())

    for encoding, shape, options in [
            ('rgb8', (1, 1, 3), {}), ('rgb8', (1, 1000, 3), {}), ('mono8', (1000, 1), {}),
            ('bgr8', (37, 53, 3), {'padding': 1000}), ('mono16', (37, 53), {'dtype': np.uint16}),
            ('rgb16', (8, 9, 3), {'dtype': np.uint16, 'padding': 3}), ('rgba8', (60, 80, 4), {}),
            ('bayer_grbg8', (11, 13), {}), ('yuv422', (10, 12, 2), {}), ('8UC3', (2, 3, 3), {}),
            ('rgb8', (480, 640, 3), {})]:
        sent, mask = robot.segment(
            lambda header, encoding=encoding, shape=shape, options=options:
            message_of(encoding, shape, header, **options), 'outdoor')
        assert_shows(mask, segmenter(decode(sent))['outdoor'].mask, sent.header)


def test_an_8k_frame(robot, model_file):
    small = Segmenter.load(model_file, precision='fp32', inference_size=64)
    rows, columns = np.mgrid[:4320, :7680].astype(np.uint8)
    picture = np.stack([rows, columns, rows ^ columns], -1)
    assert robot.set_parameter('inference_size', 64).successful
    sent, mask = robot.segment(frame(picture), 'outdoor')
    assert_shows(mask, small(picture)['outdoor'].mask, sent.header)
    assert robot.set_parameter('inference_size', 0).successful


def test_a_failed_inference_is_counted_and_the_next_frame_served(
        robot, peer, fault_folder, pictures):
    robot.segment(frame(pictures[0]), 'outdoor')
    before = robot.count('failed')
    with fault(fault_folder, 'fail'):
        def is_told():
            robot.publish(rgb_message(pictures[0], peer.header()))
            peer.handle_for(PAUSE)
            return 'its segmentation failed: RuntimeError: told to fail' in robot.process.output

        # Not of each frame, lest the log overflow.
        peer.wait_until(is_told, 'a message in the log')
        _, message, values = robot.wait_for_diagnostics(
            lambda level, message, values: int(values['frames failed']) > before)
    assert 'failed in segmentation: ' in message
    assert 'RuntimeError: told to fail' in values['last frame failed']
    robot.segment(frame(pictures[0]), 'outdoor')
    assert robot.state() == State.PRIMARY_STATE_ACTIVE


def test_where_memory_runs_out_the_size_is_lowered_until_it_is_set_anew(
        robot, fault_folder, model_file, pictures):
    expected = Segmenter.load(model_file, precision='fp32')

    def assert_size(size):
        expected.inference_size = size
        sent, mask = robot.segment(frame(pictures[0]), 'outdoor')
        assert_shows(mask, expected(pictures[0])['outdoor'].mask, sent.header)

    longest = max(pictures[0].shape)
    with fault(fault_folder, 'memory', '40'):
        robot.segment(frame(pictures[0]), 'outdoor')
        lowered = longest * 3 // 4
        assert_size(lowered)
        robot.process.wait_for(
            f'out of memory at inference_size {longest}; from now on it is {lowered}')
        robot.wait_for_diagnostics(lambda level, message, values: level == b'\x01' and (
            f'memory ran out: inference_size is {lowered} instead of the size of the images'
            in message) and values['inference size'] == str(lowered))
        assert robot.get_parameter('inference_size') == 0
        # It is tried anew, and lowered anew.
        assert robot.set_parameter('inference_size', 48).successful
        assert_size(36)
        robot.wait_for_diagnostics(
            lambda level, message, values: 'inference_size is 36 instead of 48' in message)
    assert_size(36)
    assert robot.set_parameter('inference_size', 48).successful
    assert_size(48)
    assert robot.set_parameter('inference_size', 0).successful
    assert_size(None)
    robot.wait_for_diagnostics(lambda level, message, values: 'memory ran out' not in message)
    # Nothing can be smaller than this.
    before = robot.count('failed')
    with fault(fault_folder, 'memory', '1'):
        robot.publish(rgb_message(pictures[0], robot.peer.header()))
        robot.wait_for_diagnostics(
            lambda level, message, values: int(values['frames failed']) > before)
    assert robot.set_parameter('inference_size', 0).successful
    assert_size(None)


def test_cameras_that_leave_and_come_back_with_another_qos(robot, peer, pictures):
    topic = f'{robot.namespace}/image'
    for qos in (CAMERA_QOS, SENSOR_QOS, CAMERA_QOS, QoSProfile(depth=1), SENSOR_QOS, SENSOR_QOS):
        peer.stop_publishing(topic)
        for picture in pictures[:2]:
            robot.segment(frame(picture), 'outdoor', qos)
        peer.wait_until(lambda qos=qos: [
            endpoint.qos_profile.reliability
            for endpoint in peer.node.get_subscriptions_info_by_topic(topic)
        ] == [qos.reliability], 'the one subscription that matches')
        robot.segment(frame(pictures[0]), 'outdoor', qos)
