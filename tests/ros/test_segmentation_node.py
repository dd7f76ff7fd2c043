"""The node in a process of its own, driven through topics, parameters and lifecycle services."""

from collections import Counter
import json
from pathlib import Path
import signal

import cv2
from lifecycle_msgs.msg import State, Transition
import numpy as np
import pytest
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from robot import CAMERA_QOS, frame, frame_counts, LATCHED_QOS, PAUSE, Robot, SENSOR_QOS
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from univseg_core.domains import Domain
from univseg_core.inference import Segmenter
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_ros.messages import decode, rgb_message
from univseg_ros.parameters import PARAMETERS


@pytest.fixture(scope='module')
def robot(start, peer, model_file):
    """Return a node that is active, with the domain outdoor; at last it is interrupted."""
    robot = Robot(start, peer, 'serving', '-p', f'model:={model_file}', '-p', 'precision:=fp32')
    robot.wait_until_active()
    yield robot
    begin = robot.process.line_count()
    assert robot.process.end(signal.SIGINT) == 0
    assert frame_counts(robot.process.wait_for('stopped; frames', begin))['failed'] == 0
    assert 'rosout' not in robot.process.output
    assert 'Traceback' not in robot.process.output


@pytest.fixture
def outdoor_robot(robot):
    """Return the same node with the domain outdoor set, whatever was set before."""
    assert robot.set_parameter('active_domains', ['outdoor']).successful
    return robot


@pytest.mark.parametrize('domain', ['outdoor', 'indoor'])
def test_masks_are_those_of_the_segmenter(robot, model_file, image, domain):
    assert robot.set_parameter('active_domains', [domain]).successful
    expected = Segmenter.load(model_file, precision='fp32')(image, [domain])[domain].mask
    assert len(np.unique(expected)) > 1
    sent, mask = robot.segment(frame(image), domain)
    assert mask.header == sent.header
    assert (mask.height, mask.width, mask.encoding) == (37, 53, 'mono8')
    assert (decode(mask)[..., 0] == expected).all()


def test_label_maps_are_there_for_who_comes_late(robot, peer):
    latest = {name: peer.collect(String, f'{robot.node}/{name}/label_map', LATCHED_QOS)
              for name in ('outdoor', 'indoor')}
    active = peer.collect(String, f'{robot.node}/active_domains', LATCHED_QOS)
    peer.wait_until(lambda: all([*latest.values(), active]), 'latched messages')
    label_map = json.loads(latest['indoor'][0].data)
    assert label_map['domain'] == 'indoor'
    assert label_map['unknown'] == 255
    assert [(entry['index'], entry['name']) for entry in label_map['classes']] == [
        (0, 'floor'), (1, 'wall')]
    assert all(len(entry['colour']) == 3 for entry in label_map['classes'])
    assert len(json.loads(latest['outdoor'][0].data)['classes']) == 3
    assert json.loads(active[0].data) == robot.get_parameter('active_domains')


def test_a_switch_while_frames_stream(outdoor_robot, peer, image):
    robot = outdoor_robot
    robot.segment(frame(image), 'outdoor')
    for domain in ('outdoor', 'indoor'):
        robot.masks(domain).clear()
    sent = []

    def stream_until(condition):
        while not condition():
            message = rgb_message(image, peer.header())
            sent.append(message.header.stamp.sec)
            peer.publish(message, f'{robot.namespace}/image', CAMERA_QOS)
            peer.rclpy.spin_once(peer.node, timeout_sec=0.02)

    stream_until(lambda: len(robot.masks('outdoor')) >= 5)
    client = peer.node.create_client(SetParameters, f'{robot.node}/set_parameters')
    peer.wait_until(client.service_is_ready, 'the parameter service')
    future = client.call_async(SetParameters.Request(
        parameters=[Parameter('active_domains', value=['indoor']).to_parameter_msg()]))
    stream_until(future.done)
    assert future.result().results[0].successful
    switched = sent[-1]
    stream_until(lambda: len(robot.masks('indoor')) >= 5)

    stamps = {domain: [mask.header.stamp.sec for mask in robot.masks(domain)]
              for domain in ('outdoor', 'indoor')}
    assert Counter(stamps['outdoor'] + stamps['indoor']).most_common(1)[0][1] == 1
    assert max(stamps['outdoor']) < min(stamps['indoor'])
    # One frame may have been in work, and one in the mailbox, when the switch was made.
    assert max(stamps['outdoor']) <= switched


