"""The thread in which frames become masks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
import math
import threading
import time
import traceback
from typing import TypeVar

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.inference.segmenter import Request, Segmentation, Segmenter
from univseg_core.machine.memory import is_out_of_memory, release_gpu_memory
from univseg_core.pictures.grey_in_yuv import grey_in_yuv
from univseg_core.pictures.image_messages import decode, MessageError, nanoseconds
from univseg_ros.camera_stream import CameraStream, FrameSettings
from univseg_ros.mailbox import Mailbox
from univseg_ros.outputs import need_class_confidence, need_confidence
from univseg_ros.place import Seen
from univseg_ros.statistics import FrameTimes

LOG_PERIOD = 5.0
"""Seconds between two messages about frames that could not be used."""

SMALLEST_SIZE = 32
"""Longest side in pixels below which the network's input is not lowered any more."""

Result = TypeVar('Result')

Masks = Callable[[], dict[str, Segmentation]]
"""What makes the masks of a frame that was encoded, by their domains."""


@dataclass(frozen=True)
class Arrival:
    """A message and when it came, in seconds of the monotonic clock."""

    message: Image | CompressedImage
    time: float


@dataclass
class Frame:
    """
    A frame in work, with what was read when that began.

    `prepared` is when it could go into the encoder, where the network `sees` it at a (height,
    width); `shared` are its share of the seconds that it was there with others.
    """

    stream: CameraStream
    arrival: Arrival
    settings: FrameSettings
    watched: Mapping[str, frozenset[str]]
    request: Request
    seen: Seen | None
    sees: tuple[int, int]
    begin: float
    prepared: float
    shared: float = 0.0


