"""Chunks of an MCAP file: the messages in one, and the records that tell where they are."""

from collections import defaultdict
from dataclasses import dataclass, field
import struct
from typing import BinaryIO

from univseg_core.bags.mcap import CHUNK_HEAD, MESSAGE, MESSAGE_HEAD, RECORD, records

MESSAGE_INDEX, CHUNK_INDEX = 7, 8


@dataclass
class Chunk:
    """A chunk from byte `start` to `end` of its file, and the (time, offset) of its messages."""

    start: int
    end: int
    begin: int
    last: int
    size: int
    compression: str
    stored: int
    messages: dict[int, list[tuple[int, int]]] = field(
        default_factory=lambda: defaultdict(list))

    def head(self) -> bytes:
        """Return what stands before the chunk's records."""
        return (CHUNK_HEAD.pack(self.begin, self.last, self.size, 0, len(self.compression))
                + self.compression.encode() + struct.pack('<Q', self.stored))

    def message_indexes(self) -> list[bytes]:
        """Return the records that follow the chunk, one for each channel."""
        return [
            record_of(MESSAGE_INDEX, struct.pack('<HI', channel, 16 * len(entries)) + b''.join(
                struct.pack('<QQ', *entry) for entry in entries))
            for channel, entries in self.messages.items()]

    def summary(self) -> bytes:
        """Return the record of the chunk in the file's summary."""
        offsets, at = b'', self.end
        for channel, index in zip(self.messages, self.message_indexes(), strict=True):
            offsets += struct.pack('<HQ', channel, at)
            at += len(index)
        return record_of(CHUNK_INDEX, struct.pack(
            '<QQQQI', self.begin, self.last, self.start, self.end - self.start, len(offsets))
            + offsets + struct.pack('<Q', at - self.end) + text_of(self.compression)
            + struct.pack('<QQ', self.stored, self.size))


def read_chunk(file: BinaryIO, start: int, end: int) -> Chunk:
    """
    Return the chunk whose record is from `start` to `end`, at whose content a file is.

    It is without its messages. Raises ValueError where it is not of that size.
    """
    begin, last, size, _, length = CHUNK_HEAD.unpack(file.read(CHUNK_HEAD.size))
    compression = file.read(length).decode()
    (stored,) = struct.unpack('<Q', file.read(8))
    if file.tell() + stored != end:
        raise ValueError(f'the chunk at byte {start} is damaged')
    return Chunk(start, end, begin, last, size, compression, stored)


def read_index(chunk: Chunk, content: bytes) -> None:
    """Add what one of the records that follow a chunk tells of its messages."""
    (channel,) = struct.unpack_from('<H', content)
    chunk.messages[channel] = list(struct.iter_unpack('<QQ', content[6:]))


def index_of(content: bytes, size: int) -> dict[int, list[tuple[int, int]]]:
    """
    Return the (time, offset) of each message in a chunk's content, by channel.

    Raises ValueError where that is not messages of `size` bytes.
    """
    messages, at = defaultdict(list), 0
    for opcode, record in records(content):
        if opcode != MESSAGE:
            raise ValueError(f'a record {opcode} among the messages')
        channel, _, time, _ = MESSAGE_HEAD.unpack_from(record)
        messages[channel].append((time, at))
        at += RECORD.size + len(record)
    if at != size:
        raise ValueError(f'messages of {at} bytes; expected {size}')
    return messages


def record_of(opcode: int, content: bytes) -> bytes:
    """Return a record."""
    return RECORD.pack(opcode, len(content)) + content


def text_of(text: str) -> bytes:
    """Return a text as it stands in a record."""
    data = text.encode()
    return struct.pack('<I', len(data)) + data
