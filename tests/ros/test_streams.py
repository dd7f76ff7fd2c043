"""What a running node publishes, of which frames, to whom, and what that costs it."""

import json
import signal

import cv2
from lifecycle_msgs.msg import State, Transition
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from robot import (
    assert_shows,
    CAMERA_QOS,
    DOMAINS,
    expected_outputs,
    fault,
    FAULTY_NODE,
    frame,
    LATCHED_QOS,
    OUTPUTS,
    PAUSE,
    Robot,
    SENSOR_QOS,
    serve_among,
    stamps_of,
)
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from univseg_ros.messages import rgb_message

# What Nav2's semantic_segmentation_layer subscribes with: to mask and confidence, whose stamps
# must be equal, and to the labels.
NAV2_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
NAV2_LATCHED_QOS = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RVIZ_QOS = QoSProfile(depth=5)


@pytest.fixture(scope='module')
def robot(start, peer, model_file):
    """Return a node that is active; at last it is interrupted."""
    robot = Robot(start, peer, 'streaming', '-p', f'model:={model_file}', '-p', 'precision:=fp32')
    robot.wait_until_active()
    yield robot
    robot.end(signal.SIGINT)


@pytest.fixture
def both(robot):
    """Return the same node with both domains active and nobody subscribed to anything."""
    assert robot.set_parameter('active_domains', list(DOMAINS)).successful
    robot.unsubscribe()
    return robot


def exchange(robot, make_message, outputs):
    """Publish frames until one has all of some outputs; return it and these."""
    for output in outputs:
        robot.outputs(*output)
    for _ in range(20):
        sent, _ = robot.segment(make_message, outputs[0][0], name=outputs[0][1])
        try:
            return sent, robot.peer.wait_until(
                lambda sent=sent: all(found := [robot.output_of(sent.header.stamp, *output)
                                                for output in outputs]) and found,
                f'{outputs} of one frame', 1)
        except AssertionError:
            continue
    pytest.fail(f'no frame has all of {outputs}; the node says:\n{robot.process.output}')


def test_every_output_of_every_domain_is_that_of_the_segmenter(both, segmenter, pictures):
    outputs = [(domain, name) for domain in DOMAINS for name in OUTPUTS]
    for output in outputs:
        both.outputs(*output)
    for picture in pictures:
        sent, messages = exchange(both, frame(picture), outputs)
        expected = expected_outputs(segmenter, picture)
        for output, message in zip(outputs, messages, strict=True):
            assert_shows(message, expected[output], sent.header)


@pytest.mark.parametrize(('sec', 'nanosec', 'frame_id'), [
    (0, 0, 'camera'), (2**31 - 1, 999_999_999, 'camera'), (-5, 1, 'camera'), (-2**31, 0, 'camera'),
    (1, 2**32 - 1, 'camera'), (2, 3, ''), (2, 4, 'frame/' * 10_000), (2, 5, 'câmera 3 ☃')])
def test_odd_headers_come_back_as_they_were(both, pictures, sec, nanosec, frame_id):
    def odd(header):
        header.stamp.sec, header.stamp.nanosec, header.frame_id = sec, nanosec, frame_id
        return rgb_message(pictures[0], header)

    for name in OUTPUTS:
        both.outputs('indoor', name).clear()
    sent, messages = exchange(both, odd, [('indoor', name) for name in OUTPUTS])
    assert all(message.header == sent.header for message in messages)


def test_consumers_of_every_qos_get_every_output(both, peer, segmenter, pictures):
    consumers = {
        (kind, domain, name): peer.collect(Image, f'{both.node}/{domain}/{name}', qos)
        for kind, qos, names in (('nav2', NAV2_QOS, ('mask', 'confidence')),
                                 ('rviz', RVIZ_QOS, OUTPUTS), ('lossy', SENSOR_QOS, OUTPUTS))
        for domain in DOMAINS for name in names}
    expected = expected_outputs(segmenter, pictures[1])
    sent = []

    def all_have_a_frame():
        message = rgb_message(pictures[1], peer.header())
        sent.append(message.header)
        both.publish(message)
        peer.handle_for(0.05)
        return set.intersection(*(set(stamps_of(messages)) for messages in consumers.values()))

    peer.wait_until(all_have_a_frame, 'a frame that all have')
    headers = {header.stamp.sec: header for header in sent}
    for (_, domain, name), messages in consumers.items():
        for message in messages:
            assert_shows(message, expected[domain, name], headers[message.header.stamp.sec])
        assert max(stamps_of(messages).values()) == 1
        peer.stop_collecting(messages)


