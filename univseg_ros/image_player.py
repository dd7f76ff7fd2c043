"""Play a folder of images or a ROS 2 bag as a camera."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import math
from pathlib import Path
import sys

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.errors import UnivsegError
from univseg_core.images import IMAGE_SUFFIXES, ImageError, read_image
from univseg_ros.messages import rgb_message
from univseg_ros.signals import ros_until_signal

NODE_NAME = 'image_player'
COMPRESSED_FORMATS = {'.jpg': 'jpeg', '.jpeg': 'jpeg', '.png': 'png'}
TYPES = {f'sensor_msgs/msg/{type_.__name__}': type_ for type_ in (Image, CompressedImage)}
DELIVERY = Duration(seconds=2)
"""How long the last images may take to reach slow subscribers."""

DESCRIPTION = """\
Publish the images of a folder (in the order of their names) or of a ROS 2 bag, as a camera would.
They go out on the topic image, compressed ones on image/compressed; remap image to move both."""

EXAMPLES = """\
examples:
  ros2 run univseg_ros image_player photos/ --rate 5 --loop
  ros2 run univseg_ros image_player photos/ --compressed --ros-args -r image:=/camera/image_raw
  ros2 run univseg_ros image_player my_bag/ --topic /front/image_raw --keep-stamps"""


class SourceError(UnivsegError):
    """A folder or bag that cannot be played."""


class FolderSource:
    """
    The images of a folder, by name; as CompressedImage their files' bytes are sent as they are.

    Raises SourceError where the folder holds none.
    """

    def __init__(self, folder: Path, compressed: bool):
        suffixes = COMPRESSED_FORMATS if compressed else IMAGE_SUFFIXES
        self._paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
        if not self._paths:
            raise SourceError(f'{folder}: no images in it; expected {", ".join(suffixes)}')
        self.type = CompressedImage if compressed else Image

    def __iter__(self) -> Iterator[Image | CompressedImage]:
        """Yield the messages; an image that is damaged is skipped, with a word in the log."""
        for path in self._paths:
            if self.type is CompressedImage:
                yield CompressedImage(format=COMPRESSED_FORMATS[path.suffix.lower()],
                                      data=path.read_bytes())
                continue
            try:
                image = read_image(path)
            except ImageError as error:
                get_logger(NODE_NAME).error(f'skipped: {error}')
            else:
                yield rgb_message(image, Header())


class BagSource:
    """
    The images of one topic of a ROS 2 bag; without `topic`, of the only topic that has some.

    Raises SourceError where the bag cannot be read or has no such topic.
    """

    def __init__(self, bag: Path, topic: str | None):
        self._bag = bag
        with _open_bag(bag) as reader:
            types = {connection.topic: connection.msgtype for connection in reader.connections
                     if connection.msgtype in TYPES}
        available = ', '.join(sorted(types)) or 'none'
        if topic is None and len(types) != 1:
            raise SourceError(
                f'{bag}: expected one image topic; name one with --topic. Its image topics: '
                f'{available}')
        self._topic = topic or next(iter(types))
        if self._topic not in types:
            raise SourceError(f'{bag}: no images on {topic}. Its image topics: {available}')
        self.type = TYPES[types[self._topic]]

    def __iter__(self) -> Iterator[Image | CompressedImage]:
        """Yield the recorded messages in the order of recording."""
        with _open_bag(self._bag) as reader:
            connections = [connection for connection in reader.connections
                           if connection.topic == self._topic]
            for _, _, data in reader.messages(connections=connections):
                yield deserialize_message(data, self.type)


@contextmanager
def _open_bag(bag: Path) -> Iterator:
    try:
        from rosbags.rosbag2 import Reader, ReaderError
    except ImportError as error:
        raise SourceError(f'{bag}: reading bags needs rosbags (pip install rosbags)') from error
    try:
        with Reader(bag) as reader:
            yield reader
    except (ReaderError, LookupError, TypeError, ValueError) as error:
        # Some damaged metadata makes rosbags raise Python's own errors.
        raise SourceError(f'{bag}: not a readable ROS 2 bag: {error}') from error


def open_source(path: Path, topic: str | None, compressed: bool) -> FolderSource | BagSource:
    """
    Return what is at a path: a bag (a folder with metadata.yaml, or a file), or images.

    Raises SourceError where there is neither.
    """
    if not path.exists():
        raise SourceError(f'{path}: not there; expected a folder of images or a ROS 2 bag')
    if path.is_file() or (path / 'metadata.yaml').exists():
        return BagSource(path, topic)
    return FolderSource(path, compressed)


class ImagePlayer(Node):
    """
    Publish a source's images at `rate` Hz; again and again if `loop`.

    `frame_id` None keeps what a message has, or says camera; `keep_stamps` keeps its stamp.
    Nothing is sent until there are `wait_for` subscribers. `done` is the Future of how many were
    sent.
    """

    def __init__(self, source: FolderSource | BagSource, *, rate: float, loop: bool,
                 frame_id: str | None, keep_stamps: bool, wait_for: int):
        super().__init__(NODE_NAME)
        self._messages = repeat(source) if loop else iter(source)
        self._frame_id = frame_id
        self._keep_stamps = keep_stamps
        self._wait_for = wait_for
        self._sent = 0
        self.done = Future()
        # A remapping of image does not reach image/compressed by itself.
        suffix = '/compressed' if source.type is CompressedImage else ''
        self._publisher = self.create_publisher(
            source.type, self.resolve_topic_name('image') + suffix, QoSProfile(depth=10))
        self.create_timer(1 / rate, self._send_next,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        if wait_for > 0:
            self.get_logger().info(f'{self._publisher.topic_name}: waiting for subscribers (at '
                                   f'least {wait_for})')

    def _send_next(self) -> None:
        if self._publisher.get_subscription_count() < self._wait_for:
            return
        self._wait_for = 0
        message = next(self._messages, None)
        if message is not None:
            self._send(message)
        elif not self.done.done():
            self._publisher.wait_for_all_acked(DELIVERY)
            self.done.set_result(self._sent)

    def _send(self, message: Image | CompressedImage) -> None:
        header = message.header
        if not self._keep_stamps:
            header.stamp = self.get_clock().now().to_msg()
        header.frame_id = self._frame_id or header.frame_id or 'camera'
        self._publisher.publish(message)
        self._sent += 1


def repeat(source: FolderSource | BagSource) -> Iterator[Image | CompressedImage]:
    """Yield a source's messages again and again, unless it has none."""
    sent = True
    while sent:
        sent = False
        for message in source:
            sent = True
            yield message


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options that the command line gives."""
    parser = argparse.ArgumentParser(
        'image_player', description=DESCRIPTION, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path,
                        help='a folder of images, or a ROS 2 bag (its folder, .mcap or .db3 file)')
    parser.add_argument('--topic', help="the bag's image topic; not needed where it has only one")
    parser.add_argument('--compressed', action='store_true',
                        help="send a folder's JPEG and PNG files as they are, on image/compressed")
    parser.add_argument('--rate', type=positive, default=10.0, metavar='HZ',
                        help='images a second (default: 10)')
    parser.add_argument('--loop', action='store_true', help='start again at the end')
    parser.add_argument('--keep-stamps', action='store_true',
                        help='keep the stamps recorded in the bag; otherwise each is the time of '
                        'sending')
    parser.add_argument('--frame-id', help='frame_id of the headers (default: as recorded in the '
                        'bag, or camera)')
    parser.add_argument('--wait-for-subscribers', type=int, default=1, metavar='N',
                        help='send nothing until N nodes subscribe; 0: start at once (default: 1)')
    return parser.parse_args(arguments)


def positive(text: str) -> float:
    """Return a number above zero; raise ValueError for anything else."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def main(args: Sequence[str] | None = None) -> int:
    """Play until the end or until interrupted; return the exit code."""
    options = parse_arguments(remove_ros_args(args)[1:])
    try:
        source = open_source(options.source, options.topic, options.compressed)
        if options.keep_stamps and isinstance(source, FolderSource):
            raise SourceError(f'{options.source}: a folder has no recorded stamps to keep')
        with ros_until_signal(args):
            node = ImagePlayer(source, rate=options.rate, loop=options.loop,
                               frame_id=options.frame_id, keep_stamps=options.keep_stamps,
                               wait_for=options.wait_for_subscribers)
            try:
                rclpy.spin_until_future_complete(node, node.done)
                node.get_logger().info(f'sent {node.done.result()} images')
            finally:
                node.destroy_node()
    except SourceError as error:  # some damage in a bag shows only while it is played
        get_logger(NODE_NAME).fatal(str(error))
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
