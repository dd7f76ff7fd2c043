"""What is published of a domain: topics, messages, and what its values mean."""

from itertools import chain, combinations
import json
import threading

from fakes import DEADLINE
import numpy as np
import pytest
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import Segmentation
from univseg_core.pictures.image_messages import decode
from univseg_core.pictures.overlay import overlay_with_legend
from univseg_ros import outputs
from univseg_ros.outputs import (
    DomainOutputs,
    label_info,
    label_map,
    LATCHED_QOS,
    need_confidence,
    Output,
    OUTPUTS,
)

IMAGES = ('mask', 'confidence', 'overlay')
INDOOR = Domain.create('indoor', ['floor', 'wall'], [(150, 100, 60), (1, 2, 3)])
CELLAR = Domain.create('cellar', ['floor', 'wall'])
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


def activate(outputs):
    """Activate publishers, which were made after the node was activated."""
    for publisher in outputs._publishers.values():
        publisher.on_activate(None)


@pytest.fixture
def indoor(node):
    """Return the outputs of the domain indoor of an active node."""
    outputs = DomainOutputs(node, INDOOR)
    activate(outputs)
    yield outputs
    outputs.close()


@pytest.fixture
def cellar(node):
    """Return the like of a domain of which no other test has readers."""
    outputs = DomainOutputs(node, CELLAR)
    activate(outputs)
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
    assert {*OUTPUTS, 'label_map'} - {'traversable'} == set(names.values()) - {'label_info'}
    for topic, name in names.items():
        profile = peer.wait_until(
            lambda topic=topic: peer.node.get_publishers_info_by_topic(topic), topic
        )[0].qos_profile
        assert profile.reliability == ReliabilityPolicy.RELIABLE
        assert profile.durability == (DurabilityPolicy.VOLATILE if name in OUTPUTS
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
    assert set(indoor._publishers) == {*OUTPUTS, 'label_map'} - {'traversable'}
    indoor.close()


def test_a_compressed_mask_is_the_mask_without_loss_as_image_transport_writes_it(indoor, result):
    _, segmentation, header = result
    message = indoor.messages(frozenset(['mask/compressed']), *result)['mask/compressed']
    assert message.header == header
    # The plugin's text for mono8 and PNG ends with a space.
    assert message.format == 'mono8; png compressed '
    assert bytes(message.data[:8]) == b'\x89PNG\r\n\x1a\n'
    assert np.array_equal(decode(message)[..., 0], segmentation.mask)


def test_only_confidence_needs_confidences():
    assert [name for name in OUTPUTS if need_confidence([name])] == ['confidence']
    assert need_confidence(['mask', 'confidence'])
    assert not need_confidence([])


def test_an_output_is_an_entry_of_the_table(node, result, monkeypatch):
    monkeypatch.setitem(OUTPUTS, 'surest', Output(
        String,
        lambda frame: String(data=f'{frame.domain.name} {frame.segmentation.confidence.max()}'),
        needs_confidence=True))
    outputs = DomainOutputs(node, INDOOR)
    assert outputs._publishers['surest'].topic_name == '/outputs_0/indoor/surest'
    assert outputs.messages(frozenset(['surest']), *result) == {
        'surest': String(data=f'indoor {result[1].confidence.max()}')}
    assert need_confidence(['surest'])
    outputs.close()


def test_outputs_lie_below_a_prefix(node):
    outputs = DomainOutputs(node, INDOOR, '~/front', traversable=['floor'])
    assert {publisher.topic_name.removeprefix('/outputs_0/front/indoor/')
            for publisher in outputs._publishers.values()} - {'label_info'} == {
        *OUTPUTS, 'label_map'}
    outputs.close()


def test_who_reads_only_the_camera_info_watches_nothing(cellar, peer):
    topic = cellar._publishers['camera_info'].topic_name
    readers = [peer.node.create_subscription(CameraInfo, topic, lambda message: None, 1)]
    peer.wait_until(cellar._publishers['camera_info'].get_subscription_count, 'the reader')
    assert cellar.watched() == frozenset()
    readers.append(peer.node.create_subscription(
        String, cellar._publishers['classes'].topic_name, lambda message: None, 1))
    peer.wait_until(lambda: cellar.watched() == {'camera_info', 'classes'}, 'both readers')
    for reader in readers:
        peer.node.destroy_subscription(reader)


def test_a_camera_info_is_asked_for_with_the_frame_and_none_is_none(node, result):
    asked = []

    def camera_info_of(header, size):
        asked.append((header, size))
        return CameraInfo(height=30) if len(asked) == 1 else None

    outputs = DomainOutputs(node, INDOOR, camera_info_of=camera_info_of)
    names = frozenset(['mask', 'camera_info'])
    assert outputs.messages(names, *result)['camera_info'] == CameraInfo(height=30)
    assert outputs.messages(names, *result).keys() == {'mask'}
    assert asked == [(result[2], (30, 50))] * 2
    outputs.close()
    indoor = DomainOutputs(node, INDOOR)
    assert indoor.messages(names, *result).keys() == {'mask'}
    indoor.close()


def test_traversable_is_where_the_classes_are_and_unknown_is_not(indoor, result):
    mask = result[1].mask
    names = frozenset(['traversable', 'mask'])
    for classes, expected in ((['floor'], mask == 0), (['indoor/wall', 'road'], mask == 1),
                              (['wall', 'floor'], mask != 255)):
        message = indoor.messages(names, *result, classes)['traversable']
        assert message.header == result[2]
        assert message.encoding == 'mono8'
        assert np.array_equal(decode(message)[..., 0], np.where(expected, 255, 0))
    # A frame that began before they were named has none to show.
    assert indoor.messages(names, *result, ['road', 'outdoor/floor']).keys() == {'mask'}
    assert indoor.messages(names, *result).keys() == {'mask'}


def test_the_topic_of_traversable_comes_and_goes_with_the_classes(cellar, peer, result):
    topic = '/outputs_0/cellar/traversable'
    received = peer.collect(Image, topic, QoSProfile(depth=5))
    for _ in range(2):
        cellar.offer_traversable(['road', ''])
        assert 'traversable' not in cellar._publishers
        cellar.offer_traversable(['floor'])
        first = cellar._publishers['traversable']
        cellar.offer_traversable(['wall', 'road'])
        assert cellar._publishers['traversable'] is first
        peer.wait_until(lambda: cellar.watched() == {'traversable'}, 'a reader')
        messages = cellar.messages(cellar.watched(), *result, ['wall'])
        cellar.publish(messages)
        peer.wait_until(lambda: received, 'an image')
        received.clear()
        cellar.offer_traversable([''])
        cellar.publish(messages)  # of a frame that was in work
        peer.wait_until(lambda: not peer.node.count_publishers(topic), 'no publisher')
        assert cellar.watched() == frozenset()
    assert received == []
    peer.stop_collecting(received)


def test_the_topic_goes_after_the_frame_that_is_being_published(cellar, result, monkeypatch):
    cellar.offer_traversable(['floor'])
    published, begun, go_on = [], threading.Event(), threading.Event()

    def publish_mask(message):
        begun.set()
        assert go_on.wait(DEADLINE)
        published.append('mask')

    monkeypatch.setattr(cellar._publishers['mask'], 'publish', publish_mask)
    monkeypatch.setattr(cellar._publishers['traversable'], 'publish',
                        lambda message: published.append('traversable'))
    messages = cellar.messages(frozenset(['traversable', 'mask']), *result, ['floor'])
    threads = [threading.Thread(target=cellar.publish, args=[messages]),
               threading.Thread(target=cellar.offer_traversable, args=[['']])]
    threads[0].start()
    assert begun.wait(DEADLINE)
    threads[1].start()
    threads[1].join(0.05)
    assert 'traversable' in cellar._publishers
    go_on.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert published == ['mask', 'traversable']
    assert 'traversable' not in cellar._publishers


def test_a_topic_that_comes_while_the_node_is_inactive_waits_for_it(node):
    outputs = DomainOutputs(node, INDOOR)
    outputs.offer_traversable(['floor'])
    assert not outputs._publishers['traversable'].is_activated
    activate(outputs)
    outputs.offer_traversable([''])
    outputs.offer_traversable(['floor'])
    assert outputs._publishers['traversable'].is_activated
    outputs.close()


def test_an_impossible_override_of_traversable_is_refused_at_first_and_told_later(make_node):
    node = make_node(**{
        'qos_overrides./outputs_0/indoor/traversable.publisher.reliability': 'perfect'})
    with pytest.raises(RuntimeError, match='perfect'):
        DomainOutputs(node, INDOOR, traversable=['floor'])
    outputs = DomainOutputs(node, INDOOR)
    outputs.offer_traversable(['floor'])
    assert 'traversable' not in outputs._publishers
    outputs.close()
