"""Play a folder of images, a video or a ROS 2 bag as a camera."""

import sys

from univseg_ros import start

if __name__ == '__main__':  # before what takes seconds to import
    sys.exit(start.run('image_player'))
else:
    start.require_ros()

import argparse
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
import math
from pathlib import Path
import threading
import time

from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image
from univseg_core.commands.options import whole
from univseg_core.errors import in_one_line, UnivsegError
from univseg_ros.arguments import positive
from univseg_ros.image_sources import FOLDER_RATE, open_source, PlayedImage, Source, SourceError
from univseg_ros.signals import ros_until_signal

NODE_NAME = 'image_player'
AHEAD = 4
"""Frames that are decoded before their time."""

CATCH_UP = 0.5
"""Seconds of lateness that are made up for; beyond them the schedule moves."""

LOG_PERIOD = 10.0
"""Seconds between two words on the progress, or on images that cannot be played."""

LOOK_PERIOD = 0.05
"""Seconds between two looks at the number of subscribers."""

PATIENCE = 5.0
"""Seconds without subscribers after which it is said where there are some."""

LONG_WAIT = 60.0
"""Seconds between two images that are told, as a damaged time may make them years."""

DELIVERY = Duration(seconds=2)
"""How long the last images may take to reach slow subscribers."""

DESCRIPTION = """\
Publish a folder of images (in the order of their names), a video or an image topic of a ROS 2 bag,
as a camera would: on the topic image, compressed ones on image/compressed. Remap image to move
both. It ends with its source or, with --loop, at Ctrl-C."""

EXAMPLES = """\
examples:
  a folder as a camera of 5 Hz, again and again:
    ros2 run univseg_ros image_player photos/ --rate 5 --loop
  a video at its own rate, on another topic:
    ros2 run univseg_ros image_player drive.mp4 --ros-args -r image:=/camera/image_raw
  the same as JPEG, on /camera/image_raw/compressed:
    ros2 run univseg_ros image_player drive.mp4 --compressed --ros-args -r image:=/camera/image_raw
  a bag as it was recorded, with its stamps, like a camera driver with sensor data QoS:
    ros2 run univseg_ros image_player my_bag/ --topic /front/image_raw --keep-stamps \\
      --reliability best_effort --depth 5

A bag is read within limits of memory and disk; the environment variables UNIVSEG_MAX_MESSAGE
(bytes of a message or chunk) and UNIVSEG_MAX_UNPACKED (of a file that is unpacked) set others."""


class ReadAhead:
    """A thread that takes frames from a generator before their time, AHEAD of them at most."""

    def __init__(self, frames: Generator[PlayedImage, None, None]):
        self._frames = frames
        self._changed = threading.Condition()
        self._waiting: deque[PlayedImage] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._closed = False
        self._thread = threading.Thread(target=self._read, name='read ahead')
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait some time at most; say whether `take` has an answer."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._waiting) or self._ended, seconds)

    def take(self) -> PlayedImage | None:
        """Return the next frame, None at the end; raise what the generator raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """End the thread; the generator is closed, too."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _read(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or len(self._waiting) < AHEAD)
                    if self._closed:
                        break
                    self._waiting.append(frame)
                    self._changed.notify_all()
        except Exception as error:
            self._error = error
        finally:
            self._frames.close()  # here, since no other thread may while it runs
            with self._changed:
                self._ended = True
                self._changed.notify_all()


