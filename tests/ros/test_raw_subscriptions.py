"""What is subscribed to, what is let go, and what is left out."""

import time

import numpy as np
import pytest
from rclpy.parameter import Parameter
from recording_robot import image_of
from robot import LATCHED_QOS
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String
from univseg_ros.active_domains import ActiveDomains
from univseg_ros.camera_topics import camera_topics, IMAGE
from univseg_ros.messages import mask_message
from univseg_ros.raw_subscriptions import Content, RawSubscriptions
from univseg_ros.segmentation_node import SegmentationNode

PICTURES = Content({IMAGE: Image})


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
    subscriptions, _ = subscribe(lambda: [topic], PICTURES)
    own_peer.wait_until(lambda: f'expected {IMAGE}' in subscriptions.silence(0.01).get(topic, ''),
                        'the reason')
    assert subscriptions.topics == []


def test_the_confidence_of_a_domain_is_missed_while_it_is_active(own_peer, subscribe):
    univseg = f'{own_peer.node.get_namespace()}/univseg'
    topics = {domain: f'{univseg}/{domain}/confidence' for domain in ('outdoor', 'indoor')}
    active_domains = own_peer.node.create_publisher(
        String, f'{univseg}/active_domains', LATCHED_QOS)
    active_domains.publish(String(data='["outdoor"]'))
    domains = ActiveDomains(own_peer.node)
    subscriptions, frames = subscribe(lambda: list(topics.values()), PICTURES, domains.may_come)

    def silent_but_for(domain):
        """Let a domain's confidence come for a while; return the topics that are silent then."""
        known = len(frames)
        end = time.monotonic() + 1
        while len(frames) == known or time.monotonic() < end:
            own_peer.publish_at_once(image_of(1), topics[domain], 5)
            own_peer.handle_for(0.05)
        return list(subscriptions.silence(0.5))

    for topic in topics.values():
        own_peer.publish_at_once(image_of(1), topic, 5)
    own_peer.wait_until(lambda: len(subscriptions.topics) == 2, 'both')
    assert silent_but_for('outdoor') == []
    active_domains.publish(String(data='["outdoor", "indoor"]'))
    own_peer.wait_until(lambda: domains.may_come(topics['indoor']), 'the news')
    assert subscriptions.silence(0.5) == {}  # a moment ago, nothing was to come
    assert silent_but_for('outdoor') == [topics['indoor']]
    active_domains.publish(String(data='["indoor"]'))
    own_peer.wait_until(lambda: not domains.may_come(topics['outdoor']), 'the news')
    assert silent_but_for('indoor') == []
    domains.close()
    own_peer.node.destroy_publisher(active_domains)


@pytest.mark.parametrize(('told', 'may_come'), [
    ('["outdoor"]', True), ('["indoor"]', False), ('[]', False), ('{', True), ('3', True)])
def test_of_whom_nothing_is_known_something_may_come(own_peer, told, may_come):
    domains = ActiveDomains(own_peer.node)
    domains._note('/univseg', String(data=told))
    assert domains.may_come('/univseg/outdoor/confidence') is may_come
    assert domains.may_come('/other/outdoor/confidence')
    assert domains.may_come('/confidence')
    domains.close()


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
