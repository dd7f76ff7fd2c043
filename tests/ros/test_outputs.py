"""What is published of a domain: topics, messages, and what its values mean."""

from itertools import chain, combinations
import json

import numpy as np
import pytest
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import Segmentation
from univseg_core.pictures.image_messages import decode
from univseg_core.pictures.overlay import overlay_with_legend
from univseg_ros import outputs
from univseg_ros.outputs import DomainOutputs, IMAGES, label_info, label_map, LATCHED_QOS

INDOOR = Domain.create('indoor', ['floor', 'wall'], [(150, 100, 60), (1, 2, 3)])
SUBSETS = list(chain.from_iterable(combinations(IMAGES, size) for size in range(4)))


@pytest.fixture
def make_node(ros_domain):
    """Return a function that makes managed nodes, which are active."""
    nodes = []

    def make(**overrides):
        node = LifecycleNode(f'outputs_{len(nodes)}', parameter_overrides=[
            Parameter(name, value=value) for name, value in overrides.items()])
        nodes.append(node)
        node.trigger_configure()
        node.trigger_activate()
        return node

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.fixture
def node(make_node):
    """Return an active node."""
    return make_node()


@pytest.fixture
def indoor(node):
    """Return the outputs of the domain indoor of an active node."""
    outputs = DomainOutputs(node, INDOOR)
    for publisher in outputs._publishers.values():
        publisher.on_activate(None)  # they were made after the node was activated
    yield outputs
    outputs.close()