@pytest.mark.parametrize('qos', [LATCHED_QOS, NAV2_LATCHED_QOS], ids=['depth 1', 'Nav2'])
def test_label_maps_and_active_domains_are_there_for_who_comes_late(robot, peer, segmenter, qos):
    for domains in (['outdoor'], ['indoor', 'outdoor'], ['indoor']):
        assert robot.set_parameter('active_domains', domains).successful
        topics = [f'{robot.node}/{name}/label_map' for name in DOMAINS]
        topics.append(f'{robot.node}/active_domains')
        collected = [peer.collect(String, topic, qos) for topic in topics]
        peer.wait_until(lambda collected=collected: all(collected), 'latched messages')
        outdoor, indoor, active = (json.loads(messages[-1].data) for messages in collected)
        assert active == domains == robot.get_parameter('active_domains')
        for name, label_map in (('outdoor', outdoor), ('indoor', indoor)):
            domain = segmenter.domains[name]
            assert label_map == {'domain': name, 'unknown': 255, 'classes': [
                {'index': index, 'name': class_name, 'colour': list(colour)}
                for index, (class_name, colour) in enumerate(
                    zip(domain.classes, domain.palette, strict=True))]}
        for messages in collected:
            peer.stop_collecting(messages)


def test_without_subscribers_frames_come_to_nothing_and_with_one_they_are_served_again(
        both, peer, pictures):
    def count_of_unwatched(message):
        both.publish(message)
        peer.handle_for(PAUSE)
        return both.count('unwatched')

    both.segment(frame(pictures[0]), 'outdoor')
    both.unsubscribe()
    before = both.count('unwatched')
    peer.wait_until(lambda: count_of_unwatched(rgb_message(pictures[0], peer.header())) > before,
                    'frames that nobody watches')
    # They are not even decoded: what is wrong with them is not seen.
    before = both.counts_at_rest()
    peer.wait_until(
        lambda: count_of_unwatched(Image(header=peer.header())) > before['unwatched'],
        'bad frames that nobody watches')
    after = both.counts_at_rest()
    assert {name for name in after if after[name] != before[name]} == {'received', 'unwatched'}
    both.segment(frame(pictures[0]), 'indoor')


@pytest.fixture(scope='module')
def slow(start, peer, quick_options, fault_folder):
    """Return a node whose inference can be held; at last it is told to terminate."""
    robot = Robot(start, peer, 'slow', *quick_options, run=(*FAULTY_NODE, str(fault_folder)))
    robot.wait_until_active()
    yield robot
    robot.end(signal.SIGTERM)


def test_only_what_is_watched_is_computed(slow, peer, pictures):
    assert slow.set_parameter('active_domains', list(DOMAINS)).successful
    slow.unsubscribe()

    def computed_with(*outputs):
        for output in outputs:
            slow.outputs(*output)
        exchange(slow, frame(pictures[0]), outputs)
        begin = slow.process.line_count()
        slow.publish(rgb_message(pictures[0], peer.header()))
        return slow.process.wait_for('segments ', begin)

    assert computed_with(('indoor', 'mask')) == "segments ['indoor'], confidence of []\n"
    assert computed_with(('indoor', 'overlay')) == "segments ['indoor'], confidence of []\n"
    assert computed_with(('outdoor', 'confidence')) == (
        "segments ['outdoor', 'indoor'], confidence of ['outdoor']\n")
    assert slow.set_parameter('active_domains', ['outdoor']).successful
    assert computed_with(('outdoor', 'mask')) == (
        "segments ['outdoor'], confidence of ['outdoor']\n")


def begin_held(robot, picture):
    """Publish a frame, of which the inference is held; return its header once it has begun."""
    begin = robot.process.line_count()
    message = rgb_message(picture, robot.peer.header())
    robot.publish(message)
    robot.process.wait_for('segments', begin)
    return message.header


def test_of_five_frames_that_come_during_one_only_the_last_follows(
        slow, peer, fault_folder, pictures, quick_segmenter):
    assert slow.set_parameter('active_domains', ['outdoor']).successful
    slow.segment(frame(pictures[0]), 'outdoor')
    with fault(fault_folder, 'hold'):
        first = begin_held(slow, pictures[0])
        slow.masks('outdoor').clear()
        later = []
        for _ in range(5):
            later.append(rgb_message(pictures[1], peer.header()))
            slow.publish(later[-1])
            peer.handle_for(0.02)
        slow.settle()
        assert not slow.masks('outdoor')
    mask = peer.wait_until(lambda: slow.mask_of(later[-1].header.stamp, 'outdoor'), 'the newest')
    assert (mask.height, mask.width) == pictures[1].shape[:2]
    after, _ = slow.segment(frame(pictures[2]), 'outdoor')
    stamps = [message.header.stamp.sec for message in slow.masks('outdoor')]
    assert stamps[:2] == [first.stamp.sec, later[-1].header.stamp.sec]
    assert after.header.stamp.sec in stamps[2:]
    assert not {message.header.stamp.sec for message in later[:-1]}.intersection(stamps)