def test_two_domains_give_one_full_set_for_each_frame(outdoor_robot, peer, image):
    robot = outdoor_robot
    assert robot.set_parameter('active_domains', ['outdoor', 'indoor']).successful
    robot.segment(frame(image), 'outdoor')
    robot.segment(frame(image), 'indoor')
    stamps = []
    for _ in range(5):
        sent, _ = robot.segment(frame(image), 'outdoor')
        stamps.append(sent.header.stamp)
        peer.wait_until(lambda: robot.mask_of(stamps[-1], 'indoor'), 'the other mask')
    for domain in ('outdoor', 'indoor'):
        counts = Counter(mask.header.stamp.sec for mask in robot.masks(domain))
        assert [counts[stamp.sec] for stamp in stamps] == [1] * 5


@pytest.mark.parametrize(('value', 'reasons'), [
    (['cellar'], ["unknown domain 'cellar'", 'outdoor, indoor']),
    (['indoor', 'cellar'], ["unknown domain 'cellar'", 'outdoor, indoor']),
    (['indoor', 'indoor'], ['named twice']),
    ([''], ["unknown domain ''"]),
])
def test_a_rejected_switch_says_why_and_changes_nothing(robot, peer, image, value, reasons):
    # So that a mask of indoor would be seen.
    assert robot.set_parameter('active_domains', ['indoor']).successful
    robot.segment(frame(image), 'indoor')
    assert robot.set_parameter('active_domains', ['outdoor']).successful
    result = robot.set_parameter('active_domains', value)
    assert not result.successful
    for reason in reasons:
        assert reason in result.reason
    assert robot.get_parameter('active_domains') == ['outdoor']
    sent, _ = robot.segment(frame(image), 'outdoor')
    peer.handle_for(PAUSE)
    assert robot.mask_of(sent.header.stamp, 'indoor') is None


def test_no_domain_at_all_is_rejected(outdoor_robot, peer):
    empty = Parameter('active_domains', Parameter.Type.STRING_ARRAY, [])
    result = peer.call(SetParameters, f'{outdoor_robot.node}/set_parameters',
                       SetParameters.Request(parameters=[empty.to_parameter_msg()])).results[0]
    assert not result.successful
    assert 'at least one domain; this model has outdoor, indoor' in result.reason


@pytest.mark.parametrize(('name', 'value'), [
    ('model', '/other.univseg'), ('device', 'cpu'), ('precision', 'bf16'),
    ('image_transport', 'compressed'), ('reliability', 'reliable'), ('depth', 3)])
def test_what_a_running_node_was_made_with_stays(outdoor_robot, name, value):
    before = outdoor_robot.get_parameter(name)
    result = outdoor_robot.set_parameter(name, value)
    assert not result.successful
    assert 'can only be set while the node is' in result.reason
    assert outdoor_robot.get_parameter(name) == before


def test_every_parameter_is_described(robot, peer):
    names = list(PARAMETERS)
    response = peer.call(DescribeParameters, f'{robot.node}/describe_parameters',
                         DescribeParameters.Request(names=names))
    descriptors = {descriptor.name: descriptor for descriptor in response.descriptors}
    assert list(descriptors) == names
    for descriptor in descriptors.values():
        assert descriptor.description.endswith('.')
        assert descriptor.additional_constraints.endswith('.')
    assert 'auto, fp32, bf16' in descriptors['precision'].additional_constraints
    assert descriptors['inference_size'].integer_range[0].to_value == 8192
    assert descriptors['confidence_threshold'].floating_point_range[0].to_value == 1.0
    assert descriptors['autostart'].read_only


def unsupported_encoding(image, header):
    return Image(header=header, height=2, width=2, step=4, encoding='16UC1', data=bytes(8))


def short_data(image, header):
    message = rgb_message(image, header)
    message.data = message.data[:-1]
    return message


def zero_size(image, header):
    return Image(header=header, encoding='rgb8')


@pytest.mark.parametrize('make_bad', [unsupported_encoding, short_data, zero_size])
def test_bad_frames_are_counted_and_the_next_ones_served(outdoor_robot, peer, image, make_bad):
    robot = outdoor_robot
    for _ in range(20):  # a frame may come too late, when the node is already deactivated
        robot.segment(frame(image), 'outdoor')
        assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
        robot.segment(frame(image), 'outdoor')
        peer.publish(make_bad(image, peer.header()), f'{robot.namespace}/image', CAMERA_QOS)
        peer.handle_for(PAUSE)
        begin = robot.process.line_count()
        assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
        counts = frame_counts(robot.process.wait_for('stopped; frames', begin))
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
        assert counts['failed'] == 0
        assert counts['published'] >= 1
        assert counts['received'] == sum(counts.values()) - counts['received']
        if counts['undecodable']:
            break
    assert counts['undecodable'] == 1
    robot.process.wait_for('frame skipped, it cannot be decoded: image of encoding')
    robot.segment(frame(image), 'outdoor')


