"""The thread in which frames become masks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import math
import threading
import time
import traceback

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.inference.segmenter import Segmentation, Segmenter
from univseg_core.machine.memory import is_out_of_memory, release_gpu_memory
from univseg_core.pictures.grey_in_yuv import grey_in_yuv
from univseg_core.pictures.image_messages import decode, MessageError, nanoseconds
from univseg_core.pictures.picture_files import orientation_of
from univseg_ros.mailbox import Mailbox
from univseg_ros.outputs import DomainOutputs, need_confidence
from univseg_ros.statistics import FrameStatistics, FrameTimes

LOG_PERIOD = 5.0
"""Seconds between two messages about frames that could not be used."""

SMALLEST_SIZE = 32
"""Longest side in pixels below which the network's input is not lowered any more."""


@dataclass(frozen=True)
class FrameSettings:
    """What may change between two frames; 0 stands for no limit."""

    active_domains: list[str]
    confidence_threshold: float
    max_age: float
    max_rate: float
    traversable: Sequence[str] = ()


@dataclass(frozen=True)
class Arrival:
    """A message and when it came, in seconds of the monotonic clock."""

    message: Image | CompressedImage
    time: float


class FrameWorker:
    """
    Takes the newest frame, segments it and publishes its outputs, in a thread of its own.

    `settings` is asked when a frame's processing starts, and all its outputs follow from what it
    says then; only max_rate is asked when it comes. Whatever a frame raises is counted and
    logged, and the next one is taken.
    """

    def __init__(self, node: Node, segmenter: Segmenter, outputs: Mapping[str, DomainOutputs],
                 settings: Callable[[], FrameSettings]):
        self.statistics = FrameStatistics()
        self.grey = ''
        """Why the last image is grey, though its encoding has colours; empty where it is not."""
        self._node = node
        self._segmenter = segmenter
        self._outputs = outputs
        self._settings = settings
        self._last_turn = -np.inf
        self._orientation_seen = False
        self._mailbox: Mailbox[Arrival] = Mailbox()
        self._thread = threading.Thread(target=self._work, name='inference')
        self._thread.start()

    def put(self, message: Image | CompressedImage) -> None:
        """Leave a message for the thread, in the place of one that it has not taken yet."""
        self.statistics.receive()
        now = time.monotonic()
        arrival = Arrival(message, now)
        max_rate = self._settings().max_rate
        if max_rate:
            turn = self._last_turn + 1 / max_rate
            if now < turn:
                # One that waits already gives way all the same: the newer one has its turn.
                self._mailbox.replace(arrival)
                self.statistics.note('limited')
                return
            # When it was due rather than now, or max_rate would not be kept on average at any
            # camera's rate; but a pause gives at most one frame's credit.
            self._last_turn = max(turn, now - 1 / max_rate)
        if self._mailbox.put(arrival):
            self.statistics.note('replaced')

    def stop(self) -> None:
        """Let the thread finish its frame; nothing is published any more when this returns."""
        if self._mailbox.close():
            self.statistics.note('stopped')
        self._thread.join()

    def _work(self) -> None:
        while (arrival := self._mailbox.take()) is not None:
            self.statistics.begin_work()
            try:
                self._process(arrival)
            except MessageError as error:
                self._skip('undecodable', f'it cannot be decoded: {error}')
            except Exception as error:
                if not self._node.context.ok():  # ROS was shut down while it was in work
                    self.statistics.note('stopped')
                    return
                self._node.get_logger().debug(traceback.format_exc())
                self._skip('failed', f'its segmentation failed: {type(error).__name__}: {error}')
            del arrival  # or it would be kept until the next one comes

    def _skip(self, outcome: str, reason: str) -> None:
        self.statistics.note(outcome, reason)
        self._node.get_logger().error(f'frame skipped, {reason}', throttle_duration_sec=LOG_PERIOD)

    def _process(self, arrival: Arrival) -> None:
        begin = time.monotonic()
        settings = self._settings()
        watched = {name: names for name in settings.active_domains
                   if (names := self._outputs[name].watched())}
        if not watched:
            self.statistics.note('unwatched')
            return
        header = arrival.message.header
        age = self._age(header)
        if settings.max_age and age > settings.max_age:
            self.statistics.note('stale', f'{age:.3f} s old; max_age is {settings.max_age:g} s')
            return
        image = decode(arrival.message)
        self.grey = grey_in_yuv(arrival.message)
        self._tell_orientation(arrival.message)
        decoded = time.monotonic()
        segmentations = self._segment(image, watched, settings.confidence_threshold)
        segmented = time.monotonic()
        # All are made before the first is published, so that a frame has all its outputs or none.
        messages = {
            name: self._outputs[name].messages(names, image, segmentations[name], header,
                                               settings.traversable)
            for name, names in watched.items()}
        for name in watched:
            self._outputs[name].publish(messages[name])
        end = time.monotonic()
        inference = segmented - decoded
        self.statistics.note('published', times=FrameTimes(
            latency=end - arrival.time, inference=inference, own_cost=end - begin - inference,
            age=self._age(header)))

    def _tell_orientation(self, message: Image | CompressedImage) -> None:
        """Say, of the first picture file that comes, that its orientation is not applied."""
        if self._orientation_seen or isinstance(message, Image):
            return
        self._orientation_seen = True
        orientation = orientation_of(bytes(message.data))
        if orientation > 1:
            self._node.get_logger().warning(
                f'the pictures have an orientation in their EXIF data ({orientation}), which is '
                'not applied: masks lie on the pixels that are sent. Frames, from which models '
                "learn, are upright: let the camera's driver turn the pictures")

    def _age(self, header: Header) -> float:
        """Return a frame's age in seconds of the node's clock; nan for a stamp of zero."""
        stamp = nanoseconds(header.stamp)
        return (self._node.get_clock().now().nanoseconds - stamp) / 1e9 if stamp else math.nan

    def _segment(self, image: np.ndarray, watched: Mapping[str, frozenset[str]],
                 threshold: float) -> dict[str, Segmentation]:
        """
        Segment an image; where memory runs out, at a smaller size, and from now on if that helps.

        A size that somebody sets meanwhile is left alone.
        """
        confidence = [name for name, names in watched.items() if need_confidence(names)]
        segmenter = self._segmenter
        asked = tried = segmenter.inference_size
        while True:
            size = tried or max(image.shape[:2])
            try:
                result = segmenter(image, list(watched), confidence=confidence,
                                   threshold=threshold)
                break
            except Exception as error:
                gives_up = (not is_out_of_memory(error) or size <= SMALLEST_SIZE
                            or segmenter.only_size is not None)
                if segmenter.inference_size == tried:
                    tried = asked if gives_up else max(SMALLEST_SIZE, size * 3 // 4)
                    segmenter.inference_size = tried
                if gives_up:
                    raise
            tried = segmenter.inference_size
            release_gpu_memory()
        if tried != asked and segmenter.inference_size == tried:
            self._node.get_logger().error(
                f'out of memory at inference_size {asked or max(image.shape[:2])}; from now on it '
                f'is {tried} (set inference_size to change it)')
        return result