@pytest.fixture
def result():
    """Return an image (30, 50), its segmentation, and its header."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (30, 50, 3), np.uint8)
    mask = generator.choice(np.array([0, 1, 255], np.uint8), (30, 50))
    header = Header(frame_id='camera')
    header.stamp.sec, header.stamp.nanosec = 12, 34
    return image, Segmentation(mask, generator.integers(0, 256, (30, 50), np.uint8)), header


@pytest.mark.parametrize('names', SUBSETS)
def test_messages_are_those_that_were_asked_for(indoor, result, names, monkeypatch):
    image, segmentation, header = result
    expected = {'mask': segmentation.mask, 'confidence': segmentation.confidence,
                'overlay': overlay_with_legend(image, segmentation.mask, INDOOR)}
    if 'overlay' not in names:
        monkeypatch.setattr(outputs, 'overlay_with_legend', None)
    if 'confidence' not in names:
        segmentation = Segmentation(segmentation.mask)
    messages = indoor.messages(frozenset(names), image, segmentation, header)
    assert messages.keys() == set(names)
    for name, message in messages.items():
        assert message.header == header
        assert (message.height, message.width) == (30, 50)
        assert message.encoding == ('rgb8' if name == 'overlay' else 'mono8')
        assert message.step == (150 if name == 'overlay' else 50)
        pixels = decode(message) if name == 'overlay' else decode(message)[..., 0]
        assert np.array_equal(pixels, expected[name])


def test_what_is_watched_follows_the_subscribers(indoor, peer):
    topics = {name: indoor._publishers[name].topic_name for name in IMAGES}
    assert indoor.watched() == frozenset()
    for names in SUBSETS:
        subscriptions = [peer.node.create_subscription(
            Image, topics[name], lambda message: None,
            QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)) for name in names]
        peer.wait_until(lambda names=names: indoor.watched() == set(names), f'readers of {names}')
        for subscription in subscriptions:
            peer.node.destroy_subscription(subscription)
    peer.wait_until(lambda: not indoor.watched(), 'readers to go')


def test_who_reads_only_the_label_map_watches_nothing(indoor, peer):
    label_maps = peer.collect(String, indoor._publishers['label_map'].topic_name, LATCHED_QOS)
    indoor.announce(0.0)
    peer.wait_until(lambda: label_maps, 'the label map')
    assert indoor.watched() == frozenset()


def test_a_late_reader_gets_the_label_map_once(indoor, peer):
    for _ in range(3):
        indoor.announce(0.5)
    received = peer.collect(String, indoor._publishers['label_map'].topic_name, LATCHED_QOS)
    peer.wait_until(lambda: received, 'the label map')
    peer.handle_for(0.1)
    assert [message.data for message in received] == [label_map(INDOOR)]


def test_only_published_names_go_out(indoor, peer, result):
    received = {name: peer.collect(Image, indoor._publishers[name].topic_name, QoSProfile(depth=5))
                for name in IMAGES}
    peer.wait_until(lambda: len(indoor.watched()) == 3, 'readers')
    indoor.publish(indoor.messages(frozenset(['overlay', 'mask']), *result))
    peer.wait_until(lambda: received['mask'] and received['overlay'], 'a mask and an overlay')
    assert np.array_equal(decode(received['mask'][0])[..., 0], result[1].mask)
    peer.handle_for(0.1)
    assert received['confidence'] == []


def test_publishers_serve_every_reader_and_end_with_close(node, peer):
    indoor = DomainOutputs(node, INDOOR)
    names = {f'/outputs_0/indoor/{name}': name for name in indoor._publishers}
    assert set(IMAGES) | {'label_map'} <= set(names.values())
    for topic, name in names.items():
        profile = peer.wait_until(
            lambda topic=topic: peer.node.get_publishers_info_by_topic(topic), topic
        )[0].qos_profile
        assert profile.reliability == ReliabilityPolicy.RELIABLE
        assert profile.durability == (DurabilityPolicy.VOLATILE if name in IMAGES
                                      else DurabilityPolicy.TRANSIENT_LOCAL)
    indoor.close()
    for topic in names:
        peer.wait_until(lambda topic=topic: not peer.node.count_publishers(topic), 'no publisher')
    indoor.close()
    DomainOutputs(node, INDOOR).close()


def test_an_override_is_of_its_own_topic_alone(make_node, peer):
    topic = '/outputs_0/indoor/{}'
    node = make_node(**{
        f'qos_overrides.{topic.format("overlay")}.publisher.reliability': 'best_effort'})
    indoor = DomainOutputs(node, INDOOR)
    outdoor = DomainOutputs(node, Domain.create('outdoor', ['road']))
    assert {name: publisher.qos_profile.reliability.name
            for name, publisher in indoor._publishers.items() if name in IMAGES} == {
        'mask': 'RELIABLE', 'confidence': 'RELIABLE', 'overlay': 'BEST_EFFORT'}
    assert all(publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE
               for publisher in outdoor._publishers.values())


def test_an_impossible_override_leaves_no_publisher_behind(make_node):
    node = make_node(**{
        'qos_overrides./outputs_0/indoor/overlay.publisher.reliability': 'perfect'})
    before = len(list(node.publishers))
    with pytest.raises(RuntimeError, match='perfect'):
        DomainOutputs(node, INDOOR)
    assert len(list(node.publishers)) == before


def test_an_inactive_node_publishes_nothing(indoor, node, peer, result):
    received = peer.collect(Image, indoor._publishers['mask'].topic_name, QoSProfile(depth=5))
    peer.wait_until(indoor.watched, 'a reader')
    indoor._publishers['mask'].on_deactivate(None)
    messages = indoor.messages(frozenset(['mask']), *result)
    indoor.publish(messages)
    indoor._publishers['mask'].on_activate(None)
    messages['mask'].header.frame_id = 'when active'
    indoor.publish(messages)
    peer.wait_until(lambda: received, 'a mask')
    assert [message.header.frame_id for message in received] == ['when active']


def test_a_label_map_is_what_the_documentation_says():
    assert json.loads(label_map(INDOOR)) == {
        'domain': 'indoor', 'unknown': 255, 'classes': [
            {'index': 0, 'name': 'floor', 'colour': [150, 100, 60]},
            {'index': 1, 'name': 'wall', 'colour': [1, 2, 3]}]}


def test_a_label_map_holds_any_class_name_and_255_classes():
    names = ['Straße "A"', 'back\\slash', '道路', *(f'c{i}' for i in range(252))]
    classes = json.loads(label_map(Domain.create('wide', names)))['classes']
    assert [entry['name'] for entry in classes] == names
    assert [entry['index'] for entry in classes] == list(range(255))


def test_a_label_info_is_one_of_vision_msgs(indoor, peer):
    messages = pytest.importorskip('vision_msgs.msg', reason='needs vision_msgs')
    assert outputs.LabelInfo is messages.LabelInfo
    header = Header(frame_id='x')
    info = label_info(INDOOR, header, 0.25)
    assert info.header == header
    assert info.threshold == 0.25
    assert [(entry.class_id, entry.class_name) for entry in info.class_map] == [
        (0, 'floor'), (1, 'wall')]
    wide = label_info(Domain.create('wide', [f'c{i}' for i in range(255)]), header, 0.0)
    assert [entry.class_id for entry in wide.class_map] == list(range(255))

    indoor.announce(0.25)
    indoor.announce(0.75)
    received = peer.collect(
        messages.LabelInfo, indoor._publishers['label_info'].topic_name, LATCHED_QOS)
    peer.wait_until(lambda: received, 'the label info')
    peer.handle_for(0.1)
    assert [message.threshold for message in received] == [0.75]
    assert received[0].class_map == info.class_map
    assert received[0].header.stamp.sec > 0


def test_without_vision_msgs_the_label_map_is_there_all_the_same(node, monkeypatch):
    monkeypatch.setattr(outputs, 'LabelInfo', None)
    indoor = DomainOutputs(node, INDOOR)
    indoor.announce(0.0)
    assert set(indoor._publishers) == {*IMAGES, 'label_map'}
    indoor.close()
