"""Image topics of a ROS 2 bag as frames to take."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from univseg_core.bags.mcap import FOREVER, Message
from univseg_core.bags.reading import (
    Bag,
    BagError,
    deserialise,
    IMAGE_TYPES,
    METADATA,
    PACKET_TYPES,
)
from univseg_core.datasets.manifest import Row
from univseg_core.datasets.sources.packets import begins_anew, PacketTopic, unknown_encoding
from univseg_core.datasets.sources.source import in_file_name, Item
from univseg_core.errors import did_you_mean, in_one_line
from univseg_core.pictures.image_messages import (
    CompressedImage,
    decode_bgr,
    file_inside,
    Image,
    nanoseconds,
    turned_upright,
)
from univseg_core.pictures.packet_decoder import has_pyav, NO_PYAV
from univseg_core.pictures.picture_files import image_files
from univseg_core.pictures.video import (
    codec_of,
    packet_format,
    refusal,
    video_format,
    video_topics,
)


@dataclass(frozen=True)
class MessagePicture:
    """The picture of an image message; its stamp is the camera's."""

    message: Image | CompressedImage
    stamp: int

    def file(self) -> bytes | None:
        """Return the file inside, as `file_inside` does."""
        return file_inside(self.message)

    def upright(self) -> np.ndarray:
        """Return it decoded; raise MessageError where that cannot be."""
        return turned_upright(self.message, decode_bgr(self.message))


class BagSource:
    """
    The images of some topics of an open bag; without `wanted`, of the only one that has some.

    What is wrong with topics is in `problems`, and the others are read all the same.
    """

    has_times = True

    def __init__(self, bag: Bag, wanted: Sequence[str]):
        self._bag = bag
        self._wrong: list[str] = []
        self._packets: dict[str, PacketTopic] = {}
        self.name = bag.name
        self.identity = in_one_line(bag.path.resolve())
        self.topics = [topic for topic in self._chosen(wanted) if self._can_be_read(topic)]
        self.notes: list[str] = []
        if bag.path.is_dir() and (images := image_files(bag.path)):
            self.notes.append(f'{bag.path}: is read as a bag, as its files or {METADATA} tell; '
                              f'the {len(images)} images in it are not (a folder of their own is)')

    @property
    def problems(self) -> list[str]:
        """Return what is wrong with topics, then what was found to be broken so far."""
        return self._wrong + list(dict.fromkeys(self._bag.damage))

    def count(self) -> int | None:
        """Return how many messages the topics have; None where metadata.yaml does not tell."""
        return self._bag.count(self.topics)

    def items(self, start: float, end: float | None) -> Iterator[Item]:
        """Yield the messages from `start` to `end`, in seconds from the bag's first message."""
        begin = self._bag.begin() or 0
        since = begin + round(start * 1e9) if start else 0
        until = FOREVER if end is None else begin + round(end * 1e9)
        for message in self._bag.messages(self.topics, self._decodable_from(since), until):
            if packets := self._packets.get(message.topic):
                yield from (item for item in packets.items(message) if item.time >= since)
            elif message.time >= since:
                yield Item(message.topic, message.time, partial(_opened, message))
        for topic, packets in self._packets.items():
            yield from (item for item in packets.finish() if item.time >= since)
            if packets.count and not packets.pictures:
                self._wrong.append(f'{self._bag.path}: {topic}: no picture in its {packets.count} '
                                   'packets; expected a keyframe, and what follows it')

    def counted_as(self, topic: str) -> str:
        """Return the topic: each is judged by itself."""
        return topic

    def stem(self, row: Row) -> str:
        """Return TOPIC-STAMP."""
        # ROS allows no hyphen in a topic's name, so that two topics never get one name.
        return f'{in_file_name(row.topic.strip("/").replace("/", "-"))}-{row.stamp:019d}'

    def _chosen(self, wanted: Sequence[str]) -> list[str]:
        """Return those of the topics that have images or packets; note the others."""
        types = self._bag.topics()
        decoded = PACKET_TYPES if has_pyav() else {}
        images = sorted(topic for topic, type_ in types.items() if type_ in IMAGE_TYPES)
        packets = sorted(topic for topic, type_ in types.items() if type_ in decoded)
        refused = video_topics({topic: type_ for topic, type_ in types.items()
                                if type_ not in decoded})
        listed = f'its image topics: {", ".join(images) or "none"}'
        if packets:
            listed += f'; of packets of a video: {", ".join(packets)}'
        if refused:
            listed += f'; {refused}'
            if not decoded:
                listed += f'; {NO_PYAV}'
        if not wanted:
            if len(images or packets) != 1:
                self._wrong.append(f'{self._bag.path}: expected one image topic, or --topic; '
                                   f'{listed}')
                return []
            return images or packets
        for topic in dict.fromkeys(wanted):
            if topic not in types:
                self._wrong.append(f'{self._bag.path}: has no topic {topic}; {listed}'
                                   f'{did_you_mean(topic, images + packets)}')
            elif topic not in images + packets:
                self._wrong.append(f'{self._bag.path}: {topic} is of type {types[topic]}; '
                                   f'{listed}')
        return [topic for topic in dict.fromkeys(wanted) if topic in images + packets]

    def _can_be_read(self, topic: str) -> bool:
        """Return whether a topic can be read, as its first message tells; note why not."""
        type_ = self._bag.topics()[topic]
        if type_ == IMAGE_TYPES[0]:
            return True
        first = next(self._bag.messages([topic]), None)
        try:
            packet = deserialise(first) if first else None
        except BagError:  # which is told of each message
            packet = None
        if type_ in IMAGE_TYPES and not (packet and video_format(packet)):
            return True
        if not has_pyav():
            assert packet is not None  # of other types, nothing was chosen
            self._wrong.append(f'{self._bag.path}: {topic}: {refusal(video_format(packet))}; '
                               f'{NO_PYAV}')
            return False
        if packet and not codec_of(packet) and packet_format(packet):
            self._wrong.append(f'{self._bag.path}: {topic}: {unknown_encoding(packet)}')
            return False
        self._packets[topic] = PacketTopic(topic)
        return True

    def _decodable_from(self, since: int) -> int:
        """Return when to begin reading, so that what is recorded from a time on is decoded."""
        earliest = since
        for topic in self._packets if since else ():
            keys = (message.time for message in self._bag.messages([topic], 0, since)
                    if begins_anew(message))
            earliest = min(earliest, max(keys, default=since))
        return earliest


def _opened(message: Message) -> MessagePicture:
    image = deserialise(message)
    return MessagePicture(image, nanoseconds(image.header.stamp) or message.time)