class ImagePlayer(Node):
    """
    Publish images of a type on image, compressed ones on image/compressed.

    `frame_id` None keeps what a message has, or says camera; `keep_stamps` keeps its stamp.
    """

    def __init__(self, type_: type, qos: QoSProfile, *, frame_id: str | None, keep_stamps: bool):
        super().__init__(NODE_NAME)
        self._frame_id = frame_id
        self._keep_stamps = keep_stamps
        self._type_name = f'sensor_msgs/msg/{type_.__name__}'
        # A remapping of image does not reach image/compressed by itself.
        self._suffix = '/compressed' if type_ is CompressedImage else ''
        self._publisher = self.create_publisher(
            type_, self.resolve_topic_name('image') + self._suffix, qos)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def play(self, frames: ReadAhead, subscribers: int) -> int:
        """
        Publish frames at their times, once there are so many subscribers.

        Return how many there were when the last one was delivered.
        """
        sent = sent_before = 0
        frame = self._next(frames)  # before waiting, so that errors show at once
        if frame is not None and subscribers:
            self._wait_for_subscribers(subscribers)
        begin = last_log = time.monotonic()
        while frame is not None:
            due = begin + frame.seconds
            if (wait := due - time.monotonic()) > LONG_WAIT:
                self.get_logger().warning(f'the next image was recorded {wait:.0f} s later, and '
                                          'is waited for; --rate sets a rate instead')
            self._handle_until(due)
            now = time.monotonic()
            if now - due > CATCH_UP:
                begin += now - due
                self.get_logger().warning(
                    f'an image came {now - due:.1f} s later than it should have: the machine does '
                    'not keep up with the rate, or the player was stopped for a while',
                    throttle_duration_sec=LOG_PERIOD)
            self._send(frame.message)
            sent += 1
            if now - last_log > LOG_PERIOD:
                rate = (sent - sent_before) / (now - last_log)
                self.get_logger().info(f'sent {sent} images; {rate:.1f} a second')
                last_log, sent_before = now, sent
            frame = self._next(frames)
        self._publisher.wait_for_all_acked(DELIVERY)
        return sent

    def _wait_for_subscribers(self, count: int) -> None:
        """Wait until there are enough subscribers; after a while say where others are."""
        self.get_logger().info(
            f'{self._publisher.topic_name}: waiting for subscribers (at least {count})')
        end_of_patience = time.monotonic() + PATIENCE
        while self._publisher.get_subscription_count() < count:
            self._executor.spin_once(timeout_sec=LOOK_PERIOD)
            if time.monotonic() > end_of_patience:
                end_of_patience = math.inf
                self.get_logger().warning(self._explain_waiting(count))
        self.get_logger().info('playing')

    def _next(self, frames: ReadAhead) -> PlayedImage | None:
        # The source may be slow; services and signals must not wait for it.
        while not frames.wait(LOOK_PERIOD):
            self._executor.spin_once(timeout_sec=0)
        return frames.take()

    def _handle_until(self, moment: float) -> None:
        """Handle what comes until a moment of the monotonic clock, at least once."""
        remaining = moment - time.monotonic()
        self._executor.spin_once(timeout_sec=min(max(0, remaining), LONG_WAIT))
        while (remaining := moment - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(remaining, LONG_WAIT))

    def _send(self, message: Image | CompressedImage) -> None:
        header = message.header
        if not self._keep_stamps:
            header.stamp = self.get_clock().now().to_msg()
        header.frame_id = self._frame_id or header.frame_id or 'camera'
        self._publisher.publish(message)

    def _explain_waiting(self, count: int) -> str:
        topic = self._publisher.topic_name
        there = self.count_subscribers(topic)
        if there:
            return (f'{topic} has {there} subscribers, of which '
                    f'{self._publisher.get_subscription_count()} can receive its images; '
                    f'{count} are waited for. Do types and QoS fit?')
        others = sorted(
            name for name, types in self.get_topic_names_and_types()
            if self._type_name in types and self.count_subscribers(name))
        if not others:
            return (f'nobody subscribes to {topic}, nor to any topic of {self._type_name}. Is the '
                    'node active? --wait-for-subscribers 0 begins at once')
        remapping = f'image:={others[0].removesuffix(self._suffix)}'
        return (f'nobody subscribes to {topic}; topics of {self._type_name} with subscribers are '
                f'{", ".join(others)}; remap with, for example, --ros-args -r {remapping}')


