"""Subscriptions to serialized messages, which match the QoS of their publishers."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
import time
from typing import Any

from rclpy.clock import ROSClock
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from rclpy.topic_endpoint_info import TopicEndpointInfo
from univseg_core.bags.distributions import Qos
from univseg_core.bags.topics import Topic
from univseg_core.recording.serialized_image import SerializedImage
from univseg_ros.camera_topics import camera_topics, TYPES
from univseg_ros.losses import Info, Losses, with_info
from univseg_ros.qos import matching_durability, matching_reliability, no_warning
from univseg_ros.silence import CAMERA_ADVICE, nothing_sent, published_as, published_types
from univseg_ros.timers import steady_timer

MATCH_PERIOD = 0.25
"""Seconds between two looks at the topics and their publishers."""


@dataclass(frozen=True)
class Content:
    """
    What topics carry: the classes of messages by their types, and the `word` for one.

    `advice` is what helps where a topic is published, but nothing is sent.
    """

    types: Mapping[str, Any]
    word: str = 'image'
    advice: str = CAMERA_ADVICE


IMAGES = Content(TYPES)


@dataclass
class _Subscribed:
    """A topic that is subscribed to, and when its last message came."""

    topic: Topic
    subscription: Subscription
    last: float


class RawSubscriptions:
    """
    Subscriptions to topics, of images for example, whose messages are handed on as they are.

    `find` names the topics, and is asked again and again. Each is subscribed to when it is
    published: reliably if all its publishers are reliable, else best effort; transient local if
    they all are. When its publishers change, so does the subscription; it ends when `find` does
    not name the topic any more, though it is published. With simulated time, messages before the
    first time are left out.

    Topics of other types than those of `content` are ignored. A topic on which, by `may_come`,
    nothing can come is not silent. Nothing is subscribed to before `open`.
    """

    def __init__(self, node: Node, find: Callable[[], Collection[str]], depth: int,
                 on_frame: Callable[[SerializedImage], None],
                 content: Content = IMAGES,
                 may_come: Callable[[str], bool] = lambda topic: True):
        self._node = node
        self._find = find
        self._depth = depth
        self._on_frame = on_frame
        self._content = content
        self._may_come = may_come
        self._first_looks: dict[str, float] = {}
        self._subscribed: dict[str, _Subscribed] = {}
        self.losses: dict[str, Losses] = {}
        """What the middleware lost, by topic."""
        self._timeless = 0
        self._timer: Timer | None = None

    @property
    def topics(self) -> list[str]:
        """Return the topics that are subscribed to."""
        return sorted(self._subscribed)

    def open(self) -> None:
        """Subscribe to what there is, and from now on to what comes."""
        self._timer = steady_timer(self._node, MATCH_PERIOD, self._match)
        self._match()

    def close(self) -> None:
        """End the subscriptions."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        # The executor may still hold one for a moment.
        self._on_frame = lambda frame: None
        for known in self._subscribed.values():
            self._node.destroy_subscription(known.subscription)
        self._subscribed.clear()

    def silence(self, timeout: float) -> dict[str, str]:
        """Say of each topic why nothing has come for so many seconds; 0 is never."""
        reasons = {}
        for name in sorted({*self._find(), *self._subscribed}):
            known = self._subscribed.get(name)
            now = time.monotonic()
            silent = now - (known.last if known else self._first_looks.get(name, now))
            if timeout and silent > timeout:
                reasons[name] = (f'no {self._content.word} of {name} for {silent:.0f} s: '
                                 f'{self._explain(name)}')
        return reasons

    def _match(self) -> None:
        published = [name for name in self._subscribed if self._node.count_publishers(name)]
        names = self._find()
        # Those of a segmentation node, for example, that was not yet known to be one.
        for name in set(published) - set(names):
            self._node.destroy_subscription(self._subscribed.pop(name).subscription)
            self._first_looks.pop(name, None)
            self._node.get_logger().info(f'{name}: not subscribed to any more')
        for name in names:
            self._first_looks.setdefault(name, time.monotonic())
            if name in self._subscribed and not self._may_come(name):
                self._subscribed[name].last = time.monotonic()
            publishers = self._node.get_publishers_info_by_topic(name)
            types = published_types(publishers)
            # While nobody publishes it, it stays as it was for the last one.
            if len(types) == 1 and (type_ := types.pop()) in self._content.types:
                self._follow(name, type_, publishers)

    def _follow(self, name: str, type_: str, publishers: list[TopicEndpointInfo]) -> None:
        topic = Topic(name, type_, _offered(publishers))
        known = self._subscribed.get(name)
        wanted = QoSProfile(depth=self._depth, reliability=matching_reliability(publishers),
                            durability=matching_durability(publishers))
        if known:
            there = known.subscription.qos_profile
            if (known.topic.type, there.reliability, there.durability) == (
                    type_, wanted.reliability, wanted.durability):
                known.topic = topic
                return
            # Not both at once, or an image might come twice.
            self._node.destroy_subscription(known.subscription)
        last = known.last if known else time.monotonic()
        self._subscribed[name] = _Subscribed(topic, self._subscribe(name, type_, wanted), last)
        self._node.get_logger().info(
            f'{name} ({type_}): subscribed {"anew " if known else ""}as '
            f'{wanted.reliability.name.lower()}, {wanted.durability.name.lower()}')

    def _subscribe(self, name: str, type_: str, qos: QoSProfile) -> Subscription:
        receive = with_info(partial(self._receive, name))
        message = self._content.types[type_]
        return self.losses.setdefault(name, Losses()).watch(
            lambda callbacks: self._node.create_subscription(
                message, name, receive, qos, event_callbacks=callbacks, raw=True), no_warning)

    def _receive(self, name: str, data: bytes, info: Info) -> None:
        known = self._subscribed.get(name)
        if known is None:
            return
        self.losses[name].see(self._node, name, info)
        clock = self._node.get_clock()
        assert isinstance(clock, ROSClock)  # as that of every node
        came = clock.now().nanoseconds if clock.ros_time_is_active else (
            info['received_timestamp'] or time.time_ns())
        if not came:
            self._timeless += 1
            return
        if self._timeless:
            self._node.get_logger().warning(
                f'{self._timeless} images came before the first time on /clock, and are not '
                'recorded')
            self._timeless = 0
        known.last = time.monotonic()
        self._on_frame(SerializedImage(known.topic, came, info['source_timestamp'] or came, data))

    def _explain(self, name: str) -> str:
        publishers = self._node.get_publishers_info_by_topic(name)
        content = self._content
        if not publishers and content is not IMAGES:
            return f'nobody publishes it; {content.advice}'
        if not publishers:
            there = ', '.join(camera_topics(self._node))
            return (f'nobody publishes it; {there} are published as images' if there else
                    'nobody publishes it, nor any other images')
        if self._timeless:
            return 'images come, but no time: use_sim_time is true, and nothing comes on /clock'
        types = published_types(publishers)
        if len(types) > 1 or not types <= set(content.types):
            return f'{published_as("it", publishers)}; expected {" or ".join(content.types)}'
        return nothing_sent('it', publishers, content.advice)


def _offered(publishers: list[TopicEndpointInfo]) -> tuple[Qos, ...]:
    """Return the different QoS profiles of publishers as rosbag2 writes them."""
    profiles = {repr(profile): profile for profile in
                (_profile(publisher.qos_profile) for publisher in publishers)}
    return tuple(profiles[key] for key in sorted(profiles))


def _profile(qos: QoSProfile) -> Qos:
    return {
        'history': qos.history.name.lower(),
        'depth': qos.depth,
        'reliability': qos.reliability.name.lower(),
        'durability': qos.durability.name.lower(),
        'deadline': _time(qos.deadline),
        'lifespan': _time(qos.lifespan),
        'liveliness': qos.liveliness.name.lower(),
        'liveliness_lease_duration': _time(qos.liveliness_lease_duration),
        'avoid_ros_namespace_conventions': qos.avoid_ros_namespace_conventions,
    }


def _time(duration: Duration) -> dict[str, int]:
    seconds, nanoseconds = divmod(duration.nanoseconds, 10**9)
    return {'sec': seconds, 'nsec': nanoseconds}
