"""
MCAP files of bags, written so that a kill at any moment costs only what was not flushed.

https://mcap.dev/spec. Chunks have no checksums: those of a camera's pictures would cost more than
to write them. Where the end of a file is missing, `McapWriter.recover` finds it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
import io
import os
from pathlib import Path
import struct
from typing import BinaryIO

from univseg_core.bags.compression import decompress, zstd
from univseg_core.bags.distributions import (
    METADATA_VERSIONS,
    NEWEST,
    qos_from_text,
    qos_text,
    TYPE_HASHES,
)
from univseg_core.bags.mcap import (
    CHANNEL,
    CHUNK,
    CHUNK_HEAD,
    DATA_END,
    FOOTER,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    RECORD,
    records,
    SCHEMA,
    STATISTICS,
    text_at,
)
from univseg_core.bags.topics import Contents, definition_of, Topic

HEADER, MESSAGE_INDEX, CHUNK_INDEX = 1, 7, 8
BEFORE_SUMMARY = (HEADER, SCHEMA, CHANNEL, CHUNK, MESSAGE_INDEX)
OPCODES = range(HEADER, DATA_END + 1)
PROFILE, LIBRARY = 'ros2', 'univseg'

CHUNK_BYTES = 1 << 20
"""Messages are gathered up to this size; larger ones are chunks of their own, and not copied."""

MOST_BUFFERS = 500
"""Buffers that one call writes; the system's limit is 1024."""

COMPRESSION_LEVEL = 1


@dataclass
class _Chunk:
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
            _record(MESSAGE_INDEX, struct.pack('<HI', channel, 16 * len(entries)) + b''.join(
                struct.pack('<QQ', *entry) for entry in entries))
            for channel, entries in self.messages.items()]

    def summary(self) -> bytes:
        """Return the record of the chunk in the file's summary."""
        offsets, at = b'', self.end
        for channel, index in zip(self.messages, self.message_indexes(), strict=True):
            offsets += struct.pack('<HQ', channel, at)
            at += len(index)
        return _record(CHUNK_INDEX, struct.pack(
            '<QQQQI', self.begin, self.last, self.start, self.end - self.start, len(offsets))
            + offsets + struct.pack('<Q', at - self.end) + _text(self.compression)
            + struct.pack('<QQ', self.stored, self.size))


