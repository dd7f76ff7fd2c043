"""What can be played as a camera: folders of images, videos and ROS 2 bags."""

import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.errors import UnivsegError
from univseg_core.pictures.image_messages import decode, MessageError
from univseg_core.pictures.images import IMAGE_SUFFIXES, ImageError, read_image
from univseg_ros.messages import rgb_message

FOLDER_RATE = 10.0
"""Images a second of a folder, which has no times of its own."""

VIDEO_RATE = 25.0
"""Images a second of a video that does not say them, or not credibly."""

HIGHEST_VIDEO_RATE = 1000.0

LARGEST_JPEG = 65500
"""Pixels a side that libjpeg can write."""

COMPRESSED_FORMATS = {'.jpg': 'jpeg', '.jpeg': 'jpeg', '.png': 'png'}
BAG_SUFFIXES = ('.mcap', '.db3', '.bag')
TYPES = {f'sensor_msgs/msg/{type_.__name__}': type_ for type_ in (Image, CompressedImage)}

Skipped = Callable[[str], None]
"""Is told of an image that cannot be played, and why; the others are played."""


class SourceError(UnivsegError):
    """A folder, video or bag that cannot be played."""


@dataclass(frozen=True)
class PlayedImage:
    """A message, and its time in seconds since the source's first one."""

    seconds: float
    message: Image | CompressedImage


