"""The node's parameters: what each does while it runs, and what is refused, also at start."""

import json
import signal
import time

from builtin_interfaces.msg import Time
import numpy as np
import pytest
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from robot import assert_shows, CAMERA_QOS, DOMAINS, expected_outputs, frame, Robot
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header
from univseg_ros.messages import rgb_message
from univseg_ros.parameters import PARAMETERS


@pytest.fixture(scope='module')
def robot(start, peer, quick_options):
    """Return a node that is active; at last it is interrupted."""
    robot = Robot(start, peer, 'tuned', *quick_options)
    robot.wait_until_active()
    yield robot
    assert robot.process.end(signal.SIGINT) == 0


@pytest.fixture
def tuned(robot):
    """Return the same node with its defaults, and set them again at last."""
    yield robot
    for name, spec in PARAMETERS.items():
        if spec.changes == 'always' and name != 'active_domains':
            assert robot.set_parameter(name, spec.default).successful


def test_every_parameter_is_described(robot, peer):
    names = list(PARAMETERS)
    response = peer.call(DescribeParameters, f'{robot.node}/describe_parameters',
                         DescribeParameters.Request(names=names))
    descriptors = {descriptor.name: descriptor for descriptor in response.descriptors}
    assert list(descriptors) == names
    for descriptor in descriptors.values():
        assert descriptor.description.endswith('.')
        assert descriptor.additional_constraints.endswith('.')
    assert 'auto, fp32, bf16, fp16, int8' in descriptors['precision'].additional_constraints
    assert descriptors['inference_size'].integer_range[0].to_value == 8192
    assert descriptors['confidence_threshold'].floating_point_range[0].to_value == 1.0
    assert descriptors['autostart'].read_only


def test_the_confidence_threshold_makes_pixels_unknown(tuned, quick_segmenter, pictures):
    assert tuned.set_parameter('active_domains', list(DOMAINS)).successful
    for threshold in (0.36, 0.5, 0.52, 1.0, 0.0):
        assert tuned.set_parameter('confidence_threshold', threshold).successful
        expected = expected_outputs(quick_segmenter, pictures[2], threshold=threshold)
        for (domain, name), array in expected.items():
            sent, message = tuned.segment(frame(pictures[2]), domain, name=name)
            assert_shows(message, array, sent.header)
    some_unknown = quick_segmenter(pictures[2], threshold=0.5)['outdoor'].mask
    assert 0 < np.mean(some_unknown == 255) < 1


