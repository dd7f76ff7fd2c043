"""What the node says of itself, part by part and from a process that something is wrong with."""

from collections import Counter
from contextlib import contextmanager
from pathlib import Path
import signal
from types import SimpleNamespace

import cv2
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
import pytest
from rclpy.clock import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from robot import CAMERA_QOS, Robot, SENSOR_QOS
from sensor_msgs.msg import CompressedImage, Image
from univseg_ros.diagnostics import (
    Diagnostics,
    Finding,
    frame_findings,
    frame_values,
    memory_values,
    model_values,
    QUIET,
    size_finding,
)
from univseg_ros.findings import status_of
from univseg_ros.messages import rgb_message
from univseg_ros.statistics import OUTCOMES, Summary

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def summary(counts=(), reasons=None, in_work=0.0, output_rate=0.0, times=None):
    return Summary(Counter(dict(counts)), reasons or {}, 12.3401, output_rate, times or {},
                   in_work)


def test_a_status_has_the_worst_level_and_tells_the_worst_first_in_the_order_found():
    found = [Finding(OK, 'a'), Finding(WARN, 'b'), Finding(ERROR, 'c'), Finding(OK, 'd'),
             Finding(ERROR, 'e'), Finding(WARN, 'f')]
    message = status_of('x: segmentation', found, {'device': 'cpu', 'k': 'v'}, QUIET)
    assert message.level == ERROR
    assert message.message == 'c; e; b; f; a; d'
    assert (message.name, message.hardware_id) == ('x: segmentation', 'cpu')
    assert [(each.key, each.value) for each in message.values] == [('device', 'cpu'), ('k', 'v')]


def test_a_status_without_findings_says_so():
    message = status_of('x', [], {}, QUIET)
    assert (message.level, message.hardware_id) == (OK, '')
    assert message.message == 'no frame was segmented in the last 10 s'


@pytest.mark.parametrize(('outcome', 'words'), [
    ('undecodable', 'could not be decoded'), ('failed', 'failed in segmentation'),
    ('stale', 'were too old')])
def test_trouble_is_an_error_only_where_nothing_gets_through(outcome, words):
    reasons = {outcome: 'why'}
    text = f'3 frames of the last 10 s {words}: why'
    assert frame_findings(summary({outcome: 3}, reasons), 5.0) == [Finding(ERROR, text)]
    # What nobody watches was not tried.
    assert frame_findings(summary({outcome: 3, 'unwatched': 9}, reasons), 5.0)[0] == Finding(
        ERROR, text)
    some_got_through = summary({outcome: 3, 'published': 1}, reasons, output_rate=0.1)
    assert frame_findings(some_got_through, 5.0) == [
        Finding(WARN, text), Finding(OK, 'segmenting 0.1 frames a second')]


def test_each_trouble_is_told():
    counts = {'undecodable': 1, 'failed': 2, 'stale': 3}
    found = frame_findings(summary(counts, dict.fromkeys(counts, 'why')), 5.0)
    assert [finding.text.split()[0] for finding in found] == ['1', '2', '3']


@pytest.mark.parametrize('outcome', ['replaced', 'limited', 'stopped'])
def test_what_has_to_be_is_no_trouble(outcome):
    assert frame_findings(summary({outcome: 9}), 5.0) == []
    assert frame_findings(summary({outcome: 9, 'published': 99}, output_rate=9.94), 5.0) == [
        Finding(OK, 'segmenting 9.9 frames a second')]


def test_unwatched_frames_are_told_unless_others_are_published():
    told = Finding(OK, 'nobody subscribes to an active domain: nothing is computed')
    assert frame_findings(summary({'unwatched': 2}), 5.0) == [told]
    assert told not in frame_findings(summary({'unwatched': 2, 'published': 1}), 5.0)


@pytest.mark.parametrize(('in_work', 'timeout', 'told'), [
    (5.0, 5.0, False), (8.4, 5.0, True), (8.4, 0.0, False), (0.0, 0.001, False)])
def test_a_frame_that_takes_too_long_is_told(in_work, timeout, told):
    found = frame_findings(summary(in_work=in_work), timeout)
    assert found == ([Finding(ERROR, 'one frame has been in work for 8 s')] if told else [])


def test_values_are_in_hertz_and_milliseconds():
    totals = {'received': 7, **dict.fromkeys(OUTCOMES, 1)}
    values = frame_values(summary(
        reasons={'stale': 'why'}, output_rate=2 / 3,
        times={'latency': (0.0123456, 1.5), 'own_cost': (0.0, -0.001)}), totals)
    assert values == {
        'input rate [Hz]': '12.34',
        'output rate [Hz]': '0.67',
        'latency, median [ms]': '12.35', 'latency, 95th percentile [ms]': '1500.00',
        'own cost, median [ms]': '0.00', 'own cost, 95th percentile [ms]': '-1.00',
        'frames received': '7', **{f'frames {outcome}': '1' for outcome in OUTCOMES},
        'last frame stale': 'why'}