class FolderSource:
    """
    The images of a folder, in the order of their names, or one image file.

    If `compressed`, JPEG and PNG files are sent as they are, unchecked, and others as JPEG.
    Raises SourceError where the folder holds none.
    """

    has_stamps = False

    def __init__(self, folder: Path, compressed: bool, skipped: Skipped):
        self._paths = [folder] if folder.is_file() else sorted(
            path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if not self._paths:
            inside = sorted(path.name for path in folder.iterdir() if path.is_dir())[:10]
            hint = f'; the folders in it are {", ".join(inside)}' if inside else ''
            raise SourceError(
                f'{folder}: no images in it; expected {", ".join(IMAGE_SUFFIXES)}{hint}')
        self._skipped = skipped
        self.type = CompressedImage if compressed else Image

    def __iter__(self) -> Iterator[PlayedImage]:
        """Yield the frames, FOLDER_RATE of them a second."""
        count = 0
        for path in self._paths:
            try:
                message = self._message(path)
            except (ImageError, MessageError) as error:
                self._skipped(str(error))
            except OSError as error:
                self._skipped(f'{path}: cannot be read: {error.strerror}')
            else:
                yield PlayedImage(count / FOLDER_RATE, message)
                count += 1

    def _message(self, path: Path) -> Image | CompressedImage:
        format_ = COMPRESSED_FORMATS.get(path.suffix.lower())
        if self.type is CompressedImage and format_:
            return CompressedImage(format=format_, data=array.array('B', path.read_bytes()))
        return _message(self.type, read_image(path), Header())


class VideoSource:
    """
    The pictures of a video that OpenCV can decode, upright, at the video's own rate.

    Raises SourceError, which names the file, where it cannot.
    """

    has_stamps = False

    def __init__(self, video: Path, compressed: bool):
        self._video = video
        self.type = CompressedImage if compressed else Image
        with _open_video(video) as capture:
            rate = capture.get(cv2.CAP_PROP_FPS)
        self._rate = rate if 0 < rate <= HIGHEST_VIDEO_RATE else VIDEO_RATE

    def __iter__(self) -> Iterator[PlayedImage]:
        """Yield the frames up to the end, or to where the file is cut off."""
        count = 0
        with _open_video(self._video) as capture:
            while True:
                there, picture = capture.read()
                if not there:
                    return
                picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                yield PlayedImage(count / self._rate, _message(self.type, picture, Header()))
                count += 1


class BagSource:
    """
    The images of one topic of a ROS 2 bag; without `topic`, of the only topic that has some.

    `compressed` None sends them as they were recorded; True encodes raw ones as JPEG, False
    decodes compressed ones. Raises SourceError where the bag cannot be read or has no such topic.
    """

    has_stamps = True

    def __init__(self, bag: Path, topic: str | None, compressed: bool | None, skipped: Skipped):
        self._bag = bag
        self._skipped = skipped
        with _open_bag(bag) as reader:
            types = {connection.topic: connection.msgtype for connection in reader.connections
                     if connection.msgtype in TYPES}
        available = ', '.join(sorted(types)) or 'none'
        if topic is None and len(types) != 1:
            advice = 'name one with --topic. ' if types else ''
            raise SourceError(
                f'{bag}: expected one image topic; {advice}Its image topics: {available}')
        self._topic = topic or next(iter(types))
        if self._topic not in types:
            raise SourceError(f'{bag}: no images on {topic}. Its image topics: {available}')
        self._recorded_type = TYPES[types[self._topic]]
        self.type = (self._recorded_type if compressed is None
                     else CompressedImage if compressed else Image)

    def __iter__(self) -> Iterator[PlayedImage]:
        """Yield the frames in the order and at the times of their recording."""
        first, seconds = None, 0.0
        with _open_bag(self._bag) as reader:
            connections = [connection for connection in reader.connections
                           if connection.topic == self._topic]
            for _, nanoseconds, data in reader.messages(connections=connections):
                first = nanoseconds if first is None else first
                seconds = max(seconds, (nanoseconds - first) / 1e9)
                try:
                    yield PlayedImage(seconds, self._message(data))
                except MessageError as error:
                    self._skipped(f'{self._bag}: {error}')

    def _message(self, data: bytes) -> Image | CompressedImage:
        try:
            message = deserialize_message(data, self._recorded_type)
        except Exception as error:  # of rmw, without a class of its own
            raise MessageError(f'a message that cannot be deserialised: {error}') from error
        if self.type is self._recorded_type:
            return message
        return _message(self.type, decode(message), message.header)


Source = FolderSource | VideoSource | BagSource
"""Its `type` is that of its messages; `has_stamps` says whether they were recorded with stamps."""


def open_source(path: Path, topic: str | None, compressed: bool | None,
                skipped: Skipped) -> Source:
    """
    Return what is at a path, ready to be played.

    That is a bag (a folder with metadata.yaml, or a file of it), a folder of images, an image or
    a video. `compressed` None leaves a bag's messages as they are, and sends others raw.
    Raises SourceError where there is none of them.
    """
    if not path.exists():
        raise SourceError(
            f'{path}: not there; expected a folder of images, a video or a ROS 2 bag')
    suffix = path.suffix.lower()
    if (path / 'metadata.yaml').exists() or (path.is_file() and suffix in BAG_SUFFIXES):
        return BagSource(path, topic, compressed, skipped)
    if topic is not None:
        raise SourceError(f'{path}: not a bag, and so without the topic {topic}')
    if path.is_dir():
        parts = [part for part in sorted(path.iterdir()) if part.suffix in BAG_SUFFIXES]
        if parts:
            raise SourceError(
                f'{path}: a bag without metadata.yaml (was its recording cut off?); play '
                f'{parts[0]}, or mend it with: ros2 bag reindex {path}')
    if path.is_dir() or suffix in IMAGE_SUFFIXES:
        return FolderSource(path, bool(compressed), skipped)
    return VideoSource(path, bool(compressed))


def jpeg_message(image: np.ndarray, header: Header) -> CompressedImage:
    """
    Return a picture (H, W, 3) uint8 RGB as a compressed image of OpenCV's JPEG quality, 95.

    Raises MessageError for one that is too large for a JPEG.
    """
    height, width = image.shape[:2]
    if max(height, width) > LARGEST_JPEG:
        raise MessageError(f'a picture of {width}x{height} pixels is too large for a JPEG')
    _, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return CompressedImage(header=header, format='jpeg', data=array.array('B', data.tobytes()))


def _message(type_: type, image: np.ndarray, header: Header) -> Image | CompressedImage:
    if type_ is CompressedImage:
        return jpeg_message(image, header)
    return rgb_message(image, header)


@contextmanager
def _open_video(video: Path) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(str(video))
    try:
        # FFmpeg renders a text file as pictures of its text.
        fourcc = int(capture.get(cv2.CAP_PROP_FOURCC))
        if not capture.isOpened() or fourcc == cv2.VideoWriter.fourcc(*'ansi'):
            raise SourceError(
                f'{video}: not a readable video; expected a folder of images, a video that OpenCV '
                'can decode, or a ROS 2 bag')
        yield capture
    finally:
        capture.release()


@contextmanager
def _open_bag(bag: Path) -> Iterator:
    try:
        from rosbags.rosbag2 import Reader
    except ImportError as error:
        raise SourceError(f'{bag}: reading bags needs rosbags (pip install rosbags)') from error
    try:
        with Reader(bag) as reader:
            yield reader
    except Exception as error:
        # Damaged files make rosbags raise errors of Python, sqlite3, zstd and others.
        raise SourceError(f'{bag}: not a readable ROS 2 bag: '
                          f'{str(error) or type(error).__name__}') from error