def test_services_answer_during_an_inference_and_what_they_set_is_for_the_next_frame(
        slow, peer, fault_folder, pictures, quick_segmenter):
    assert slow.set_parameter('active_domains', ['outdoor']).successful
    slow.segment(frame(pictures[0]), 'outdoor')
    slow.masks('indoor').clear()
    with fault(fault_folder, 'hold'):
        held = begin_held(slow, pictures[0])
        assert slow.state() == State.PRIMARY_STATE_ACTIVE
        assert slow.get_parameter('active_domains') == ['outdoor']
        assert slow.set_parameter('active_domains', ['indoor']).successful
        assert slow.set_parameter('confidence_threshold', 1.0).successful
        assert not slow.set_parameter('active_domains', ['cellar']).successful
        assert not slow.set_parameter('device', 'cpu').successful
        assert slow.mask_of(held.stamp, 'outdoor') is None
    peer.wait_until(lambda: slow.mask_of(held.stamp, 'outdoor'), 'the mask of the held frame')
    assert_shows(slow.mask_of(held.stamp, 'outdoor'),
                 quick_segmenter(pictures[0])['outdoor'].mask, held)
    sent, mask = slow.segment(frame(pictures[0]), 'indoor')
    assert set(mask.data) == {255}
    assert slow.set_parameter('confidence_threshold', 0.0).successful
    assert slow.mask_of(sent.header.stamp, 'outdoor') is None
    assert slow.mask_of(held.stamp, 'indoor') is None


def test_deactivating_waits_for_the_frame_in_work_and_drops_the_one_that_waits(
        slow, peer, fault_folder, pictures):
    assert slow.set_parameter('active_domains', ['outdoor']).successful
    slow.segment(frame(pictures[0]), 'outdoor')
    with fault(fault_folder, 'hold'):
        held = begin_held(slow, pictures[0])
        waiting = rgb_message(pictures[0], peer.header())
        slow.publish(waiting)
        slow.settle()
        transition = slow.begin_change_of_state(Transition.TRANSITION_DEACTIVATE)
        peer.handle_for(0.2)
        assert not transition.done()
    peer.wait_until(transition.done, 'the end of the transition')
    assert transition.result().success
    peer.wait_until(lambda: slow.mask_of(held.stamp, 'outdoor'), 'the mask of the held frame')
    assert slow.change_state(Transition.TRANSITION_ACTIVATE)
    slow.segment(frame(pictures[0]), 'outdoor')
    assert slow.mask_of(waiting.header.stamp, 'outdoor') is None


def test_a_frame_that_has_been_in_work_for_long_is_told(slow, fault_folder, pictures):
    assert slow.set_parameter('image_timeout', 0.5).successful
    slow.segment(frame(pictures[0]), 'outdoor')
    with fault(fault_folder, 'hold'):
        begin_held(slow, pictures[0])
        level, _, _ = slow.wait_for_diagnostics(
            lambda level, message, values: 'one frame has been in work for ' in message)
        assert level == b'\x02'
    slow.wait_for_diagnostics(lambda level, message, values: 'in work' not in message)
    assert slow.set_parameter('image_timeout', 5.0).successful


def test_compressed_images(start, peer, quick_options, quick_segmenter, pictures):
    robot = Robot(start, peer, 'compressed', *quick_options, '-p',
                  'image_transport:=compressed', '-r', 'image:=camera/image_raw')
    robot.wait_until_active()
    topic = 'camera/image_raw/compressed'

    jpeg, png = (cv2.imencode(extension, pictures[0][..., ::-1])[1].tobytes()
                 for extension in ('.jpg', '.png'))

    def compressed(data):
        return lambda header: CompressedImage(header=header, format='jpeg', data=data)

    sent, mask = robot.segment(compressed(png), 'outdoor', CAMERA_QOS, topic)
    assert_shows(mask, quick_segmenter(pictures[0])['outdoor'].mask, sent.header)
    bad = [jpeg[:-20], jpeg[:30], jpeg[:2], png[:-20], png[:8], b'', bytes(1000), jpeg[::-1]]
    serve_among(robot, map(compressed, bad), compressed(jpeg), 'outdoor', topic)
    robot.end(signal.SIGINT)
