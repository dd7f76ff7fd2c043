"""What can be played as a camera: folders of images, videos and ROS 2 bags."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.bags.mcap import Message
from univseg_core.bags.reading import Bag, BagError, deserialise, is_bag
from univseg_core.errors import UnivsegError
from univseg_core.pictures.image_messages import decode, MessageError, turned_upright
from univseg_core.pictures.images import LARGEST_JPEG, read_image
from univseg_core.pictures.picture_files import (
    file_bytes,
    image_files,
    IMAGE_SUFFIXES,
    ImageError,
    orientation_of,
)
from univseg_core.pictures.video import refusal, video_format, video_topics
from univseg_core.pictures.video_file import frame_rate, open_video, VideoError
from univseg_ros.camera_topics import TYPES
from univseg_ros.messages import filled, rgb_message

FOLDER_RATE = 10.0
"""Images a second of a folder, which has no times of its own."""

COMPRESSED_FORMATS = {'.jpg': 'jpeg', '.jpeg': 'jpeg', '.png': 'png'}

Warn = Callable[[str], None]
"""Warns of something that cannot be played, and why; the rest is played."""


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

    If `compressed`, JPEG and PNG files are sent as they are, unchecked, and others as JPEG; so
    are those that an orientation in their EXIF data turns, which decoders may ignore.
    Raises SourceError where the folder holds none.
    """

    has_stamps = False

    def __init__(self, folder: Path, compressed: bool, skipped: Warn):
        self._paths = [folder] if folder.is_file() else image_files(folder)
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
            data = file_bytes(path)
            if orientation_of(data) == 1:
                return filled(CompressedImage(format=format_), data)
        return _message(self.type, read_image(path), Header())


class VideoSource:
    """
    The pictures of a video that OpenCV can decode, upright, at the video's own rate.

    Raises SourceError, which names the file, where it cannot, and where the video says that its
    pictures are of more than limits.PIXELS.
    """

    has_stamps = False

    def __init__(self, video: Path, compressed: bool):
        self._video = video
        self.type = CompressedImage if compressed else Image
        with _open_video(video) as capture:
            self._rate = frame_rate(capture)

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
    decodes compressed ones. A bag that is damaged or was not finished is played as far as it can
    be read; `damaged` is told what is missing. Raises SourceError where that is all, or where
    there is no such topic.
    """

    has_stamps = True

    def __init__(self, path: Path, topic: str | None, compressed: bool | None, skipped: Warn,
                 damaged: Warn):
        self._path = path
        self._skipped = skipped
        self._damaged = damaged
        self._warned: set[str] = set()
        with _open_bag(path) as bag:
            there = bag.topics()
            types = {name: type_ for name, type_ in there.items() if type_ in TYPES}
            if not types:
                for _ in bag.messages((), until=0):
                    pass  # There is none; it finds what is broken.
                if bag.damage:
                    raise SourceError(f'{path}: not a readable ROS 2 bag: '
                                      f'{"; ".join(bag.damage)}')
        videos = video_topics(there)
        available = f'{", ".join(sorted(types)) or "none"}{videos and f"; {videos}"}'
        if topic is None and len(types) != 1:
            advice = 'name one with --topic. ' if types else ''
            raise SourceError(
                f'{path}: expected one image topic; {advice}Its image topics: {available}')
        self._topic = topic or next(iter(types))
        if self._topic not in types:
            raise SourceError(f'{path}: no images on {topic}. Its image topics: {available}')
        self.type = (TYPES[types[self._topic]] if compressed is None
                     else CompressedImage if compressed else Image)

    def __iter__(self) -> Iterator[PlayedImage]:
        """Yield the frames as they were written, at the times of their recording."""
        first, seconds = None, 0.0
        with _open_bag(self._path) as bag:
            self._warn_of(bag.damage)
            for recorded in bag.messages([self._topic]):
                first = recorded.time if first is None else first
                seconds = max(seconds, (recorded.time - first) / 1e9)
                try:
                    yield PlayedImage(seconds, self._message(recorded))
                except (BagError, MessageError) as error:
                    self._skipped(f'{self._path}: {error}')
            self._warn_of(bag.damage)

    def _warn_of(self, damage: list[str]) -> None:
        """Tell of damage, but not each time that the bag is played."""
        for text in damage:
            if text not in self._warned:
                self._warned.add(text)
                self._damaged(text)

    def _message(self, recorded: Message) -> Image | CompressedImage:
        message = _ros_message(recorded)
        if isinstance(message, self.type):
            if codec := video_format(message):
                self._warn_of([f'{self._path}: {self._topic} is sent as it is: {refusal(codec)}'])
            return message
        picture = decode(message)
        if self.type is Image:  # which has no EXIF data to say how it lies
            picture = turned_upright(message, picture)
        return _message(self.type, picture, message.header)


Source = FolderSource | VideoSource | BagSource
"""Its `type` is that of its messages; `has_stamps` says whether they were recorded with stamps."""


def open_source(path: Path, topic: str | None, compressed: bool | None, skipped: Warn,
                damaged: Warn) -> Source:
    """
    Return what is at a path, ready to be played.

    That is a bag (a folder with metadata.yaml or with files of a bag, or such a file), a folder of
    images, an image or a video. `compressed` None leaves a bag's messages as they are, and sends
    others raw. `skipped` is told of images, `damaged` of a bag's files. Raises SourceError where
    there is none of them.
    """
    if not path.exists():
        raise SourceError(
            f'{path}: not there; expected a folder of images, a video or a ROS 2 bag')
    suffix = path.suffix.lower()
    if is_bag(path) or (suffix == '.bag' and path.is_file()):
        return BagSource(path, topic, compressed, skipped, damaged)
    if topic is not None:
        raise SourceError(f'{path}: not a bag, and so without the topic {topic}')
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
    return filled(CompressedImage(header=header, format='jpeg'), data)


def _ros_message(recorded: Message) -> Image | CompressedImage:
    """Return a recorded message as ROS has it; raise BagError where `univseg frames` does."""
    there, type_ = deserialise(recorded), TYPES[recorded.msgtype]
    header = Header(frame_id=there.header.frame_id)
    header.stamp.sec, header.stamp.nanosec = there.header.stamp.sec, there.header.stamp.nanosec
    others = {name: getattr(there, name) for name in type_.get_fields_and_field_types()
              if name not in ('header', 'data')}
    return filled(type_(header=header, **others), there.data)


def _message(type_: type, image: np.ndarray, header: Header) -> Image | CompressedImage:
    if type_ is CompressedImage:
        return jpeg_message(image, header)
    return rgb_message(image, header)


@contextmanager
def _open_video(path: Path) -> Iterator[cv2.VideoCapture]:
    try:
        with open_video(path) as capture:
            yield capture
    except VideoError as error:
        raise SourceError(str(error)) from error


@contextmanager
def _open_bag(path: Path) -> Iterator[Bag]:
    try:
        with Bag(path) as bag:
            yield bag
    except BagError as error:
        raise SourceError(str(error)) from error
