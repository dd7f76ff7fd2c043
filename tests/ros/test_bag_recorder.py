"""The recorder in a process of its own: what cameras send is in its bags, or why it is not."""

import array
import re
import shutil
import signal

from builtin_interfaces.msg import Time
import cv2
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from recording_robot import image_of, offered, picture, RECORDER, RecordingRobot, stamps
from robot import CAMERA_QOS, NODE, SENSOR_QOS
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String
from univseg_core.bags.bag_writer import is_unfinished
from univseg_core.bags.reading import Bag, deserialise
from univseg_core.pictures.image_messages import decode
from univseg_ros.messages import mask_message

ERROR, WARN, OK = DiagnosticStatus.ERROR, DiagnosticStatus.WARN, DiagnosticStatus.OK
LATCHED_IMAGE_QOS = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def jpeg_of(number):
    message = image_of(number)
    data = cv2.imencode('.jpg', picture(number)[..., ::-1])[1].tobytes()
    return CompressedImage(header=message.header, format='jpeg', data=array.array('B', data))


@pytest.mark.parametrize('compression', ['none', 'zstd'])
def test_raw_and_compressed_images_are_recorded_as_they_were_sent(record, peer, compression):
    # The storage that a robot's parameter file may name still.
    robot = record('front', 'back/compressed', storage='mcap', compression=compression)
    sent = [image_of(number) for number in range(1, 6)]
    robot.begin('front', sent[0])
    robot.begin('back/compressed', jpeg_of(1))
    for number, message in enumerate(sent[1:], start=2):
        robot.publish(message, 'front')
        robot.publish(jpeg_of(number), 'back/compressed')
    robot.wait_for_counts('front', seen=5, kept=5)
    robot.wait_for_counts('back/compressed', seen=5, kept=5)
    robot.finish()
    bag, = robot.bags()
    front, back = f'{robot.namespace}/front', f'{robot.namespace}/back/compressed'
    assert stamps(bag) == {front: [1, 2, 3, 4, 5], back: [1, 2, 3, 4, 5]}
    assert offered(bag) == {front: [('RELIABLE', 'VOLATILE')], back: [('RELIABLE', 'VOLATILE')]}
    with Bag(bag) as opened:
        for message, expected in zip(opened.messages([front]), sent, strict=True):
            found = deserialise(message)
            assert (decode(found) == decode(expected)).all()
            assert found.header.frame_id == 'camera'
    assert 'stopped; images: 10 kept' in robot.said()
    for topic in ('front', 'back/compressed'):
        peer.stop_publishing(f'{robot.namespace}/{topic}')


def test_cameras_are_discovered_also_later_but_no_masks(record, peer):
    robot = record(image_timeout=0.0)
    masks = f'{robot.namespace}/univseg/'
    for _ in range(2):  # the mask first, and then when it is known for one
        peer.publish_at_once(mask_message(np.zeros((4, 6), np.uint8), Header()),
                             f'{masks}outdoor/mask', CAMERA_QOS)
        if 'outdoor/mask' not in robot.said():
            robot.wait_for(f'{masks}outdoor/mask (sensor_msgs/msg/Image): subscribed')
        peer.publish_at_once(String(), f'{masks}active_domains', CAMERA_QOS)
        robot.wait_for(f'{masks}outdoor/mask: not subscribed to any more')
    peer.publish_at_once(String(data='hello'), f'{robot.namespace}/text', CAMERA_QOS)
    robot.begin('first', image_of(1))
    robot.begin('second', image_of(1))
    robot.wait_for_counts('first', kept=1)
    status = robot.wait_for_counts('second', kept=1)
    assert {topic for topic in status['topics'] if topic.startswith(f'{robot.namespace}/')} == {
        f'{robot.namespace}/first', f'{robot.namespace}/second'}
    assert f'{masks}outdoor/mask' not in robot.diagnostics()[2]['topics']
    for topic in ('first', 'second', 'text', 'univseg/active_domains', 'univseg/outdoor/mask'):
        peer.stop_publishing(f'{robot.namespace}/{topic}')
    robot.finish()


@pytest.mark.parametrize(('qos', 'expected'), [
    (SENSOR_QOS, ('BEST_EFFORT', 'VOLATILE')),
    (LATCHED_IMAGE_QOS, ('RELIABLE', 'TRANSIENT_LOCAL'))])
