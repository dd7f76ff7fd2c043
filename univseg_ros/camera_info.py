"""What a camera says of itself beside its images, and which of it goes with a mask."""

from collections import deque
from copy import deepcopy
import time

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription, SubscriptionEventCallbacks
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from univseg_core.pictures.image_messages import nanoseconds
from univseg_ros.qos import is_latched, is_reliable, no_warning
from univseg_ros.statistics import WINDOW
from univseg_ros.timers import steady_timer

NAME = 'camera_info'

DEPTH = 10

KEPT = 300
"""Messages that are kept for images in work: those of several seconds."""

MATCH_PERIOD = 1.0
"""Seconds between two looks at whether all publishers keep what they have sent."""

ANY_PUBLISHER = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
"""What matches every publisher, but gets nothing that was sent before."""

LATCHED_PUBLISHERS = QoSProfile(depth=DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class CameraInfos:
    """
    The camera_info of the camera whose images come on the topic `image`, relative to the node.

    Its `topic` lies beside the images', as image_transport has it (/camera/image_raw,
    /camera/camera_info), unless a remapping of `camera_info` names another. It is subscribed to
    between `open` and `close`; `of` may be called by another thread.
    """

    def __init__(self, node: Node, image: str = 'image'):
        self._node = node
        self.topic = _topic_beside(node, image)
        self._subscription: Subscription | None = None
        self._timer: Timer | None = None
        self._problem = ''
        self._told = ''
        self._forget()

    def open(self) -> None:
        """Subscribe to the topic."""
        self._subscribe(ANY_PUBLISHER)
        self._timer = steady_timer(self._node, MATCH_PERIOD, self._match_publishers)

    def close(self) -> None:
        """End the subscription, and forget what came."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._timer = self._subscription = None
        self._forget()

    @property
    def state(self) -> str:
        """Return the topic, and that nothing has come on it where it is so."""
        return self.topic if self._newest is not None else f'{self.topic} (nothing has come)'

    @property
    def problem(self) -> str:
        """Return why what comes does not go with the images of the last WINDOW seconds."""
        return self._problem if time.monotonic() - self._problem_time < WINDOW else ''

    def of(self, header: Header, size: tuple[int, int]) -> CameraInfo | None:
        """
        Return what goes with an image of a header and `size` (height, width) in pixels.

        That is the message of the image's stamp or, where there is none, the newest, with the
        image's header, and `scaled` where it is of another size. None where nothing has come, or
        where it is not of an image like this one: then `problem` says why, and once the log.
        """
        info = self._by_stamp.get(nanoseconds(header.stamp), self._newest)
        if info is None:
            return None
        found = scaled(info, size)
        if found is None:
            self._complain(f'{self.topic} is of images of {_size_text(info)}, and the images have '
                           f'{size[1]}x{size[0]}, which is another shape: the masks get no '
                           'camera_info')
            return None
        self._problem = ''
        found.header = header
        return found

    def _complain(self, problem: str) -> None:
        self._problem, self._problem_time = problem, time.monotonic()
        if problem != self._told:
            self._told = problem
            self._node.get_logger().warning(problem)

    def _forget(self) -> None:
        self._problem = ''
        self._told = ''
        self._problem_time = 0.0
        self._newest: CameraInfo | None = None
        self._by_stamp: dict[int, CameraInfo] = {}
        self._stamps: deque[int] = deque()

    def _subscribe(self, qos: QoSProfile) -> None:
        self._subscription = self._node.create_subscription(
            CameraInfo, self.topic, self._receive, qos,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=no_warning))

    def _receive(self, info: CameraInfo) -> None:
        self._newest = info
        stamp = nanoseconds(info.header.stamp)
        if stamp not in self._by_stamp:
            self._stamps.append(stamp)
        self._by_stamp[stamp] = info
        if len(self._stamps) > KEPT:
            del self._by_stamp[self._stamps.popleft()]

    def _match_publishers(self) -> None:
        """Ask for what was sent before where all publishers keep it: it may be all that comes."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        if not publishers or self._subscription is None:
            return
        # What was sent before is repeated to those alone who read it reliably.
        latched = all(is_latched(each) and is_reliable(each) for each in publishers)
        there = self._subscription.qos_profile.durability
        if latched != (there == DurabilityPolicy.TRANSIENT_LOCAL):
            self._node.destroy_subscription(self._subscription)
            self._subscribe(LATCHED_PUBLISHERS if latched else ANY_PUBLISHER)


def _topic_beside(node: Node, image: str) -> str:
    name = f'{image.rpartition("/")[0]}/{NAME}'.lstrip('/')
    remapped = node.resolve_topic_name(name)
    if remapped != node.resolve_topic_name(name, only_expand=True):
        return remapped
    return f'{node.resolve_topic_name(image).rpartition("/")[0]}/{NAME}'


def image_size(info: CameraInfo) -> tuple[int, int]:
    """Return the (height, width) of the images that a message is of: its window, binned."""
    return ((info.roi.height or info.height) // max(1, info.binning_y),
            (info.roi.width or info.width) // max(1, info.binning_x))


def scaled(info: CameraInfo, size: tuple[int, int]) -> CameraInfo | None:
    """
    Return a copy that is of images of `size` (height, width), or None for those of another shape.

    Sizes that differ by a scale, and by rounding, are of the same shape. All that is given in
    pixels of the full resolution is scaled: its size, focal lengths and principal points in K and
    P, the shift in P's last column, and the window (roi). binning stays, and so do D and R, which
    are not in pixels.
    """
    height, width = size
    own_height, own_width = image_size(info)
    if not (own_height and own_width) or (
            abs(own_width * height - own_height * width) >= max(own_width, own_height)):
        return None
    new = deepcopy(info)
    if (own_height, own_width) == size:
        return new
    x, y = width / own_width, height / own_height
    by_row = (x, y, 1.0)
    new.k = [value * by_row[i // 3] for i, value in enumerate(info.k)]
    new.p = [value * by_row[i // 4] for i, value in enumerate(info.p)]
    binned = width * max(1, info.binning_x), height * max(1, info.binning_y)
    if info.roi.width and info.roi.height:
        new.width, new.height = round(info.width * x), round(info.height * y)
        new.roi.x_offset, new.roi.y_offset = (
            round(info.roi.x_offset * x), round(info.roi.y_offset * y))
        new.roi.width, new.roi.height = binned
    else:
        new.width, new.height = binned
    return new


def _size_text(info: CameraInfo) -> str:
    height, width = image_size(info)
    return f'{width}x{height}'