def schedule(source: Source, rate: float | None,
             loop: bool) -> Generator[PlayedImage, None, None]:
    """
    Yield a source's frames with the seconds at which they are due; if `loop`, again and again.

    These are the source's own or, given a rate, 1 / rate apart. A new round begins after the
    mean interval of the last one, unless that yielded nothing.
    """
    count, start = 0, 0.0
    while True:
        first, last = count, 0.0
        for frame in source:
            last = frame.seconds
            yield PlayedImage(count / rate if rate else start + last, frame.message)
            count += 1
        played = count - first
        if not played or not loop:
            return
        start += last * played / (played - 1) if last else played / FOLDER_RATE


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options that the command line gives."""
    parser = argparse.ArgumentParser(
        'image_player', description=DESCRIPTION, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path,
                        help='a folder of images, an image, a video, or a ROS 2 bag (its folder, '
                        '.mcap or .db3 file), a damaged or unfinished one as far as it goes')
    parser.add_argument('--topic', help="the bag's image topic; not needed where it has only one")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument('--compressed', action='store_const', const=True, default=None,
                      help="send compressed images: a folder's JPEG and PNG files and compressed "
                      'topics as they are, anything else as JPEG')
    kind.add_argument('--raw', dest='compressed', action='store_const', const=False,
                      help='send raw images (default, but for a compressed topic of a bag, which '
                      'is sent as it is)')
    parser.add_argument('--rate', type=positive, metavar='HZ',
                        help="images a second (default: the video's own; as the bag was recorded; "
                        f'{FOLDER_RATE:.0f} for a folder)')
    parser.add_argument('--loop', action='store_true', help='start again at the end')
    parser.add_argument('--keep-stamps', action='store_true',
                        help='keep the stamps recorded in the bag (with --loop they repeat); '
                        'otherwise each is the time of sending')
    parser.add_argument('--frame-id', help='frame_id of the headers (default: as recorded in the '
                        'bag, or camera)')
    parser.add_argument('--wait-for-subscribers', type=whole(0), default=1, metavar='N',
                        help='send nothing until N nodes subscribe; 0: start at once (default: 1)')
    parser.add_argument('--reliability', choices=('reliable', 'best_effort'), default='reliable',
                        help='of the publisher (default: reliable)')
    parser.add_argument('--depth', type=whole(1), default=10, metavar='N',
                        help='images that the publisher keeps for slow readers (default: 10)')
    return parser.parse_args(arguments)


def play(source: Source, options: argparse.Namespace) -> None:
    """Play a source as the options say; raise SourceError where nothing in it can be played."""
    qos = QoSProfile(depth=options.depth,
                     reliability=ReliabilityPolicy[options.reliability.upper()])
    node = ImagePlayer(source.type, qos, frame_id=options.frame_id,
                       keep_stamps=options.keep_stamps)
    try:
        with closing(ReadAhead(schedule(source, options.rate, options.loop))) as frames:
            sent = node.play(frames, options.wait_for_subscribers)
        if not sent:
            raise SourceError(f'{options.source}: there is no image in it that can be played')
        node.get_logger().info(f'sent {sent} images')
    finally:
        node.destroy_node()


def main(args: list[str] | None = None) -> int:
    """Play until the end or until interrupted; return the exit code."""
    options = parse_arguments(remove_ros_args(args)[1:])
    logger = get_logger(NODE_NAME)

    # What a name has of bytes that are no text, ROS's log does not take.
    def skipped(reason: str) -> None:
        logger.error(f'skipped: {in_one_line(reason)}', throttle_duration_sec=LOG_PERIOD)

    def damaged(reason: str) -> None:
        logger.warning(in_one_line(reason))

    try:
        source = open_source(options.source, options.topic, options.compressed, skipped,
                             damaged)
        if options.keep_stamps and not source.has_stamps:
            raise SourceError(f'{options.source}: not a bag, and so without stamps to keep')
        with ros_until_signal(args):
            play(source, options)
    except UnivsegError as error:  # some damage shows only while it is played
        logger.fatal(in_one_line(str(error)))
        return 1
    return 0