def test_the_qos_of_a_publisher_is_matched_and_written(record, peer, qos, expected):
    robot = record('front')
    topic = f'{robot.namespace}/front'
    if qos is LATCHED_IMAGE_QOS:  # what was sent before is recorded too
        peer.publish_at_once(image_of(1), topic, qos)
        robot.wait_for_counts('front', kept=1)
    else:
        robot.begin('front', image_of(1), qos)
    robot.finish()
    bag, = robot.bags()
    assert offered(bag) == {topic: [expected]}
    peer.stop_publishing(topic)


def test_a_publisher_that_comes_back_with_another_qos_and_resolution_is_recorded(record, peer):
    robot = record('front')
    topic = f'{robot.namespace}/front'
    robot.begin('front', image_of(1))
    robot.publish(image_of(2, (48, 64)), 'front')
    robot.wait_for_counts('front', kept=2)
    peer.stop_publishing(topic)
    publisher = peer.node.create_publisher(Image, topic, SENSOR_QOS)
    robot.wait_for('subscribed anew as best_effort')
    peer.wait_until(publisher.get_subscription_count, 'a subscriber')
    for _ in range(40):
        publisher.publish(image_of(3))
        if robot.status()['topics'][topic]['kept'] > 2:
            break
    peer.node.destroy_publisher(publisher)
    robot.finish()
    first, second = robot.bags()
    assert {tuple(stamps(bag)[topic][:2]): offered(bag)[topic] for bag in (first, second)}.keys(
        ) >= {(1, 2)}
    assert sorted(str(offered(bag)[topic]) for bag in (first, second)) == [
        "[('BEST_EFFORT', 'VOLATILE')]", "[('RELIABLE', 'VOLATILE')]"]
    assert 'came back with another QoS' in robot.said()


def test_messages_of_no_size_are_recorded_and_harm_nothing(record, peer):
    robot = record('front', policy='novel')
    robot.begin('front', Image())
    for _ in range(2):
        robot.publish(image_of(1), 'front')
    robot.wait_for_counts('front', kept=2, similar=1)
    robot.finish()
    bag, = robot.bags()
    assert stamps(bag) == {f'{robot.namespace}/front': [0, 1]}
    peer.stop_publishing(f'{robot.namespace}/front')


def test_policies_count_what_they_leave_out(record, peer):
    robot = record('front', policy='rate', rate=0.5)
    robot.begin('front', image_of(1))
    for number in range(2, 6):
        robot.publish(image_of(number), 'front')
    robot.wait_for_counts('front', kept=3, rate=2)
    level, message, values = robot.diagnostics()
    assert (level, values['policy']) == (OK, 'rate')
    assert values['images seen'] == '5'
    assert values['images not kept, rate'] == '2'
    assert re.fullmatch(r'recording \d+\.\d images a second', message)
    robot.finish()
    robot.wait_for('images: 3 kept, 2 rate')
    peer.stop_publishing(f'{robot.namespace}/front')


def test_pause_resume_and_split(record, peer):
    robot = record('front')
    robot.begin('front', image_of(1))
    assert robot.ask('pause') == (True, 'paused')
    robot.publish(image_of(2), 'front')
    assert robot.wait_for_counts('front', paused=1)['paused']
    assert 'recording is paused' in robot.diagnostics()[1]
    assert robot.ask('resume') == (True, 'recording goes on')
    assert robot.ask('split') == (True, 'a new file begins with the next image')
    robot.publish(image_of(3), 'front')
    assert robot.wait_for_counts('front', kept=2)['file'].endswith('_1.mcap')
    robot.finish()
    bag, = robot.bags()
    assert len(list(bag.glob('*.mcap'))) == 2
    assert stamps(bag) == {f'{robot.namespace}/front': [1, 3]}
    peer.stop_publishing(f'{robot.namespace}/front')


def test_states_and_the_bag_that_ends_with_them(record, peer):
    robot = record('front')
    assert robot.state() == State.PRIMARY_STATE_ACTIVE
    robot.begin('front', image_of(1))
    for name, value in {'policy': 'rate', 'depth': 3, 'directory': '/tmp'}.items():
        result = robot.set_parameter(name, value)
        assert not result.successful
        assert result.reason.startswith(f'{name} can only be set while the node is ')
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    bag, = robot.bags()
    assert stamps(bag) == {f'{robot.namespace}/front': [1]}
    assert robot.status() == {'state': 'inactive'}
    assert robot.ask('pause') == (False, 'nothing is being recorded: the node is inactive')
    assert robot.diagnostics()[:2] == (WARN, 'not active: the node is inactive')
    assert robot.set_parameter('policy', 'rate').successful
    assert not robot.change_state(Transition.TRANSITION_DEACTIVATE)
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    robot.begin('front', image_of(2))
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    assert robot.change_state(Transition.TRANSITION_CLEANUP)
    assert robot.status() == {'state': 'unconfigured'}
    assert sorted(next(iter(stamps(bag).values()))[0] for bag in robot.bags()) == [1, 2]
    robot.finish()
    peer.stop_publishing(f'{robot.namespace}/front')


