"""The subscription to the camera, with cameras that come and go."""

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
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
    """An input with `auto`, on a topic of its own, and what it received."""

    def __init__(self, peer):
        self._peer = peer
        self.received = []
        self.input = ImageInput(peer.node, 'raw', 'auto', 1,
                                lambda message: self.received.append(message.header.stamp.sec),
                                lambda: 5.0)

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
