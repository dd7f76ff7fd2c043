"""One topic of a bag that holds packets of a video, as pictures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TYPE_CHECKING

import numpy as np
from univseg_core.bags.mcap import Message
from univseg_core.bags.reading import BagError, deserialise
from univseg_core.datasets.sources.source import Item
from univseg_core.errors import shortened
from univseg_core.pictures.bitstreams import begins_stream
from univseg_core.pictures.image_messages import MessageError, nanoseconds
from univseg_core.pictures.packet_decoder import Outcome, PacketDecoder, picture_of
from univseg_core.pictures.video import codec_of, CODECS, packet_format
from univseg_core.pictures.video_file import VideoError

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class DecodedPicture:
    """A picture that was decoded of a packet, in the decoder's own format of pixels."""

    frame: 'av.VideoFrame'
    stamp: int

    def file(self) -> None:
        """Return None: it is no file."""

    def upright(self) -> np.ndarray:
        """Return it, (H, W, 3) uint8 BGR."""
        return picture_of(self.frame)


class PacketTopic:
    """
    Makes items of a topic's messages, in the order in which their pictures are to be shown.

    Every message is one item, which has the message's own time and stamp. `count` is how many
    there were, `pictures` how many of them have a picture.
    """

    def __init__(self, topic: str):
        self.topic = topic
        self.count = self.pictures = 0
        self._codec = ''
        self._decoder: PacketDecoder | None = None
        self._number = 0
        self._sent: dict[int, tuple[int, int]] = {}

    def items(self, message: Message) -> Iterator[Item]:
        """Take the topic's next message; yield the items that are known by now."""
        self.count += 1
        try:
            packet = deserialise(message)
            stamp = _stamp(packet) or message.time
            codec = codec_of(packet) or self._codec
            if not codec:
                raise MessageError(unknown_encoding(packet))
            if codec != self._codec:
                yield from self.finish()
                self._decoder, self._codec = PacketDecoder(codec), codec
        except (BagError, MessageError, VideoError) as error:
            yield from self._lost(message, str(error))
            return
        assert self._decoder is not None
        number = self._take_number(message.time, stamp)
        yield from self._decided(self._decoder.decode(number, bytes(packet.data)))

    def finish(self) -> Iterator[Item]:
        """Yield the items of all messages so far that are not known yet."""
        if self._decoder:
            yield from self._decided(self._decoder.finish())

    def _lost(self, message: Message, why: str) -> Iterator[Item]:
        if self._decoder:
            number = self._take_number(message.time, message.time)
            yield from self._decided(self._decoder.lose(number, why))
        else:
            yield Item(self.topic, message.time, partial(_picture, why, message.time))

    def _take_number(self, time: int, stamp: int) -> int:
        number, self._number = self._number, self._number + 1
        self._sent[number] = time, stamp
        return number

    def _decided(self, outcomes: Iterable[Outcome]) -> Iterator[Item]:
        for number, outcome in outcomes:
            time, stamp = self._sent.pop(number)
            self.pictures += not isinstance(outcome, str)
            yield Item(self.topic, time, partial(_picture, outcome, stamp))


def begins_anew(message: Message) -> bool:
    """Return whether decoding may begin with a message."""
    try:
        packet = deserialise(message)
    except BagError:
        return False
    codec = codec_of(packet)
    return bool(codec) and begins_stream(codec, bytes(packet.data))


def unknown_encoding(packet: Any) -> str:
    """Say that nothing is known of a packet's format, and what is."""
    return (f'a packet of a video of format {shortened(packet_format(packet), 60)!r}; expected '
            f'one of {", ".join(CODECS)}')


def _stamp(packet: Any) -> int:
    return nanoseconds(packet.header.stamp if hasattr(packet, 'header') else packet.timestamp)


def _picture(outcome: 'av.VideoFrame | str', stamp: int) -> DecodedPicture:
    if isinstance(outcome, str):
        raise MessageError(outcome)
    return DecodedPicture(outcome, stamp)