def test_what_a_killed_recorder_left_is_readable_and_finished_by_the_next(start, peer, tmp_path):
    topic = '/killed/front'
    robot = RecordingRobot(start, peer, 'killed', tmp_path, '-p', f'topics:=["{topic}"]')
    robot.begin('front', image_of(1))
    for number in (2, 3):
        robot.publish(image_of(number), 'front')
    robot.wait_for_counts('front', kept=3)
    peer.handle_for(0.5)
    robot.process.kill()
    bag, = robot.bags()
    assert is_unfinished(bag)
    with Bag(bag) as opened:
        assert len(list(opened.messages([topic]))) == 3
    peer.stop_publishing(topic)
    second = RecordingRobot(start, peer, 'second', tmp_path, '-p', 'topics:=[front]')
    second.wait_for(f'{bag} was not finished when its recorder ended; it is now, with 3 images')
    assert stamps(bag) == {topic: [1, 2, 3]}
    second.begin('front', image_of(4))
    second.end(signal.SIGINT)
    assert [stamps(each) for each in robot.bags() if each != bag] == [{'/second/front': [4]}]
    peer.stop_publishing('/second/front')


def test_what_cannot_be_leaves_the_state_as_it_is_with_the_reason(start, peer, tmp_path):
    (tmp_path / 'file').write_text('')
    bags = tmp_path / 'bags'
    robot = RecordingRobot(start, peer, 'no_folder', tmp_path / 'file' / 'bags')
    line = robot.wait_for('not configured')
    assert f'{tmp_path}/file/bags: cannot be made: Not a directory' in line
    level, message, _ = robot.diagnostics()
    assert level == ERROR
    assert message.startswith(f'not configured: {tmp_path}/file/bags: cannot be made')
    assert robot.set_parameter('directory', '~nobody_of_this_name/bags').successful
    assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
    assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert 'not configured: Could not determine home directory' in robot.diagnostics()[1]
    assert robot.set_parameter('directory', str(bags)).successful
    assert robot.change_state(Transition.TRANSITION_CONFIGURE)
    held = RecordingRobot(start, peer, 'held', bags, '-p', 'topics:=[front]')
    held.wait_for('another recorder holds this folder')
    shutil.rmtree(bags)
    assert not robot.change_state(Transition.TRANSITION_ACTIVATE)
    assert robot.state() == State.PRIMARY_STATE_INACTIVE
    assert robot.diagnostics()[1].startswith('not activated: [Errno 2]')
    assert robot.change_state(Transition.TRANSITION_CLEANUP)
    assert held.change_state(Transition.TRANSITION_CONFIGURE)
    assert held.change_state(Transition.TRANSITION_ACTIVATE)
    held.begin('front', image_of(1))
    for each in (robot, held):
        each.end(signal.SIGTERM)
    bag, = held.bags()
    assert stamps(bag) == {'/held/front': [1]}
    peer.stop_publishing('/held/front')


def test_why_nothing_comes_is_told(record, peer):
    robot = record('front', 'text', 'missing', 'absent', image_timeout=0.5)
    namespace = robot.namespace
    peer.publish_at_once(String(), f'{namespace}/text', CAMERA_QOS)
    peer.publish_at_once(image_of(1), f'{namespace}/side', CAMERA_QOS)
    silent = peer.node.create_publisher(Image, f'{namespace}/front', CAMERA_QOS)
    for name in ('missing', 'absent'):
        assert 'nobody publishes it; ' in robot.wait_for(f'no image of {namespace}/{name} for')
    assert ('it is published by peer as std_msgs/msg/String; expected sensor_msgs/msg/Image or '
            'sensor_msgs/msg/CompressedImage') in robot.wait_for(f'no image of {namespace}/text')
    robot.wait_for('it is published by peer, who sends nothing; is the camera running?')
    level, message, _ = robot.wait_for_diagnostics(lambda level, message, values:
                                                   f'{namespace}/side' in message)
    assert level == ERROR
    assert message.count('no image of') == 4
    peer.node.destroy_publisher(silent)
    for topic in ('text', 'side'):
        peer.stop_publishing(f'{namespace}/{topic}')
    robot.finish()


