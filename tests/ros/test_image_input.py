"""The subscription to the camera, with cameras that come and go."""

from contextlib import contextmanager

import pytest
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from univseg_ros.image_input import ImageInput

RELIABLE = QoSProfile(depth=5)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class Camera:
    """A publisher of images on the peer's topic."""

    def __init__(self, peer, qos):
        self._peer = peer
        self._publisher = peer.node.create_publisher(Image, 'image', qos)

    def wait(self):
        """Wait until somebody subscribes in a way that matches."""
        self._peer.wait_until(self._publisher.get_subscription_count, 'a subscriber')
        return self

    def send(self):
        """Publish an image; return its stamp."""
        message = Image(header=self._peer.header())
        self._publisher.publish(message)
        return message.header.stamp.sec

    def go(self):
        """Leave, and wait until everyone knows."""
        self._peer.node.destroy_publisher(self._publisher)
        self._peer.wait_until(lambda: not self._peer.node.count_publishers('image'), 'no camera')


class Scene:
    """An input on a topic of its own, and what it received."""

    def __init__(self, peer, transport='raw', reliability='auto', depth=1, timeout=5.0):
        self._peer = peer
        self.received = []
        self.input = ImageInput(peer.node, transport, reliability, depth,
                                lambda message: self.received.append(message.header.stamp.sec),
                                lambda: timeout)

    def expect(self, stamp):
        """Wait for an image."""
        self._peer.wait_until(lambda: stamp in self.received, f'image {stamp}')

    def expect_from(self, camera):
        """Wait for an image of a camera, which sends until one arrives."""
        sent = set()
        self._peer.wait_until(
            lambda: sent.add(camera.send()) or sent.intersection(self.received), 'an image')

    def subscription(self):
        """Return the reliability, and the identity, of the only subscription that there is."""
        endpoint, = self._peer.wait_until(
            lambda: self._peer.node.get_subscriptions_info_by_topic('image'), 'a subscription')
        return endpoint.qos_profile.reliability, bytes(endpoint.endpoint_gid)


@pytest.fixture
def scene(own_peer):
    """Return an input that waits for a camera."""
    scene = Scene(own_peer)
    yield scene
    scene.input.close()


def test_a_reliable_stream_is_complete_from_its_first_image(scene, own_peer):
    before = scene.subscription()
    camera = Camera(own_peer, RELIABLE).wait()
    sent = []
    for _ in range(10):
        sent.append(camera.send())
        scene.expect(sent[-1])
        own_peer.handle_for(0.05)
    assert scene.received == sent
    assert scene.subscription() == before


def test_a_best_effort_camera_is_matched_soon_and_once(scene, own_peer):
    camera = Camera(own_peer, BEST_EFFORT).wait()
    scene.expect_from(camera)
    matched = scene.subscription()
    assert matched[0] == ReliabilityPolicy.BEST_EFFORT
    camera.go()
    own_peer.handle_for(0.5)
    assert scene.subscription() == matched
    scene.expect_from(Camera(own_peer, BEST_EFFORT))
    assert scene.subscription() == matched


def test_another_camera_after_a_best_effort_one(scene, own_peer):
    first = Camera(own_peer, BEST_EFFORT)
    scene.expect_from(first)
    first.go()
    second = Camera(own_peer, RELIABLE)
    own_peer.wait_until(lambda: scene.subscription()[0] == ReliabilityPolicy.RELIABLE,
                        'a reliable subscription')
    scene.expect_from(second)


def test_the_reliability_serves_all_of_several_cameras(scene, own_peer):
    cameras = [Camera(own_peer, qos).wait() for qos in (RELIABLE, BEST_EFFORT)]
    for camera in cameras:
        scene.expect_from(camera)
    assert scene.subscription()[0] == ReliabilityPolicy.BEST_EFFORT
    assert len(scene.received) == len(set(scene.received))


def received_of_five(peer, depth):
    """Return how many come of five images that were sent while the node did nothing."""
    scene = Scene(peer, reliability='reliable', depth=depth)
    camera = Camera(peer, RELIABLE).wait()
    sent = [camera.send() for _ in range(5)]
    scene.expect(sent[-1])
    peer.handle_for(0.05)
    scene.input.close()
    camera.go()
    assert scene.received == sent[-len(scene.received):]
    return len(scene.received)


@pytest.mark.parametrize('depth', [1, 3, 5])
def test_the_middleware_keeps_as_many_images_as_depth_says(own_peer, depth):
    assert received_of_five(own_peer, depth) == depth


TOPIC_PARAMETER = 'qos_overrides./{}/image.subscription.{}'


