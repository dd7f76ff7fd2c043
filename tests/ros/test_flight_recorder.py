"""A recorder in a process of its own that writes what happened, and what looks strange."""

import json

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
from rclpy.serialization import serialize_message
from recording_robot import image_of, stamps
from robot import CAMERA_QOS, LATCHED_QOS
from std_msgs.msg import String
from univseg_ros.evidence import ONLY_IN_AUTO
from univseg_ros.messages import mask_message
import yaml

FOREIGN = ('{', '3', '[]', '"none"', '{"domain": 7}', '{"stamp": 1}', '\0', '[' * 10_000)
"""Texts that are not from a segmentation node."""

NO_TEXT = b'\0\1\0\0\3\0\0\0\xff\xfe\0'


def triggers(bag):
    """Return why a bag was written."""
    facts = yaml.safe_load((bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    return [each['why'] for each in json.loads(facts['custom_data']['triggers'])]


def fill(robot, *numbers):
    """Publish images of the topic front, and wait until they are in memory."""
    size = len(serialize_message(image_of(1)))
    first = not robot.counts('front')
    if first:
        robot.begin('front', image_of(numbers[0]))
    for number in numbers[first:]:
        robot.publish(image_of(number), 'front')
    robot.peer.wait_until(lambda: robot.told()['queued_bytes'] == size * len(numbers),
                          'images in memory')


def test_what_is_in_memory_is_written_when_somebody_asks(record, peer):
    robot = record('front', policy='flight', flight_before=600.0, flight_after=600.0)
    fill(robot, 1, 2, 3)
    assert robot.status()['held_seconds'] > 0
    assert robot.bags() == []
    assert robot.counts('front') == {'seen': 0, 'kept': 0}
    assert 's are in memory' in robot.diagnostics()[1]
    assert robot.ask('pause')[0]
    assert robot.ask('write') == (False, 'recording is paused')
    assert robot.ask('resume')[0]
    assert robot.ask('write') == (True, 'what is in memory is written, and what comes now')
    robot.wait_for_counts('front', kept=3)
    robot.publish(image_of(4), 'front')
    status = robot.wait_for_counts('front', kept=4)
    assert (status['triggers'], status['last_trigger']) == (1, 'asked for by ~/write')
    assert robot.ask('write')[0]
    robot.finish()
    bag, = robot.bags()
    assert stamps(bag) == {f'{robot.namespace}/front': [1, 2, 3, 4]}
    assert triggers(bag) == 2 * ['asked for by ~/write']
    assert f'recording to {bag}: asked for by ~/write' in robot.said()
    peer.stop_publishing(f'{robot.namespace}/front')


def test_other_policies_are_not_asked(record):
    robot = record('front')
    done, answer = robot.ask('write')
    assert not done
    assert answer.startswith('policy all keeps what it keeps without being asked; policy flight')
    robot.finish()
    assert robot.ask('write') == (False, 'nothing is being recorded: the node is unconfigured')


def test_a_domain_that_becomes_none_and_an_error_are_written(record, peer):
    robot = record('front', policy='flight', flight_before=600.0, flight_after=0.0,
                   flight_diagnostics=['arm'])
    univseg = f'{robot.namespace}/univseg'
    peer.publish_at_once(String(data='[]'), f'{univseg}/active_domains', CAMERA_QOS)
    topic = f'{univseg}/domain'
    say = peer.node.create_publisher(String, topic, LATCHED_QOS)
    say.publish(String(data='{"domain": "outdoor"}'))
    peer.wait_until(lambda: peer.node.count_subscribers(topic), 'the recorder')
    peer.handle_for(0.5)
    for text in FOREIGN:
        say.publish(String(data=text))
    say.publish(NO_TEXT)
    fill(robot, 1, 2)
    assert robot.status()['triggers'] == 0

    say.publish(String(data='{"domain": null, "state": "none", "why": "unlike all"}'))
    robot.wait_for_counts('front', kept=2)
    fill(robot, 3)
    peer.wait_until(lambda: robot.status()['bag'] == '', 'the end of the bag')
    for name, level in (('leg: motor', DiagnosticStatus.ERROR), ('arm: motor', b'\1'),
                        ('arm: motor', DiagnosticStatus.ERROR)):
        peer.publish(DiagnosticArray(status=[
            DiagnosticStatus(name=name, level=level, message='too hot')]), '/diagnostics', 10)
    robot.wait_for_counts('front', kept=3)
    robot.finish()
    first, second = robot.bags()
    assert stamps(first) == {f'{robot.namespace}/front': [1, 2]}
    assert stamps(second) == {f'{robot.namespace}/front': [3]}
    assert triggers(first) == [f'{topic} was outdoor, and is none: unlike all']
    assert triggers(second) == ['error of arm: motor: too hot']
    assert 'Traceback' not in robot.said()
    peer.node.destroy_publisher(say)
    for name in ('front', 'univseg/active_domains'):
        peer.stop_publishing(f'{robot.namespace}/{name}')


def test_a_confidence_that_falls_is_written(record, peer):
    robot = record('front', policy='flight', flight_before=600.0, flight_on=['confidence'],
                   confidence_topics=['confidence'], image_timeout=0.3)
    topic = '/shared/confidence'
    robot.wait_for(f'no image of {topic} for')
    fill(robot, 1, 2)
    for value in (200, 100):  # of 255; until one has come
        for number in range(40):
            peer.publish(mask_message(np.full((4, 6), value, np.uint8), image_of(number).header),
                         topic, CAMERA_QOS)
            if robot.status()['triggers']:
                break
            if value == 200 and number == 3:
                break
    status = robot.wait_for_counts('front', kept=2)
    assert status['last_trigger'] == f'the mean of {topic} is 0.39, below 0.5'
    robot.finish()
    bag, = robot.bags()
    assert triggers(bag) == [status['last_trigger']]
    for each in (topic, f'{robot.namespace}/front'):
        peer.stop_publishing(each)


def test_only_images_that_are_unfamiliar_are_kept(record, peer):
    robot = record('front', policy='unfamiliar', unfamiliarity=2.0, rate=1000.0, patience=1.0,
                   image_timeout=0.3)
    univseg = f'{robot.namespace}/univseg'
    line = robot.wait_for('no segmentation node publishes its recognition')
    assert ONLY_IN_AUTO in line
    peer.publish_at_once(String(data='["outdoor"]'), f'{univseg}/active_domains', CAMERA_QOS)
    recognitions = f'{univseg}/recognition'
    say = peer.node.create_publisher(String, recognitions, CAMERA_QOS)
    line = robot.wait_for(f'no recognition of {recognitions} for')
    assert f'it is published by peer, who sends nothing; {ONLY_IN_AUTO}' in line
    assert line.rpartition(': ')[2].strip() in robot.diagnostics()[1]

    def send(number, unfamiliarity):
        stamp = image_of(number).header.stamp
        robot.publish(image_of(number), 'front')
        for text in FOREIGN:
            say.publish(String(data=text))
        say.publish(NO_TEXT)
        say.publish(String(data=json.dumps({
            'stamp': stamp.sec * 10**9 + stamp.nanosec, 'frame_id': 'camera', 'domain': None,
            'probabilities': {'outdoor': 1.0}, 'unfamiliarity': unfamiliarity})))

    peer.wait_until(say.get_subscription_count, 'the recorder')
    for number in range(1, 40):  # until image and recognition arrive
        send(number, 2.5)
        robot.status()
        if robot.counts('front').get('kept'):
            break
    peer.handle_for(2.5)
    before = robot.counts('front').get('unjudged', 0)
    send(100, 1.5)
    robot.publish(image_of(101), 'front')
    robot.wait_for_counts('front', familiar=1, unjudged=before + 1)
    kept = robot.counts('front')['kept']
    robot.finish()
    bag, = robot.bags()
    assert len(stamps(bag)[f'{robot.namespace}/front']) == kept
    assert max(stamps(bag)[f'{robot.namespace}/front']) == number
    assert 'Traceback' not in robot.said()
    peer.node.destroy_publisher(say)
    for topic in ('front', 'univseg/active_domains'):
        peer.stop_publishing(f'{robot.namespace}/{topic}')
