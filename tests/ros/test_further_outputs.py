"""What a real node publishes beside masks: compressed, summarised, traversable, camera_info."""

import json
import signal

import numpy as np
import pytest
from robot import assert_shows, CAMERA_QOS, frame, MASK_QOS, Robot
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from univseg_core.pictures.image_messages import decode


@pytest.fixture(scope='module')
def robot(start, peer, quick_options):
    """Return a node that shows where road and floor are; at last it is interrupted."""
    robot = Robot(start, peer, 'further', *quick_options,
                  '-p', "traversable:=['road', 'indoor/floor']",
                  '-p', "active_domains:=['outdoor', 'indoor']",
                  '-r', 'image:=camera/image_raw')
    robot.wait_until_active()
    yield robot
    assert robot.process.end(signal.SIGINT) == 0


def collect(robot, domain):
    """Return the lists of what comes on a domain's topics, by the last part of their names."""
    types = {'mask': Image, 'mask/compressed': CompressedImage, 'classes': String,
             'traversable': Image, 'camera_info': CameraInfo}
    return {name: robot.peer.collect(type_, f'{robot.node}/{domain}/{name}', MASK_QOS)
            for name, type_ in types.items()}


def all_of_one_frame(robot, picture, received):
    """Publish frames until one has come back on all topics; return it and its outputs."""
    def stamp(name, message):
        if name == 'classes':
            return json.loads(message.data)['stamp']
        return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec

    sent = {}
    for _ in range(100):
        message = frame(picture)(robot.peer.header())
        sent[stamp('', message)] = message
        robot.peer.publish_at_once(
            CameraInfo(header=message.header, width=2 * message.width, height=2 * message.height,
                       k=[80.0, 0, 40, 0, 90, 30, 0, 0, 1]),
            f'{robot.namespace}/camera/camera_info', CAMERA_QOS)
        robot.publish(message, 'camera/image_raw')
        robot.peer.handle_for(0.3)
        for key, frame_sent in sent.items():
            outputs = {name: next((each for each in messages if stamp(name, each) == key), None)
                       for name, messages in received.items()}
            if None not in outputs.values():
                return frame_sent, outputs
    pytest.fail(f'no full set; the node says:\n{robot.process.output}')


@pytest.mark.parametrize('domain', ['outdoor', 'indoor'])
def test_a_frame_has_all_its_outputs(robot, quick_segmenter, pictures, domain):
    received = collect(robot, domain)
    sent, outputs = all_of_one_frame(robot, pictures[0], received)
    expected = quick_segmenter(pictures[0], [domain], class_confidence=[domain])[domain]
    mask, sure = expected.mask, expected.class_confidence
    assert_shows(outputs['mask'], mask, sent.header)
    assert outputs['mask/compressed'].header == sent.header
    assert np.array_equal(decode(outputs['mask/compressed'])[..., 0], mask)
    assert_shows(outputs['traversable'], np.where(mask == 0, np.uint8(255), np.uint8(0)),
                 sent.header)
    summary = json.loads(outputs['classes'].data)
    classes = quick_segmenter.domains[domain].classes
    assert summary == {
        'stamp': sent.header.stamp.sec * 10**9 + 7, 'frame_id': sent.header.frame_id,
        'unknown': 0.0, 'classes': {
            name: {'share': pytest.approx(np.mean(mask == index), abs=1e-6),
                   'confidence': None if np.isnan(sure[index]) else
                   pytest.approx(sure[index], abs=1e-5)}
            for index, name in enumerate(classes)}}
    info = outputs['camera_info']
    assert info.header == sent.header
    assert (info.width, info.height) == (sent.width, sent.height)
    assert list(info.k) == [40, 0, 20, 0, 45, 15, 0, 0, 1]
    for messages in received.values():
        robot.peer.stop_collecting(messages)


def test_classes_can_be_set_at_any_time_and_wrong_ones_cannot(robot, quick_segmenter, pictures):
    result = robot.set_parameter('traversable', ['road', 'rode'])
    assert not result.successful
    assert result.reason.startswith(
        "traversable: no domain of this model has a class 'rode'; did you mean road?")
    result = robot.set_parameter('traversable', ['indoor/road'])
    assert "indoor has no class 'road'; it has floor, wall" in result.reason
    assert robot.get_parameter('traversable') == ['road', 'indoor/floor']
    assert robot.set_parameter('traversable', ['sky', 'tree']).successful
    topic = f'{robot.node}/{{}}/traversable'
    robot.peer.wait_until(
        lambda: not robot.peer.node.count_publishers(topic.format('indoor')), 'no publisher')
    sent, message = robot.segment(frame(pictures[1]), 'outdoor', topic='camera/image_raw',
                                  name='traversable')
    mask = quick_segmenter(pictures[1], ['outdoor'])['outdoor'].mask
    assert_shows(message, np.where(mask > 0, np.uint8(255), np.uint8(0)), sent.header)
    robot.unsubscribe()
    assert robot.set_parameter('traversable', ['']).successful
    robot.peer.wait_until(
        lambda: not robot.peer.node.count_publishers(topic.format('outdoor')), 'no publisher')


def test_a_camera_info_of_another_shape_is_told(robot, pictures):
    received = collect(robot, 'outdoor')
    message = frame(pictures[0])(robot.peer.header())
    info = CameraInfo(header=message.header, width=message.height, height=message.width)

    def is_told(level, text, values):
        robot.peer.publish_at_once(info, f'{robot.namespace}/camera/camera_info', CAMERA_QOS)
        robot.segment(frame(pictures[0]), 'outdoor', topic='camera/image_raw')
        return 'which is another shape' in text

    _, text, values = robot.wait_for_diagnostics(is_told)
    topic = f'{robot.namespace}/camera/camera_info'
    assert f'{topic} is of images of 37x53, and the images have 53x37' in text
    assert values['camera_info topic'] == topic
    assert robot.process.output.count('which is another shape') == 1
    for messages in received.values():
        robot.peer.stop_collecting(messages)
    robot.unsubscribe()


def test_a_model_without_the_classes_is_not_configured(start, peer, quick_options):
    robot = Robot(start, peer, 'wrong', *quick_options, '-p', "traversable:=['lawn']")
    robot.process.wait_for("not configured: traversable: no domain of this model has a class "
                           "'lawn'; outdoor has road, sky, tree; indoor has floor, wall")
    assert robot.set_parameter('traversable', ['tree']).successful
    assert robot.change_state(1)
    assert robot.change_state(3)
    robot.end(signal.SIGINT)