def test_the_inference_size_is_the_segmenters(tuned, quick_segmenter, pictures):
    for size in (16, 33, 200, 8192 // 16, 0):
        assert tuned.set_parameter('inference_size', size).successful
        expected = quick_segmenter(pictures[0], inference_size=size)['outdoor']
        sent, mask = tuned.segment(frame(pictures[0]), 'outdoor')
        assert_shows(mask, expected.mask, sent.header)


def grown(robot, outcome, before, make_message):
    """Publish frames until more of them came to something than before."""
    for _ in range(20):
        robot.publish(make_message(robot.peer.header()))
        robot.peer.handle_for(0.02)
        robot.publish(make_message(robot.peer.header()))
        if robot.count(outcome) > before:
            return True
    return False


def test_max_rate_skips_frames_and_a_new_one_holds_at_once(tuned, pictures):
    make_message = frame(pictures[0])
    tuned.segment(make_message, 'outdoor')
    assert tuned.set_parameter('max_rate', 0.001).successful
    before = tuned.counts_at_rest()
    assert grown(tuned, 'limited', before['limited'], make_message)
    # The first one of a new rate may come at once, and one more to keep the rate on average.
    assert tuned.counts_at_rest()['published'] <= before['published'] + 2
    assert tuned.set_parameter('max_rate', 1000.0).successful
    tuned.segment(make_message, 'outdoor')
    assert tuned.set_parameter('max_rate', 0.001).successful
    assert tuned.set_parameter('max_rate', 0.0).successful
    tuned.segment(make_message, 'outdoor')


def stamped(picture, nanoseconds):
    def make_message(header):
        stamp = Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
        return rgb_message(picture, Header(stamp=stamp, frame_id='camera'))
    return make_message


def counter_of(first):
    """Return a function that makes stamps, in nanoseconds, none of which is there twice."""
    used = iter(range(first, first + 10**6))
    return lambda picture: lambda header: stamped(picture, next(used))(header)


def test_max_age_drops_old_frames_alone(tuned, pictures):
    old, new, future = (counter_of(time.time_ns() + seconds * 10**9)
                        for seconds in (-1000, 0, 10**6))
    assert tuned.set_parameter('max_age', 500.0).successful
    tuned.segment(new(pictures[0]), 'outdoor')
    tuned.segment(future(pictures[0]), 'outdoor')
    before = tuned.counts_at_rest()
    assert grown(tuned, 'stale', before['stale'], old(pictures[0]))
    assert tuned.counts_at_rest()['published'] == before['published']
    _, message, after = tuned.diagnostics()
    assert 'were too old: ' in message
    assert after['last frame stale'].startswith('100')
    assert after['last frame stale'].endswith(' s old; max_age is 500 s')
    # A stamp of zero has no age.
    tuned.masks('outdoor').clear()
    tuned.segment(lambda header: stamped(pictures[1], 0)(header), 'outdoor')
    assert tuned.set_parameter('max_age', 0.0).successful
    tuned.segment(old(pictures[0]), 'outdoor')


def test_max_age_is_that_of_simulated_time(start, peer, quick_model, pictures):
    robot = Robot(start, peer, 'simulated', '-p', f'model:={quick_model}', '-p',
                  'use_sim_time:=true', '-p', 'max_age:=5.0')
    robot.wait_until_active()
    clock = 0

    def at(seconds):
        def make_message(header):
            # The clock comes again and again, as from a bag.
            peer.publish(Clock(clock=Time(sec=clock)), '/clock', CAMERA_QOS)
            peer.handle_for(0.01)
            return counters.setdefault(seconds, counter_of(seconds * 10**9))(pictures[0])(header)
        return make_message

    counters = {}
    # Before there is any time, nothing is old.
    robot.segment(counter_of(50 * 10**9)(pictures[0]), 'outdoor')
    clock = 1000
    robot.segment(at(998), 'outdoor')
    assert grown(robot, 'stale', 0, at(990))
    assert robot.diagnostics()[2]['last frame stale'].startswith('10.0')
    clock = 1010
    peer.publish(Clock(clock=Time(sec=clock)), '/clock', CAMERA_QOS)
    assert grown(robot, 'stale', robot.count('stale'), at(998))
    # The bag begins anew.
    clock = 500
    robot.segment(at(499), 'outdoor')
    assert grown(robot, 'stale', robot.count('stale'), at(400))
    robot.end(signal.SIGINT)


def test_image_timeout_says_when_silence_is_told(tuned, pictures):
    tuned.segment(frame(pictures[0]), 'outdoor')
    assert tuned.set_parameter('image_timeout', 0.25).successful
    begin = tuned.process.line_count()
    level, message, _ = tuned.wait_for_diagnostics(
        lambda level, message, values: 'no image for' in message)
    assert level == b'\x02'
    assert 'is published by peer, who sends nothing; is the camera running?' in message
    tuned.process.wait_for('no image for', begin)
    assert tuned.set_parameter('image_timeout', 0.0).successful
    assert 'no image for' not in tuned.diagnostics()[1]


@pytest.mark.parametrize(('bad', 'reason'), [
    ({'confidence_threshold': 2.0}, 'confidence_threshold out of range'),
    ({'active_domains': ['cellar']}, "unknown domain 'cellar'"),
    ({'device': 'cuda'}, 'can only be set while the node is unconfigured'),
    ({'depth': 3}, 'can only be set while the node is not active'),
    ({'max_age': float('nan')}, 'max_age out of range'),
    ({'autostart': False}, 'read-only'),
    ({'model': 3}, 'Wrong parameter type'),
    ({'unheard_of': 1}, '')])
def test_a_set_with_one_bad_value_is_rejected_as_a_whole(
        tuned, quick_segmenter, pictures, bad, reason):
    good = {'max_rate': 500.0, 'inference_size': 20, 'active_domains': ['indoor']}
    assert tuned.set_parameter('active_domains', ['outdoor']).successful
    before = tuned.all_parameters()
    for values in ({**good, **bad}, {**bad, **good}):
        values['active_domains'] = bad.get('active_domains', good['active_domains'])
        result = tuned.set_parameters_together(**values)
        assert not result.successful
        assert reason in result.reason
    assert tuned.all_parameters() == before
    sent, mask = tuned.segment(frame(pictures[0]), 'outdoor')
    assert_shows(mask, quick_segmenter(pictures[0])['outdoor'].mask, sent.header)


def test_a_good_set_is_taken_as_a_whole(tuned, quick_segmenter, pictures):
    good = {'inference_size': 20, 'active_domains': ['indoor'], 'confidence_threshold': 0.7}
    assert tuned.set_parameters_together(**good).successful
    assert tuned.get_parameters(list(good)) == good
    sent, mask = tuned.segment(frame(pictures[0]), 'indoor')
    expected = quick_segmenter(pictures[0], threshold=0.7, inference_size=20)['indoor']
    assert_shows(mask, expected.mask, sent.header)
    assert tuned.set_parameter('active_domains', ['outdoor']).successful


@pytest.mark.parametrize('name', [name for name, spec in PARAMETERS.items()
                                  if isinstance(spec.default, float)])
@pytest.mark.parametrize('value', [
    float('nan'), float('inf'), float('-inf'), -0.001, 1e300, 'much', True, 1, [1.0]])
def test_what_is_no_number_of_the_range_is_rejected(robot, name, value):
    before = robot.get_parameter(name)
    result = robot.set_parameter(name, value)
    assert not result.successful
    assert name in result.reason or 'Wrong parameter type' in result.reason
    assert robot.get_parameter(name) == before


@pytest.mark.parametrize(('name', 'value'), [
    ('model', '/other.univseg'), ('device', 'cpu'), ('backend', 'torch'),
    ('precision', 'bf16'),
    ('image_transport', 'compressed'), ('reliability', 'reliable'), ('depth', 3)])
def test_what_a_running_node_was_made_with_stays(robot, name, value):
    before = robot.get_parameter(name)
    result = robot.set_parameter(name, value)
    assert not result.successful
    assert 'can only be set while the node is' in result.reason
    assert robot.get_parameter(name) == before


def test_the_qos_of_a_running_node_stays(robot):
    names = [name for name in robot.all_parameters() if name.startswith('qos_overrides.')]
    assert len([name for name in names if '/tuned/image.subscription' in name]) == 2
    for name, value in robot.get_parameters(names).items():
        assert not robot.set_parameter(name, value).successful


def test_the_edges_of_the_range_are_fine(tuned, pictures):
    # rclpy takes what is nearly the edge for the edge.
    for name, value in {'confidence_threshold': 1.0000005, 'max_rate': 1000.0005,
                        'max_age': 3600.001, 'image_timeout': 3600.001}.items():
        tuned.set_parameter(name, value)
        tuned.segment(frame(pictures[0]), 'outdoor')


def test_a_request_of_no_meaning_is_survived(robot, peer, pictures):
    client = peer.client(SetParameters, f'{robot.node}/set_parameters')
    begin = robot.process.line_count()
    client.call_async(SetParameters.Request(
        parameters=[ParameterMessage(name='max_rate', value=ParameterValue(type=99))]))
    robot.process.wait_for('99 is not a valid Parameter.Type', begin)
    assert not robot.set_parameter_of_type(
        Parameter('active_domains', Parameter.Type.NOT_SET)).successful
    robot.segment(frame(pictures[0]), 'outdoor')


# One process, as each would take its time to import PyTorch.
STARTS = """
import json, sys
from univseg_ros.segmentation_node import main
for arguments in json.loads(sys.argv[1]):
    print('begin', flush=True)
    print('exit code', main(['--ros-args', *arguments]), flush=True)
"""

BAD_AT_START = {
    'precision:=fp8': "'fp8' is not one of auto, fp32, bf16, fp16, int8",
    'backend:=tensorflow': "'tensorflow' is not one of auto, torch, onnxruntime, openvino",
    'image_transport:=theora': "'theora' is not one of raw, compressed",
    'reliability:=perfect': "'perfect' is not one of auto, reliable, best_effort",
    'depth:=0': 'depth out of range',
    'depth:=101': 'depth out of range',
    'inference_size:=-1': 'inference_size out of range',
    'inference_size:=8193': 'inference_size out of range',
    'inference_size:=0.5': "'inference_size'",
    'confidence_threshold:=1.5': 'confidence_threshold out of range',
    'confidence_threshold:=.nan': 'confidence_threshold out of range',
    'max_rate:=-1.0': 'max_rate out of range',
    'max_rate:=.inf': 'max_rate out of range',
    'max_age:=-0.1': 'max_age out of range',
    'image_timeout:=4000.0': 'image_timeout out of range',
    'model:=3': "'model'",
    'autostart:=maybe': "'autostart'",
    "active_domains:=['Out door']": "'Out door' cannot be the name of a domain",
    "active_domains:=['indoor','indoor']": 'named twice',
    'active_domains:=indoor': "'active_domains'",
    'active_domains:=[]': 'active_domains',
}


def test_values_at_start_are_judged_as_later_ones(start):
    process = start('-c', STARTS, json.dumps([['-p', argument] for argument in BAD_AT_START]))
    assert process.end() == 0
    outputs = process.output.split('begin\n')[1:]
    assert len(outputs) == len(BAD_AT_START)
    for (argument, reason), output in zip(BAD_AT_START.items(), outputs, strict=True):
        line, code = output.splitlines()
        assert 'a parameter cannot be used: ' in line
        assert reason in line, argument
        assert code == 'exit code 1', argument


def test_a_bad_value_at_start_is_an_exit_code(start):
    process = start('-m', 'univseg_ros.segmentation_node', '--ros-args', '-p', 'precision:=fp8')
    assert process.end() == 1
    assert "'fp8' is not one of auto, fp32, bf16, fp16, int8" in process.output
    assert 'Traceback' not in process.output