@pytest.mark.parametrize('own_peer', [{
    TOPIC_PARAMETER.format('test_overrides_take_the_place_of_parameters', 'depth'): 4,
}], indirect=True)
def test_overrides_take_the_place_of_parameters(own_peer):
    for _ in range(2):
        assert received_of_five(own_peer, 1) == 4
    assert not own_peer.node.get_parameters_by_prefix('qos_overrides')


@pytest.mark.parametrize('own_peer', [{
    TOPIC_PARAMETER.format('test_an_override_of_the_reliability', 'reliability'): 'best_effort',
}], indirect=True)
@pytest.mark.parametrize('reliability', ['auto', 'reliable'])
def test_an_override_of_the_reliability(own_peer, reliability):
    scene = Scene(own_peer, reliability=reliability)
    assert scene.subscription()[0] == ReliabilityPolicy.BEST_EFFORT
    camera = Camera(own_peer, RELIABLE).wait()
    scene.expect_from(camera)
    own_peer.handle_for(0.3)
    assert scene.subscription()[0] == ReliabilityPolicy.BEST_EFFORT
    scene.input.close()


@pytest.mark.parametrize(('own_peer', 'value'), [
    ({TOPIC_PARAMETER.format('test_a_wrong_override_is_named', policy): value}, repr(value))
    for policy, value in [('reliability', 'perfect'), ('reliability', 1), ('depth', 'deep'),
                          ('depth', 0), ('depth', -3)]], indirect=['own_peer'])
def test_a_wrong_override_is_named(own_peer, value):
    for _ in range(2):
        with pytest.raises(ValueError, match='/test_a_wrong_override_is_named/image') as raised:
            Scene(own_peer)
        assert value.strip("'") in str(raised.value)
    # Nothing is left behind.
    assert not own_peer.node.get_parameters_by_prefix('qos_overrides')
    assert not own_peer.node.count_subscribers('image')


def test_a_best_effort_camera_gives_a_reliable_subscription_nothing_and_that_is_told(own_peer):
    scene = Scene(own_peer, reliability='reliable', timeout=1e-9)
    camera = Camera(own_peer, BEST_EFFORT)
    own_peer.wait_until(lambda: own_peer.node.count_publishers('image'), 'the camera')
    for _ in range(5):
        camera.send()
        own_peer.handle_for(0.05)
    assert scene.received == []
    assert ('is published by peer as best effort, but the parameter reliability asks for '
            'reliable; set it to auto') in scene.input.silence()
    scene.input.close()


@contextmanager
def another_process():
    """Yield a context as that of another process: in one, a topic has one type."""
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        yield context
    finally:
        context.shutdown()


def test_the_reason_of_silence_is_told(own_peer):
    here = '/test_the_reason_of_silence_is_told'
    scene = Scene(own_peer, timeout=1e-9)

    def told(*texts):
        own_peer.wait_until(lambda: all(text in scene.input.silence() for text in texts),
                            f'{texts}')

    told('no image for 0 s: ', f'nobody publishes {here}/image (sensor_msgs/msg/Image)')
    publishers = [own_peer.node.create_publisher(Image, 'front/image_raw', RELIABLE)]
    told(f'topics of this type are {here}/front/image_raw',
         f'-r image:={here}/front/image_raw')
    publishers.append(own_peer.node.create_publisher(CompressedImage, 'image/compressed', 1))
    told(f'but {here}/image/compressed is published: set image_transport to compressed')
    with another_process() as context:
        node = rclpy.create_node('radio', namespace=here, context=context)
        node.create_publisher(String, 'image', 1)
        told(f'{here}/image is published by radio as std_msgs/msg/String, but '
             'sensor_msgs/msg/Image is expected')
        node.destroy_node()
    camera = Camera(own_peer, BEST_EFFORT)
    told('is published by peer, who sends nothing; is the camera running?')
    scene.expect_from(camera)
    scene.input.close()


def test_the_reason_of_silence_of_compressed_images(own_peer):
    here = '/test_the_reason_of_silence_of_compressed_images'
    scene = Scene(own_peer, 'compressed', timeout=1e-9)
    assert f'nobody publishes {here}/image/compressed' in scene.input.silence()
    own_peer.node.create_publisher(CompressedImage, 'left/compressed', 1)
    own_peer.wait_until(lambda: f'-r image:={here}/left' in scene.input.silence(), 'the other')
    own_peer.node.create_publisher(Image, 'image', 1)
    own_peer.wait_until(
        lambda: f'but {here}/image is published: set image_transport to raw'
        in scene.input.silence(), 'the raw one')
    scene.input.close()


@pytest.mark.parametrize('timeout', [0.0, 1000.0])
def test_no_reason_is_given_before_its_time(own_peer, timeout):
    scene = Scene(own_peer, timeout=timeout)
    assert scene.input.silence() == ''
    scene.input.close()
