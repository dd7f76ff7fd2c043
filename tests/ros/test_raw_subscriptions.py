"""What is subscribed to, what is let go, and what is left out."""

import time

import numpy as np
import pytest
from rclpy.parameter import Parameter
from recording_robot import image_of
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header, String
from univseg_ros.camera_topics import camera_topics, IMAGE
from univseg_ros.messages import mask_message
from univseg_ros.raw_subscriptions import RawSubscriptions
from univseg_ros.segmentation_node import SegmentationNode


@pytest.fixture
def subscribe(own_peer):
    """Return a function that subscribes as the recorder does, and a list of what comes."""
    opened = []

    def begin(find, *options):
        frames = []
        opened.append(RawSubscriptions(own_peer.node, find, 5, frames.append, *options))
        opened[-1].open()
        return opened[-1], frames

    yield begin
    for each in opened:
        each.close()


def test_what_turns_out_to_be_a_mask_is_let_go_but_no_camera_that_ended(own_peer, subscribe):
    here = own_peer.node.get_namespace()
    mask, camera = f'{here}/univseg/outdoor/mask', f'{here}/camera'
    subscriptions, _ = subscribe(lambda: [
        topic for topic in camera_topics(own_peer.node) if topic.startswith(f'{here}/')])
    own_peer.publish_at_once(mask_message(np.zeros((4, 6), np.uint8), Header()), mask, 5)
    own_peer.publish_at_once(image_of(1), camera, 5)
    own_peer.wait_until(lambda: subscriptions.topics == [camera, mask], 'both')
    own_peer.publish_at_once(String(), f'{here}/univseg/active_domains', 5)
    own_peer.wait_until(lambda: subscriptions.topics == [camera], 'the camera alone')
    own_peer.stop_publishing(camera)
    own_peer.handle_for(0.5)
    assert subscriptions.topics == [camera]
    time.sleep(0.02)
    assert list(subscriptions.silence(0.01)) == [camera]


def test_other_types_are_left_alone(own_peer, subscribe):
    topic = f'{own_peer.node.get_namespace()}/confidence'
    own_peer.publish_at_once(CompressedImage(), topic, 5)
    subscriptions, _ = subscribe(lambda: [topic], (IMAGE,))
    own_peer.wait_until(lambda: f'expected {IMAGE}' in subscriptions.silence(0.01).get(topic, ''),
                        'the reason')
    assert subscriptions.topics == []


@pytest.mark.parametrize('own_peer', [{'use_sim_time': True}], indirect=True)
def test_images_before_the_first_simulated_time_are_left_out(own_peer, subscribe):
    topic = f'{own_peer.node.get_namespace()}/front'
    subscriptions, frames = subscribe(lambda: [topic])

    def reason():
        own_peer.publish_at_once(image_of(1), topic, 5)
        return 'nothing comes on /clock' in subscriptions.silence(0.01).get(topic, '')

    own_peer.wait_until(reason, 'the reason')
    assert not frames
    clock = Clock()
    clock.clock.sec = 5

    def frame():
        own_peer.publish_at_once(clock, '/clock', 5)
        own_peer.publish_at_once(image_of(2), topic, 5)
        return frames

    assert own_peer.wait_until(frame, 'an image')[0].time == 5 * 10**9
    own_peer.stop_publishing('/clock')


def test_the_active_domains_are_there_as_long_as_any_output(ros_domain, model_file, monkeypatch):
    node = SegmentationNode()
    make, destroy, events = node.create_lifecycle_publisher, node.destroy_lifecycle_publisher, []

    def make_noted(type_, topic, *arguments, **options):
        events.append(('made', topic))
        return make(type_, topic, *arguments, **options)

    def destroy_noted(publisher):
        events.append(('destroyed', publisher.topic_name.replace('/univseg/', '~/')))
        return destroy(publisher)

    monkeypatch.setattr(node, 'create_lifecycle_publisher', make_noted)
    monkeypatch.setattr(node, 'destroy_lifecycle_publisher', destroy_noted)
    node.set_parameters([Parameter('model', value=model_file)])
    node.trigger_configure()
    node.destroy_node()
    assert ('made', '~/outdoor/mask') in events
    assert events[0] == ('made', '~/active_domains')
    assert events[-1] == ('destroyed', '~/active_domains')
    assert len(events) == 2 * len({topic for _, topic in events})