def test_values_of_the_model():
    segmenter = SimpleNamespace(
        card=SimpleNamespace(miou={'outdoor': 0.5049, 'indoor': 1.0}), domains={'a': 0, 'b': 1},
        device='cpu', backend='openvino', precision='bf16',
        measured={'onnxruntime': 31.04, 'openvino': 20})
    assert model_values(segmenter, '~/models/first.univseg', 'abc') == {
        'model': 'first.univseg', 'model sha256': 'abc', 'domains': 'a, b',
        'mIoU of outdoor [%]': '50.5', 'mIoU of indoor [%]': '100.0', 'device': 'cpu',
        'backend': 'openvino', 'encoder by onnxruntime, when compared [ms]': '31.0',
        'encoder by openvino, when compared [ms]': '20.0', 'precision': 'bf16'}
    segmenter.card.miou = None
    values = model_values(segmenter, '', '')
    assert not any(key.startswith('mIoU') for key in values)


@pytest.mark.parametrize(('size', 'own', 'told'), [
    (119, 240, '120 to 480 pixels, and the inference size is 119'), (120, 240, ''),
    (480, 240, ''), (481, 240, '120 to 480 pixels, and the inference size is 481'),
    (31, 63, '32 to 126 pixels, and the inference size is 31'), (32, 63, ''),
    (None, 240, ''), (8192, None, '')])
def test_an_inference_size_beyond_the_evidence_is_told(size, own, told):
    found = size_finding(size, own)
    assert bool(found) == bool(told)
    for finding in found:
        assert finding.level == WARN
        assert told in finding.text
        assert 'set inference_size' in finding.text


def test_memory_is_that_of_the_process():
    assert 20 < float(memory_values(None)['memory [MB]']) < 1e6
    assert 'GPU memory [MB]' not in memory_values(SimpleNamespace(device='cpu'))


def test_it_is_published_once_a_second_also_while_simulated_time_stands_still(ros_domain, peer):
    node = Node('standing', namespace='/deep/down', parameter_overrides=[
        Parameter('use_sim_time', value=True)])
    Diagnostics(node, {'segmentation': lambda: ([Finding(WARN, 'hm')], {'k': 'v'})})
    timer, = node.timers
    assert timer.timer_period_ns == 10**9
    assert timer.clock.clock_type == ClockType.STEADY_TIME
    received = peer.collect(DiagnosticArray, '/diagnostics', 10)

    def own():
        peer.rclpy.spin_once(node, timeout_sec=0.05)
        return [message for message in received
                if message.status[0].name == 'deep/down/standing: segmentation']

    first = peer.wait_until(own, 'diagnostics')[0]
    node.destroy_node()
    assert first.header.stamp.sec == 0
    assert (first.status[0].level, first.status[0].message) == (WARN, 'hm')


@pytest.fixture(scope='module')
def robot(start, peer, quick_model, quick_options, tmp_path_factory):
    """Return a node whose model is missing at first, then active, and which soon misses images."""
    missing = tmp_path_factory.mktemp('none') / 'missing.univseg'
    options = [option.replace(quick_model, str(missing)) for option in quick_options]
    robot = Robot(start, peer, 'telling', *options, '-p', 'image_timeout:=0.3')
    robot.process.wait_for('not configured')

    level, message, values = robot.diagnostics()
    assert level == ERROR
    assert message.startswith(f'not configured: {missing}: no such model file')
    assert message.endswith('; not active: the node is unconfigured')
    assert values.keys() == {'memory [MB]'}

    assert robot.set_parameter('model', quick_model).successful
    assert robot.change_state(Transition.TRANSITION_CONFIGURE)
    level, message, values = robot.wait_for_diagnostics(
        lambda level, message, values: 'inactive' in message)
    assert (level, message) == (WARN, 'not active: the node is inactive')
    assert values['model'] == Path(quick_model).name
    assert len(values['model sha256']) == 64
    assert values['domains'] == 'outdoor, indoor'
    assert 'active domains' not in values

    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    yield robot
    assert robot.process.end(signal.SIGINT) == 0
    assert 'Traceback' not in robot.process.output


@pytest.fixture
def fresh_robot(robot):
    """Return that node, activated anew, so that nothing is left of other tests' frames."""
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    return robot


@contextmanager
def publisher(robot, type_, topic, qos=CAMERA_QOS, message=None):
    """Publish nothing, or a message twenty times a second, on a topic of the robot."""
    node = robot.peer.node
    publisher = node.create_publisher(type_, f'{robot.namespace}/{topic}', qos)
    timer = node.create_timer(0.05, lambda: publisher.publish(message)) if message else None
    try:
        yield
    finally:
        if timer is not None:
            node.destroy_timer(timer)
        node.destroy_publisher(publisher)


