"""The subscription to the camera, which matches its QoS and explains why no image comes."""

from collections.abc import Callable
import time
from typing import TypeVar

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage, Image
from univseg_core.pictures.video import video_topics
from univseg_ros.camera_topics import camera_topics, COMPRESSED_IMAGE, IMAGE, TYPES
from univseg_ros.losses import Info, Losses, with_info
from univseg_ros.qos import is_reliable, matching_reliability, no_warning
from univseg_ros.silence import nothing_sent, published_as, published_by, published_types
from univseg_ros.timers import steady_timer

MATCH_PERIOD = 0.1
"""Seconds between two looks at the reliability of the publishers."""

SILENCE_PERIOD = 1.0
"""Seconds between two looks at the time of the last frame."""

LOSSES_PERIOD = 60.0
"""Seconds between two messages in the log about images that were lost."""

TRANSPORTS = {'raw': (IMAGE, ''), 'compressed': (COMPRESSED_IMAGE, '/compressed')}
RELIABILITIES = ('auto', 'reliable', 'best_effort')

Policy = TypeVar('Policy', str, int)


class ImageInput:
    """
    A subscription to the topic `image` or, if `transport` is compressed, `image`/compressed.

    `reliability` is reliable, best_effort or auto: reliable while all publishers are, so that a
    stream is complete from its first frame; best effort, which matches every publisher, as soon
    as one of them is. While there is no publisher, it stays as it was for the last one. `depth`
    is that of keep last. The topic's parameters qos_overrides.TOPIC.subscription.reliability and
    .depth take the place of both.

    Each message is handed to `on_message`. When none comes for `timeout()` seconds (0: however
    long), the node's log says once why.

    Raises ValueError for a QoS override that says what there is not.
    """

    def __init__(self, node: Node, transport: str, reliability: str, depth: int,
                 on_message: Callable[[Image | CompressedImage], None],
                 timeout: Callable[[], float], image: str = 'image'):
        self._node = node
        self._type, suffix = TRANSPORTS[transport]
        self._name = image
        # A remapping of image does not reach image/compressed by itself.
        self._image_topic = node.resolve_topic_name(image)
        self.topic = self._image_topic + suffix
        self._suffix = suffix
        self.losses = Losses()
        """What the middleware lost of the topic."""
        self._on_message = on_message
        self._timeout = timeout
        self._last_message = time.monotonic()
        self._silence_explained = False
        self._overrides: list[str] = []
        try:
            self._reliability = self._override('reliability', reliability)
            self._depth = self._override('depth', depth)
            if self._reliability not in RELIABILITIES or self._depth < 1:
                raise ValueError(
                    f'QoS of {self.topic}: reliability {self._reliability!r}, depth '
                    f'{self._depth}; expected one of {", ".join(RELIABILITIES)}, and at least 1')
            self._subscribe(ReliabilityPolicy.BEST_EFFORT if self._reliability == 'best_effort'
                            else ReliabilityPolicy.RELIABLE)
        except Exception:
            self._undeclare_overrides()
            raise
        self._timers = [steady_timer(node, SILENCE_PERIOD, self._watch_silence)]
        if self._reliability == 'auto':
            self._match_publishers()
            self._timers.append(steady_timer(node, MATCH_PERIOD, self._match_publishers))

    def close(self) -> None:
        """End the subscription."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self._node.destroy_subscription(self._subscription)
        # The executor still holds the subscription for a moment, but not what worked behind it.
        self._on_message = lambda message: None
        self._undeclare_overrides()

    def silence(self) -> str:
        """Say why no image comes; an empty text where one came in the last `timeout` seconds."""
        timeout, silent = self._timeout(), time.monotonic() - self._last_message
        if not timeout or silent <= timeout:
            return ''
        return f'no image for {silent:.0f} s: {self._explain_silence()}'

    def _override(self, policy: str, value: Policy) -> Policy:
        """Return a policy as the topic's parameter has it, whose default is what is given."""
        name = f'qos_overrides.{self.topic}.subscription.{policy}'
        try:
            parameter = self._node.declare_parameter(name, value, ParameterDescriptor(
                description=f'Takes the place of the parameter {policy} for {self.topic}.'))
        except ParameterException as error:
            raise ValueError(str(error)) from error
        self._overrides.append(name)
        return parameter.value

    def _undeclare_overrides(self) -> None:
        # Their defaults may be others next time.
        for name in self._overrides:
            self._node.undeclare_parameter(name)

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        self._subscription = self.losses.watch(
            lambda callbacks: self._node.create_subscription(
                TYPES[self._type], self.topic, with_info(self._receive),
                QoSProfile(depth=self._depth, reliability=reliability),
                event_callbacks=callbacks),
            no_warning if self._reliability == 'auto' else None)

    def _receive(self, message: Image | CompressedImage, info: Info) -> None:
        self.losses.see(self._node, self.topic, info)
        self._last_message = time.monotonic()
        self._silence_explained = False
        self._on_message(message)

    def _publishers(self) -> list[TopicEndpointInfo]:
        return self._node.get_publishers_info_by_topic(self.topic)

    def _match_publishers(self) -> None:
        publishers = self._publishers()
        if not publishers:
            return
        wanted = matching_reliability(publishers)
        if wanted != self._subscription.qos_profile.reliability:
            # Not both at once, or a frame might come twice.
            self._node.destroy_subscription(self._subscription)
            self._subscribe(wanted)
            self._node.get_logger().info(
                f'{self.topic}: subscribed anew as {wanted.name.lower()}, like its publishers')

    def _watch_silence(self) -> None:
        if told := self.losses.told('images'):
            self._node.get_logger().warning(told, throttle_duration_sec=LOSSES_PERIOD)
        if not self._silence_explained and (silence := self.silence()):
            self._silence_explained = True
            self._node.get_logger().warning(silence)

    def _explain_silence(self) -> str:
        publishers = self._publishers()
        if not publishers:
            return f'nobody publishes {self.topic} ({self._type}); {self._alternatives()}'
        if self._type not in published_types(publishers):
            return f'{published_as(self.topic, publishers)}, but {self._type} is expected'
        if self._reliability == 'reliable' and not any(map(is_reliable, publishers)):
            return (f'{published_by(self.topic, publishers)} as best effort, but the parameter '
                    'reliability asks for reliable; set it to auto')
        return nothing_sent(self.topic, publishers)

    def _alternatives(self) -> str:
        other = 'compressed' if self._type == IMAGE else 'raw'
        type_, suffix = TRANSPORTS[other]
        topic = self._image_topic + suffix
        if type_ in published_types(self._node.get_publishers_info_by_topic(topic)):
            return f'but {topic} is published: set image_transport to {other}'
        topics = [topic for topic, types in camera_topics(self._node).items()
                  if self._type in types and topic.endswith(self._suffix)]
        if not topics:
            videos = video_topics({topic: types[0] for topic, types in
                                   self._node.get_topic_names_and_types()})
            return f'no topic of this type is published at all{videos and f"; {videos}"}'
        remapping = f'{self._name}:={topics[0].removesuffix(self._suffix)}'
        return (f'topics of this type are {", ".join(topics)}; remap with, for example, '
                f'--ros-args -r {remapping}')