class FrameWorker:
    """
    Takes the newest frames of cameras, segments and publishes their outputs, in its own thread.

    Cameras take turns. Of the frames that wait, up to `largest_batch` go through the encoder at
    once. Whatever a frame raises is counted and logged, and the others go on.
    """

    def __init__(self, node: Node, segmenter: Segmenter, largest_batch: int = 1):
        self._node = node
        self._segmenter = segmenter
        self.largest_batch = largest_batch
        self._ended = False
        self._mailbox: Mailbox[CameraStream, Arrival] = Mailbox()
        self._thread = threading.Thread(target=self._work, name='inference')
        self._thread.start()

    def put(self, stream: CameraStream, message: Image | CompressedImage) -> None:
        """Leave a message for the thread, in the place of one that it has not taken yet."""
        stream.statistics.receive()
        now = time.monotonic()
        arrival = Arrival(message, now)
        if not stream.has_turn(now):
            # One that waits already gives way all the same: the newer one has its turn.
            self._mailbox.replace(stream, arrival)
            stream.statistics.note('limited')
        elif self._mailbox.put(stream, arrival):
            stream.statistics.note('replaced')

    def stop(self) -> None:
        """Let the thread finish what is in work; nothing is published when this returns."""
        for stream in self._mailbox.close():
            stream.statistics.note('stopped')
        self._thread.join()

    def _work(self) -> None:
        # No frame has a name here, or it would be kept until the next one comes.
        while not self._ended and self._serve(self._mailbox.take(self.largest_batch)):
            pass

    def _serve(self, taken: Sequence[tuple[CameraStream, Arrival]]) -> bool:
        """Bring each of some frames to an outcome; say whether there were any."""
        for stream, _ in taken:
            stream.statistics.begin_work()
        together: dict[tuple[int, int], list[Frame]] = {}
        for stream, arrival in taken:
            frame = self._counted(stream, partial(self._prepare, stream, arrival))
            if frame is not None:
                together.setdefault(frame.sees, []).append(frame)
        for frames in together.values():
            for frame, masks in zip(frames, self._encode(frames), strict=True):
                self._counted(frame.stream, partial(self._finish, frame, masks))
        return bool(taken)

    def _counted(self, stream: CameraStream, act: Callable[[], Result]) -> Result | None:
        """Do a part of the work on a frame; count and log what that raises."""
        try:
            return act()
        except MessageError as error:
            self._skip(stream, 'undecodable', f'it cannot be decoded: {error}')
        except Exception as error:
            if not self._node.context.ok():  # ROS was shut down while it was in work
                stream.statistics.note('stopped')
                self._ended = True
                return None
            self._node.get_logger().debug(traceback.format_exc())
            self._skip(stream, 'failed',
                       f'its segmentation failed: {type(error).__name__}: {error}')
        return None

    def _skip(self, stream: CameraStream, outcome: str, reason: str) -> None:
        stream.statistics.note(outcome, reason)
        self._node.get_logger().error(f'frame skipped, {reason}', throttle_duration_sec=LOG_PERIOD)

    def _prepare(self, stream: CameraStream, arrival: Arrival) -> Frame | None:
        """Return a frame that is ready for the encoder; None where it has come to an outcome."""
        begin = time.monotonic()
        settings = stream.settings()
        place = stream.place if settings.is_auto else None
        outputs = stream.outputs
        watched = {name: names for name in (outputs if place else settings.active_domains)
                   if (names := outputs[name].watched())}
        if not watched and not (place and place.is_watched()):
            stream.statistics.note('unwatched')
            return None
        header = arrival.message.header
        age = self._age(header)
        if settings.max_age and age > settings.max_age:
            stream.statistics.note('stale', f'{age:.3f} s old; max_age is {settings.max_age:g} s')
            return None
        image = decode(arrival.message)
        stream.grey = grey_in_yuv(arrival.message)
        if orientation := stream.unapplied_orientation(arrival.message):
            self._node.get_logger().warning(
                f'the pictures have an orientation in their EXIF data ({orientation}), which is '
                'not applied: masks lie on the pixels that are sent. Frames, from which models '
                "learn, are upright: let the camera's driver turn the pictures")
        seen = Seen(place, header, settings.rule, watched) if place else None
        request = Request(
            image, seen or list(watched),
            [name for name, names in watched.items() if need_confidence(names)],
            settings.confidence_threshold,
            stream.size(settings.inference_size or self._segmenter.own_size),
            [name for name, names in watched.items() if need_class_confidence(names)])
        height, width = image.shape[:2]
        sees = self._segmenter.network_size(height, width, request.inference_size)
        return Frame(stream, arrival, settings, watched, request, seen, sees, begin,
                     prepared=time.monotonic())

    def _encode(self, frames: Sequence[Frame]) -> Sequence[Masks | None]:
        """
        Encode frames of one size at once; return, for each, what makes its masks.

        That is None where it is to be segmented alone: the only one, or all where anything went
        wrong, so that it is told of the frame that it is wrong with.
        """
        if len(frames) > 1:
            begin = time.monotonic()
            try:
                masks = self._segmenter.segment_together([frame.request for frame in frames])
                for frame in frames:
                    frame.shared = (time.monotonic() - begin) / len(frames)
                return masks
            except Exception as error:
                self._node.get_logger().debug(traceback.format_exc())
                out_of_memory = is_out_of_memory(error)
            if out_of_memory:
                release_gpu_memory()
                self.largest_batch = len(frames) // 2
                self._node.get_logger().error(
                    f'out of memory with {len(frames)} frames at once; from now on there are '
                    f'{self.largest_batch} at most')
        return [None] * len(frames)

    def _finish(self, frame: Frame, masks: Masks | None) -> None:
        """Make a frame's masks and publish its outputs."""
        begin = time.monotonic()
        segmentations = self._complete(frame, masks) if masks else self._segment(frame)
        segmented = time.monotonic()
        stream, header, seen = frame.stream, frame.arrival.message.header, frame.seen
        outputs = stream.outputs
        # All are made before the first is published, so that a frame has all its outputs or none.
        messages = {
            name: outputs[name].messages(frame.watched[name], frame.request.image, segmentation,
                                         header, frame.settings.traversable)
            for name, segmentation in segmentations.items()}
        if seen is not None:
            seen.publish()
        for name in segmentations:
            outputs[name].publish(messages[name])
        if not segmentations:
            decided = seen is not None and seen.decision.domain
            stream.statistics.note('unwatched' if decided else 'undecided')
            return
        end = time.monotonic()
        stream.statistics.note('published', times=FrameTimes(
            latency=end - frame.arrival.time, inference=frame.shared + segmented - begin,
            own_cost=frame.prepared - frame.begin + end - segmented, age=self._age(header)))

    def _age(self, header: Header) -> float:
        """Return a frame's age in seconds of the node's clock; nan for a stamp of zero."""
        stamp = nanoseconds(header.stamp)
        return (self._node.get_clock().now().nanoseconds - stamp) / 1e9 if stamp else math.nan

    def _complete(self, frame: Frame, masks: Masks) -> dict[str, Segmentation]:
        """Make the masks of a frame that was encoded with others, or alone if memory runs out."""
        try:
            return masks()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        release_gpu_memory()
        return self._segment(frame)

    def _segment(self, frame: Frame) -> dict[str, Segmentation]:
        """
        Segment a frame; where memory runs out, at a smaller size, and from now on if that helps.

        A size that somebody sets meanwhile is for the next frame.
        """
        segmenter, request = self._segmenter, frame.request
        tried = first = request.inference_size
        while True:
            size = tried or max(request.image.shape[:2])
            try:
                result = segmenter(request.image, request.domains, confidence=request.confidence,
                                   threshold=request.threshold, inference_size=tried,
                                   class_confidence=request.class_confidence)
                break
            except Exception as error:
                if (not is_out_of_memory(error) or size <= SMALLEST_SIZE
                        or segmenter.only_size is not None):
                    raise
            tried = max(SMALLEST_SIZE, size * 3 // 4)
            release_gpu_memory()
        if tried is not None and tried != first:
            asked = frame.settings.inference_size or segmenter.own_size
            frame.stream.lowered = asked, tried
            self._node.get_logger().error(
                f'out of memory at inference_size {asked or max(request.image.shape[:2])}; from '
                f'now on it is {tried} (set inference_size to change it)')
        return result