class McapWriter:
    """
    A new MCAP file; `compression` of its chunks is zstd or empty.

    What was written before `flush` returned stays readable, whatever ends the process. Raises
    FileExistsError where there is a file, and OSError where the disk is full: a new file is then
    removed, any other ends behind the last whole chunk, and `contents` tells what it holds.
    """

    reserve = 1 << 20
    """Bytes of the disk that finishing a file may take: it has its summary."""

    def __init__(self, path: Path, compression: str = '', distribution: str = NEWEST):
        self._open(path, compression, os.O_CREAT | os.O_EXCL)
        self.contents.distribution = distribution
        try:
            self._append([MAGIC, _record(HEADER, _text(PROFILE) + _text(LIBRARY))])
        except OSError:
            self.abandon()
            path.unlink()
            raise

    @classmethod
    def recover(cls, path: Path) -> 'McapWriter':
        """
        Open a file that was not finished, behind its last whole chunk; what follows is cut off.

        Raises ValueError where it does not begin as an MCAP file, or has damaged records before
        its end.
        """
        writer = cls.__new__(cls)
        writer._open(path, '', 0)
        try:
            with path.open('rb') as file:
                writer._scan(file)
        except (OSError, ValueError):
            writer.abandon()
            raise
        except Exception as error:  # whatever damaged bytes lead to
            writer.abandon()
            raise ValueError(f'{path}: damaged: {error!r}') from error
        return writer

    def _open(self, path: Path, compression: str, flags: int) -> None:
        self.path = path
        self.contents = Contents()
        self._end = 0
        self._compression = compression
        self._schemas: dict[str, bytes] = {}
        self._channels: dict[str, int] = {}
        self._channel_records: list[bytes] = []
        self._chunks: list[bytes] = []
        self._clear()
        self._file = os.open(path, os.O_WRONLY | flags, 0o666)

    @property
    def size(self) -> int:
        """Return the bytes of the file and of what waits for `flush`."""
        return self._end + self._gathered

    def add_topic(self, topic: Topic) -> None:
        """Note a topic, before its first message."""
        if topic.type not in self._schemas:
            definition, _ = definition_of(topic.type)
            record = _record(SCHEMA, struct.pack('<H', len(self._schemas) + 1)
                             + _text(topic.type) + _text('ros2msg') + _text(definition))
            self._append([record])
            self._schemas[topic.type] = record
        number = len(self._channels) + 1
        distribution = self.contents.distribution
        metadata = _text('offered_qos_profiles') + _text(qos_text(topic.qos, distribution))
        if METADATA_VERSIONS[distribution] >= TYPE_HASHES:
            metadata += _text('topic_type_hash') + _text(topic.type_hash())
        record = _record(CHANNEL, struct.pack(
            '<HH', number, list(self._schemas).index(topic.type) + 1) + _text(topic.name)
            + _text('cdr') + struct.pack('<I', len(metadata)) + metadata)
        self._append([record])
        self._channel_records.append(record)
        self._channels[topic.name] = number
        self.contents.topics[topic.name] = topic

    def write(self, topic: str, time: int, published: int, data: bytes) -> None:
        """Add a message of a topic: its times in nanoseconds, and its bytes in CDR."""
        if self._gathered and self._gathered + len(data) > CHUNK_BYTES:
            self.flush()
        channel = self._channels[topic]
        self._messages[channel].append((time, self._gathered))
        head = (RECORD.pack(MESSAGE, MESSAGE_HEAD.size + len(data))
                + MESSAGE_HEAD.pack(channel, 0, time, published))
        self._buffers += (head, data)
        self._gathered += len(head) + len(data)
        if self._gathered > CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered, as a chunk."""
        if not self._gathered:
            return
        buffers, stored = self._buffers, self._gathered
        if self._compression:
            buffers = [zstd().compress(b''.join(buffers), COMPRESSION_LEVEL)]
            stored = len(buffers[0])
        times = [time for entries in self._messages.values() for time, _ in entries]
        chunk = _Chunk(self._end, 0, min(times), max(times), self._gathered, self._compression,
                       stored, self._messages)
        head = chunk.head()
        chunk.end = chunk.start + RECORD.size + len(head) + stored
        self._clear()
        self._append([RECORD.pack(CHUNK, len(head) + stored) + head, *buffers,
                      *chunk.message_indexes()])
        self._note(chunk)

    def close(self) -> None:
        """Write what has been gathered, and the summary; if that fails, it can be tried again."""
        self.flush()
        self._append([self._summary()])
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is; it can be recovered."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def write_back(self) -> None:
        """Begin to write the data to the disk, and drop from memory what is there already."""
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)

    def _clear(self) -> None:
        self._buffers: list[bytes] = []
        self._gathered = 0
        self._messages: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def _append(self, buffers: Sequence[bytes]) -> None:
        """Write buffers at the end of the file, all of them or, raising OSError, none."""
        if len(buffers) > MOST_BUFFERS:
            buffers = [b''.join(buffers)]
        left = [memoryview(buffer) for buffer in buffers]
        size = sum(map(len, left))
        try:
            while left:
                written = os.writev(self._file, left)
                while left and written >= len(left[0]):
                    written -= len(left.pop(0))
                if left:
                    left[0] = left[0][written:]
        except OSError:
            self._cut()
            raise
        self._end += size

    def _cut(self) -> None:
        """Let the file end behind what was written as a whole."""
        os.ftruncate(self._file, self._end)
        os.lseek(self._file, self._end, os.SEEK_SET)

    def _note(self, chunk: _Chunk) -> None:
        """Take over a chunk that is in the file with its indexes."""
        self._chunks.append(chunk.summary())
        names = {number: name for name, number in self._channels.items()}
        for channel, entries in chunk.messages.items():
            self.contents.add(names[channel], [time for time, _ in entries])

    def _summary(self) -> bytes:
        """Return all that stands behind the chunks."""
        data_end = _record(DATA_END, struct.pack('<I', 0))
        counts = b''.join(struct.pack('<HQ', number, self.contents.counts[name])
                          for name, number in self._channels.items())
        statistics = _record(STATISTICS, struct.pack(
            '<QHIIIIQQI', self.contents.counts.total(), len(self._schemas), len(self._channels),
            0, 0, len(self._chunks), self.contents.begin or 0, self.contents.end or 0,
            len(counts)) + counts)
        footer = _record(FOOTER, struct.pack('<QQI', self._end + len(data_end), 0, 0))
        return b''.join([data_end, *self._schemas.values(), *self._channel_records,
                         *self._chunks, statistics, footer, MAGIC])

    def _scan(self, file: BinaryIO) -> None:
        """Take over what an unfinished file holds; cut off what follows."""
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f'{self.path}: does not begin as an MCAP file')
        whole, at = file.seek(0, io.SEEK_END), len(MAGIC)
        chunk: _Chunk | None = None
        self._end = at
        while at + RECORD.size <= whole:
            file.seek(at)
            opcode, length = RECORD.unpack(file.read(RECORD.size))
            if opcode not in OPCODES and not _is_zero(file, at):
                raise ValueError(f'{self.path}: damaged at byte {at}, with more behind it')
            end = at + RECORD.size + length
            if end > whole or opcode not in BEFORE_SUMMARY or (
                    opcode == MESSAGE_INDEX and not chunk):
                break
            if opcode == MESSAGE_INDEX:
                assert chunk  # or the loop has ended
                _read_index(chunk, file.read(length))
            else:
                if chunk:
                    self._note(chunk)
                chunk = None
                self._end = end
                if opcode == CHUNK:
                    chunk = _read_chunk(file, at, end)
                else:
                    self._learn(opcode, file.read(length))
            at = end
        if chunk:
            # A kill may have come in the midst of its indexes; a power cut has other ways.
            try:
                file.seek(chunk.end - chunk.stored)
                content = decompress(file.read(chunk.stored), chunk.compression, chunk.size)
                chunk.messages = _index(content, chunk.size)
            except (ValueError, struct.error):
                self._end = chunk.start
                chunk = None
        self._cut()
        if chunk:
            self._append(chunk.message_indexes())
            self._note(chunk)

    def _learn(self, opcode: int, content: bytes) -> None:
        """Note a schema (a type) or a channel (a topic of a type)."""
        if opcode == SCHEMA:
            self._schemas[text_at(content, 2)] = _record(opcode, content)
        elif opcode == CHANNEL:
            number, schema = struct.unpack_from('<HH', content)
            texts, at = [], 4
            while at < len(content):
                texts.append(text_at(content, at))
                at += 4 + len(texts[-1].encode())
                if len(texts) == 2:  # topic and encoding
                    at += 4
            metadata = dict(zip(texts[2::2], texts[3::2], strict=True))
            self._channel_records.append(_record(opcode, content))
            self._channels[texts[0]] = number
            qos, distribution = qos_from_text(metadata['offered_qos_profiles'])
            self.contents.distribution = (
                distribution if 'topic_type_hash' in metadata else 'humble')
            topic = Topic(texts[0], list(self._schemas)[schema - 1], qos)
            topic.type_hash()  # raises where there is no such type
            self.contents.topics[topic.name] = topic


def _is_zero(file: BinaryIO, at: int) -> bool:
    """Return whether a file has nothing but zeros from somewhere on, as a power cut leaves it."""
    file.seek(at)
    return not any(block.strip(b'\0') for block in iter(lambda: file.read(CHUNK_BYTES), b''))


def _read_chunk(file: BinaryIO, start: int, end: int) -> _Chunk:
    begin, last, size, _, length = CHUNK_HEAD.unpack(file.read(CHUNK_HEAD.size))
    compression = file.read(length).decode()
    (stored,) = struct.unpack('<Q', file.read(8))
    if file.tell() + stored != end:
        raise ValueError(f'the chunk at byte {start} is damaged')
    return _Chunk(start, end, begin, last, size, compression, stored)


def _read_index(chunk: _Chunk, content: bytes) -> None:
    (channel,) = struct.unpack_from('<H', content)
    chunk.messages[channel] = list(struct.iter_unpack('<QQ', content[6:]))


def _index(content: bytes, size: int) -> dict[int, list[tuple[int, int]]]:
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


def _record(opcode: int, content: bytes) -> bytes:
    return RECORD.pack(opcode, len(content)) + content


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack('<I', len(data)) + data