def test_only_images_of_which_the_model_is_unsure_are_kept(record, peer):
    robot = record('front', policy='uncertain', uncertain_below=0.5, patience=1.0,
                   image_timeout=0.3)
    univseg = f'{robot.namespace}/univseg'
    line = robot.wait_for('no segmentation node publishes its confidence')
    assert 'which the policy needs' in line
    peer.publish_at_once(String(), f'{univseg}/active_domains', CAMERA_QOS)
    confidences = f'{univseg}/outdoor/confidence'

    def send(number, confidence):
        header = image_of(number).header
        robot.publish(image_of(number), 'front')
        peer.publish(mask_message(np.full((4, 6), confidence, np.uint8), header), confidences,
                     CAMERA_QOS)

    peer.publish_at_once(mask_message(np.zeros((4, 6), np.uint8), Header()), confidences,
                         CAMERA_QOS)
    for number in range(1, 40):  # until image and confidence arrive
        send(number, 100)
        robot.status()
        if robot.counts('front').get('kept'):
            break
    peer.handle_for(2.5)
    before = robot.counts('front').get('unjudged', 0)
    send(100, 200)
    robot.publish(image_of(101), 'front')
    robot.wait_for_counts('front', sure=1, unjudged=before + 1)
    kept = robot.counts('front')['kept']
    robot.finish()
    bag, = robot.bags()
    assert len(stamps(bag)[f'{robot.namespace}/front']) == kept
    assert max(stamps(bag)[f'{robot.namespace}/front']) == number
    for topic in ('front', 'univseg/active_domains', 'univseg/outdoor/confidence'):
        peer.stop_publishing(f'{robot.namespace}/{topic}')


def test_of_a_segmentation_node_the_confidence_is_found_and_no_output_recorded(
        record, peer, start, quick_model):
    robot = record(policy='uncertain', uncertain_below=1.0, patience=20.0)
    node = start(*NODE, '--ros-args', '-r', f'__ns:={robot.namespace}', '-p',
                 f'model:={quick_model}')
    robot.wait_for(f'{robot.namespace}/univseg/indoor/confidence (sensor_msgs/msg/Image): ')
    node.wait_for('active; domains')
    topic = f'{robot.namespace}/image'
    for number in range(1, 40):
        robot.publish(image_of(number))
        peer.wait_until(lambda: peer.node.count_subscribers(topic) == 2, 'node and recorder')
        robot.status()
        if robot.counts('image').get('kept'):
            break
    assert node.end(signal.SIGINT) == 0
    assert robot.told()['topics'].keys() == {topic}
    assert 'univseg/outdoor/mask' not in robot.said()
    robot.finish()
    bag, = robot.bags()
    assert stamps(bag).keys() == {topic}
    peer.stop_publishing(topic)


def test_simulated_time_is_that_of_the_bag(record, peer):
    robot = record('front', use_sim_time=True)
    clock = Clock(clock=Time(sec=5))
    timer = peer.node.create_timer(
        0.1, lambda: peer.publish_at_once(clock, '/clock', CAMERA_QOS))
    peer.wait_until(lambda: peer.node.count_subscribers('/clock'), 'a reader of the clock')
    peer.handle_for(1.0)
    robot.begin('front', image_of(1))
    peer.node.destroy_timer(timer)
    robot.finish()
    bag, = robot.bags()
    with Bag(bag) as opened:
        assert [message.time for message in opened.messages(opened.topics())] == [5 * 10**9]
    for topic in ('/clock', f'{robot.namespace}/front'):
        peer.stop_publishing(topic)


@pytest.mark.parametrize(('parameter', 'complaint'), [
    ('policy:=some', "policy: 'some' is not one of all, rate, novel, uncertain"),
    ('max_size:=-1', 'max_size'),
    ('storage:=sqlite3', "storage: 'sqlite3': bags are MCAP files")])
def test_a_wrong_parameter_ends_the_start_with_the_reason(start, tmp_path, parameter, complaint):
    process = start(*RECORDER, '--ros-args', '-p', f'directory:={tmp_path / "bags"}', '-p',
                    parameter)
    assert process.end() == 1
    assert 'a parameter cannot be used: ' in process.output
    assert complaint in process.output
    assert 'Traceback' not in process.output
    assert not list(tmp_path.iterdir())