def told(robot, *texts):
    """Return the first level, message and values with all of some texts in the message."""
    return robot.wait_for_diagnostics(
        lambda level, message, values: all(text in message for text in texts))


def test_without_a_publisher_the_topics_that_there_are_are_listed(robot):
    level, message, _ = told(
        robot, 'nobody publishes /telling/image (sensor_msgs/msg/Image); no topic of this type')
    assert level == ERROR
    assert message.startswith('no image for ')
    with publisher(robot, Image, 'front/image_raw'), publisher(robot, Image, 'rear/image_raw'), \
            publisher(robot, CompressedImage, 'side/compressed'):
        told(robot, 'topics of this type are /telling/front/image_raw, /telling/rear/image_raw; '
             'remap with, for example, --ros-args -r image:=/telling/front/image_raw')


def test_compressed_images_instead_of_raw_ones(robot):
    with publisher(robot, CompressedImage, 'image/compressed'):
        level, _, _ = told(robot, 'nobody publishes /telling/image (sensor_msgs/msg/Image); but '
                           '/telling/image/compressed is published: set image_transport to '
                           'compressed')
        assert level == ERROR


def test_a_topic_of_another_type(robot):
    with publisher(robot, CompressedImage, 'image'):
        level, _, _ = told(
            robot, '/telling/image is published by peer as sensor_msgs/msg/CompressedImage, but '
            'sensor_msgs/msg/Image is expected')
        assert level == ERROR


def test_a_camera_that_sends_nothing(robot):
    with publisher(robot, Image, 'image', SENSOR_QOS):
        level, _, values = told(robot, '/telling/image is published by peer, who sends nothing')
        assert level == ERROR
        assert values['image topic'] == '/telling/image'


def test_a_reliability_that_does_not_match(robot):
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    assert robot.set_parameter('reliability', 'reliable').successful
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    with publisher(robot, Image, 'image', SENSOR_QOS):
        level, _, _ = told(robot, '/telling/image is published by peer as best effort, but the '
                           'parameter reliability asks for reliable; set it to auto')
        assert level == ERROR
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    assert robot.set_parameter('reliability', 'auto').successful
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)


def test_frames_that_nobody_watches(fresh_robot, image):
    with publisher(fresh_robot, Image, 'image',
                   message=rgb_message(image, fresh_robot.peer.header())):
        level, _, values = told(fresh_robot, 'nobody subscribes to an active domain')
        assert level == OK
        assert float(values['output rate [Hz]']) == 0
        assert int(values['frames unwatched']) > 0


def test_bad_frames_are_an_error_until_good_ones_come_and_then_a_warning(fresh_robot, image):
    robot = fresh_robot
    subscription = robot.peer.node.create_subscription(
        Image, f'{robot.node}/outdoor/mask', lambda message: None, CAMERA_QOS)
    header = robot.peer.header()
    bad = rgb_message(image, header)
    bad.encoding = 'rgb9'
    png = CompressedImage(header=header, data=cv2.imencode('.png', image)[1].tobytes())
    with publisher(robot, CompressedImage, 'image/compressed', message=png):
        with publisher(robot, Image, 'image', message=bad):
            level, message, values = told(robot, 'could not be decoded')
            assert level == ERROR
            assert "'rgb9'" in message
            assert "'rgb9'" in values['last frame undecodable']
            assert values['frames published'] == '0'
        with publisher(robot, Image, 'image', message=rgb_message(image, header)):
            level, message, values = told(robot, 'segmenting')
            assert level == WARN
            assert message.index('could not be decoded') < message.index('segmenting')
    counts = {key: int(value) for key, value in values.items() if key.startswith('frames ')}
    received = counts.pop('frames received')
    assert 0 <= received - sum(counts.values()) <= 2  # in work and waiting
    robot.peer.node.destroy_subscription(subscription)


def test_a_stream_is_fine_and_its_values_are_there(fresh_robot, image):
    robot = fresh_robot
    subscription = robot.peer.node.create_subscription(
        Image, f'{robot.node}/outdoor/mask', lambda message: None, CAMERA_QOS)
    with publisher(robot, Image, 'image', message=rgb_message(image, robot.peer.header())):
        level, message, values = told(robot, 'segmenting')
    assert level == OK
    assert message == f'segmenting {float(values["output rate [Hz]"]):.1f} frames a second'
    assert values['active domains'] == 'outdoor'
    assert values['device'] == 'cpu'
    assert 0 < float(values['inference, median [ms]']) <= float(values['latency, median [ms]'])
    assert (float(values['latency, median [ms]'])
            <= float(values['latency, 95th percentile [ms]']))
    robot.peer.node.destroy_subscription(subscription)