def test_nothing_is_computed_when_nobody_listens(start, peer, model_file, image):
    robot = Robot(start, peer, 'unheard', '-p', f'model:={model_file}')
    robot.wait_until_active()
    for _ in range(20):  # a frame may be lost while subscriptions are being matched
        begin = robot.process.line_count()
        for _ in range(3):
            peer.publish(rgb_message(image, peer.header()), f'{robot.namespace}/image', CAMERA_QOS)
            peer.handle_for(PAUSE)
        assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
        counts = frame_counts(robot.process.wait_for('stopped; frames', begin))
        assert counts['published'] == 0
        if counts['unwatched']:
            break
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    assert counts['unwatched']
    assert robot.process.end(signal.SIGTERM) == 0


def truncated(path, model_file):
    path.write_bytes(Path(model_file).read_bytes()[:-100])


def no_model(path, model_file):
    path.write_text('a text, not a model')


def newer(path, model_file):
    data = Path(model_file).read_bytes()
    assert data.count(b'format_version\\": 1,') == 1
    path.write_bytes(data.replace(b'format_version\\": 1,', b'format_version\\": 9,'))


def missing(path, model_file):
    pass


@pytest.fixture(scope='module')
def idle(start, peer, tmp_path_factory):
    """Return a node whose model file is missing."""
    path = tmp_path_factory.mktemp('idle') / 'missing.univseg'
    robot = Robot(start, peer, 'idle', '-p', f'model:={path}', '-r', 'image:=camera/image_raw')
    robot.process.wait_for(f'not configured: {path}: no such model file')
    return robot


def test_a_missing_model_leaves_the_node_up(idle):
    assert idle.state() == State.PRIMARY_STATE_UNCONFIGURED


@pytest.mark.parametrize(('make', 'reason'), [
    (missing, 'no such model file'), (truncated, 'truncated, damaged or not a model file'),
    (no_model, 'truncated, damaged or not a model file'), (newer, 'format version 9 is newer')])
def test_a_bad_model_is_named(idle, model_file, tmp_path, make, reason):
    path = tmp_path / f'{make.__name__}.univseg'
    make(path, model_file)
    assert idle.set_parameter('model', str(path)).successful
    assert not idle.change_state(Transition.TRANSITION_CONFIGURE)
    idle.process.wait_for(f'{path}: {reason}')
    assert idle.state() == State.PRIMARY_STATE_UNCONFIGURED


def test_before_configuring_only_the_form_of_a_domain_is_judged(idle, model_file):
    result = idle.set_parameter('active_domains', ['Out door'])
    assert not result.successful
    assert "'Out door' cannot be the name of a domain" in result.reason
    assert idle.set_parameter('active_domains', ['cellar']).successful
    assert idle.set_parameter('model', model_file).successful
    assert not idle.change_state(Transition.TRANSITION_CONFIGURE)
    idle.process.wait_for("unknown domain 'cellar'; this model has outdoor, indoor")
    assert idle.set_parameter('active_domains', ['']).successful


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('precision', 'fp8', "'fp8' is not one of auto, fp32, bf16"),
    ('image_transport', 'theora', "'theora' is not one of raw, compressed"),
    ('inference_size', -1, 'out of range'), ('model', 3, 'Wrong parameter type'),
    ('autostart', False, 'read-only')])
def test_a_value_outside_the_description_is_rejected(idle, name, value, reason):
    result = idle.set_parameter(name, value)
    assert not result.successful
    assert reason in result.reason


def test_a_good_model_can_follow_and_compressed_images_be_used(idle, peer, model_file, image):
    assert idle.set_parameter('model', model_file).successful
    assert idle.set_parameter('image_transport', 'compressed').successful
    assert idle.change_state(Transition.TRANSITION_CONFIGURE)
    assert idle.get_parameter('active_domains') == ['outdoor']
    assert idle.change_state(Transition.TRANSITION_ACTIVATE)
    assert idle.state() == State.PRIMARY_STATE_ACTIVE
    line = idle.process.wait_for('no image for')
    assert f'nobody publishes {idle.namespace}/camera/image_raw/compressed' in line

    png = cv2.imencode('.png', image[..., ::-1])[1].tobytes()
    sent, mask = idle.segment(
        lambda header: CompressedImage(header=header, format='png', data=png), 'outdoor',
        SENSOR_QOS, 'camera/image_raw/compressed')
    expected = Segmenter.load(model_file)(image, ['outdoor'])['outdoor'].mask
    assert mask.header == sent.header
    assert (decode(mask)[..., 0] == expected).all()

    assert idle.change_state(Transition.TRANSITION_DEACTIVATE)
    assert idle.change_state(Transition.TRANSITION_CLEANUP)
    assert idle.set_parameter('image_transport', 'raw').successful
    assert idle.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert idle.process.end(signal.SIGTERM) == 0
    assert 'Traceback' not in idle.process.output


def test_a_model_with_other_domains_can_follow(start, peer, model_file, tmp_path, image):
    other = tmp_path / 'other.univseg'
    save_model(other, UniversalSegmenter(ModelSpec(width=1 / 16, embedding_dim=8),
                                         [Domain.create('garden', ['grass', 'path'])]),
               ModelCard())
    robot = Robot(start, peer, 'following', '-p', f'model:={model_file}')
    robot.wait_until_active()
    assert robot.get_parameter('active_domains') == ['outdoor']
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    assert robot.set_parameter('active_domains', ['indoor']).successful
    assert robot.change_state(Transition.TRANSITION_CLEANUP)
    assert robot.get_parameter('active_domains') == ['']
    assert robot.set_parameter('model', str(other)).successful
    assert robot.change_state(Transition.TRANSITION_CONFIGURE)
    assert robot.get_parameter('active_domains') == ['garden']
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    robot.segment(frame(image), 'garden')
    assert robot.process.end(signal.SIGINT) == 0
    assert 'Traceback' not in robot.process.output


def test_domains_that_were_asked_for_outlast_a_cleanup_and_so_do_qos_overrides(
        start, peer, model_file):
    topic = '/overridden/univseg/{}/mask'
    robot = Robot(start, peer, 'overridden', '-p', f'model:={model_file}', '-p',
                  "active_domains:=['indoor']", '-p',
                  f'qos_overrides.{topic.format("outdoor")}.publisher.reliability:=best_effort')
    robot.wait_until_active()

    def reliability(domain):
        publishers = peer.wait_until(
            lambda: peer.node.get_publishers_info_by_topic(topic.format(domain)), 'a publisher')
        return publishers[0].qos_profile.reliability

    for _ in range(2):
        assert reliability('outdoor') == ReliabilityPolicy.BEST_EFFORT
        assert reliability('indoor') == ReliabilityPolicy.RELIABLE
        assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
        assert robot.change_state(Transition.TRANSITION_CLEANUP)
        assert robot.get_parameter('active_domains') == ['indoor']
        peer.wait_until(lambda: not peer.node.count_publishers(topic.format('outdoor')), 'no one')
        assert robot.change_state(Transition.TRANSITION_CONFIGURE)
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    assert robot.process.end(signal.SIGINT) == 0
    assert 'Traceback' not in robot.process.output


def test_a_wrong_qos_override_is_named(start, peer, model_file):
    robot = Robot(start, peer, 'misled', '-p', f'model:={model_file}', '-p',
                  'qos_overrides./misled/univseg/indoor/mask.publisher.reliability:=perfect')
    assert '`perfect`' in robot.process.wait_for('not configured: ')
    assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert robot.process.end(signal.SIGINT) == 0
    assert 'Traceback' not in robot.process.output


def test_a_value_at_start_is_judged_as_later_ones(start):
    process = start('-m', 'univseg_ros.segmentation_node', '--ros-args', '-p', 'precision:=fp8')
    assert process.end() == 1
    assert "'fp8' is not one of auto, fp32, bf16" in process.output
    assert 'Traceback' not in process.output


# An inference that fails for pictures one pixel wide and takes a long while for ones two wide.
FAULTY_NODE = """
import sys, time
from univseg_core.inference import Segmenter
segment = Segmenter.__call__
def faulty(self, image, *arguments, **options):
    if image.shape[1] == 1:
        raise RuntimeError('out of memory')
    if image.shape[1] == 2:
        print('inference begins', flush=True)
        time.sleep(2)
    return segment(self, image, *arguments, **options)
Segmenter.__call__ = faulty
from univseg_ros.segmentation_node import main
sys.exit(main())
"""


@pytest.mark.parametrize('end', [signal.SIGINT, signal.SIGTERM])
def test_a_failed_inference_is_survived_and_a_signal_in_the_midst_of_one_ends_it(
        start, peer, model_file, image, end):
    robot = Robot(start, peer, end.name.lower(), '-p', f'model:={model_file}',
                  run=('-c', FAULTY_NODE))
    robot.wait_until_active()
    robot.segment(frame(image), 'outdoor')
    peer.publish(rgb_message(image[:, :1], peer.header()), f'{robot.namespace}/image', CAMERA_QOS)
    robot.process.wait_for('its segmentation failed: RuntimeError: out of memory')
    robot.segment(frame(image), 'outdoor')
    peer.publish(rgb_message(image[:, :2], peer.header()), f'{robot.namespace}/image', CAMERA_QOS)
    robot.process.wait_for('inference begins')
    assert robot.process.end(end) == 0
    assert 'Traceback' not in robot.process.output
