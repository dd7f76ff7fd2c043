"""
MCAP files of bags, written so that a kill at any moment costs only what was not flushed.

https://mcap.dev/spec. Chunks have no checksums: those of a camera's pictures would cost more than
to write them. Where the end of a file is missing, `McapWriter.recover` finds it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
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
    DATA_END,
    FOOTER,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    RECORD,
    SCHEMA,
    STATISTICS,
    text_at,
)
from univseg_core.bags.mcap_chunk import (
    Chunk,
    index_of,
    MESSAGE_INDEX,
    read_chunk,
    read_index,
    record_of,
    text_of,
)
from univseg_core.bags.topics import Contents, definition_of, Topic

HEADER, METADATA, METADATA_INDEX = 1, 12, 13
BEFORE_SUMMARY = (HEADER, SCHEMA, CHANNEL, CHUNK, MESSAGE_INDEX, METADATA)
OPCODES = range(HEADER, DATA_END + 1)
PROFILE, LIBRARY = 'ros2', 'univseg'

CHUNK_BYTES = 1 << 20
"""Messages are gathered up to this size; larger ones are chunks of their own, and not copied."""

MOST_BUFFERS = 500
"""Buffers that one call writes; the system's limit is 1024."""

COMPRESSION_LEVEL = 1


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
            self._append([MAGIC, record_of(HEADER, text_of(PROFILE) + text_of(LIBRARY))])
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
        self._descriptions: list[bytes] = []
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
            record = record_of(SCHEMA, struct.pack('<H', len(self._schemas) + 1)
                               + text_of(topic.type) + text_of('ros2msg') + text_of(definition))
            self._append([record])
            self._schemas[topic.type] = record
        number = len(self._channels) + 1
        distribution = self.contents.distribution
        metadata = text_of('offered_qos_profiles') + text_of(qos_text(topic.qos, distribution))
        if METADATA_VERSIONS[distribution] >= TYPE_HASHES:
            metadata += text_of('topic_type_hash') + text_of(topic.type_hash())
        record = record_of(CHANNEL, struct.pack(
            '<HH', number, list(self._schemas).index(topic.type) + 1) + text_of(topic.name)
            + text_of('cdr') + struct.pack('<I', len(metadata)) + metadata)
        self._append([record])
        self._channel_records.append(record)
        self._channels[topic.name] = number
        self.contents.topics[topic.name] = topic

    def describe(self, description: Mapping[str, str]) -> None:
        """Say something of the whole file, instead of what was said before."""
        pairs = b''.join(text_of(text) for pair in description.items() for text in pair)
        record = record_of(METADATA, text_of(LIBRARY) + struct.pack('<I', len(pairs)) + pairs)
        at = self._end
        self._append([record])
        self._note_description(at, len(record), description)

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
        chunk = Chunk(self._end, 0, min(times), max(times), self._gathered, self._compression,
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

    def _note(self, chunk: Chunk) -> None:
        """Take over a chunk that is in the file with its indexes."""
        self._chunks.append(chunk.summary())
        names = {number: name for name, number in self._channels.items()}
        for channel, entries in chunk.messages.items():
            self.contents.add(names[channel], [time for time, _ in entries])

    def _note_description(self, at: int, size: int, description: Mapping[str, str]) -> None:
        self.contents.description = dict(description)
        self._descriptions.append(record_of(
            METADATA_INDEX, struct.pack('<QQ', at, size) + text_of(LIBRARY)))

    def _summary(self) -> bytes:
        """Return all that stands behind the chunks."""
        data_end = record_of(DATA_END, struct.pack('<I', 0))
        counts = b''.join(struct.pack('<HQ', number, self.contents.counts[name])
                          for name, number in self._channels.items())
        statistics = record_of(STATISTICS, struct.pack(
            '<QHIIIIQQI', self.contents.counts.total(), len(self._schemas), len(self._channels),
            0, len(self._descriptions), len(self._chunks), self.contents.begin or 0,
            self.contents.end or 0, len(counts)) + counts)
        footer = record_of(FOOTER, struct.pack('<QQI', self._end + len(data_end), 0, 0))
        return b''.join([data_end, *self._schemas.values(), *self._channel_records,
                         *self._chunks, *self._descriptions, statistics, footer, MAGIC])

    def _scan(self, file: BinaryIO) -> None:
        """Take over what an unfinished file holds; cut off what follows."""
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f'{self.path}: does not begin as an MCAP file')
        whole, at = file.seek(0, io.SEEK_END), len(MAGIC)
        chunk: Chunk | None = None
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
                read_index(chunk, file.read(length))
            else:
                if chunk:
                    self._note(chunk)
                chunk = None
                self._end = end
                if opcode == CHUNK:
                    chunk = read_chunk(file, at, end)
                else:
                    self._learn(opcode, file.read(length))
            at = end
        if chunk:
            # A kill may have come in the midst of its indexes; a power cut has other ways.
            try:
                file.seek(chunk.end - chunk.stored)
                content = decompress(file.read(chunk.stored), chunk.compression, chunk.size)
                chunk.messages = index_of(content, chunk.size)
            except (ValueError, struct.error):
                self._end = chunk.start
                chunk = None
        self._cut()
        if chunk:
            self._append(chunk.message_indexes())
            self._note(chunk)

    def _learn(self, opcode: int, content: bytes) -> None:
        """Note a schema (a type), a channel (a topic of a type), or what is said of the file."""
        if opcode == SCHEMA:
            self._schemas[text_at(content, 2)] = record_of(opcode, content)
        elif opcode == CHANNEL:
            number, schema = struct.unpack_from('<HH', content)
            texts, metadata = _texts_and_pairs(content, 4, 2)
            self._channel_records.append(record_of(opcode, content))
            self._channels[texts[0]] = number
            qos, distribution = qos_from_text(metadata['offered_qos_profiles'])
            self.contents.distribution = (
                distribution if 'topic_type_hash' in metadata else 'humble')
            topic = Topic(texts[0], list(self._schemas)[schema - 1], qos)
            topic.type_hash()  # raises where there is no such type
            self.contents.topics[topic.name] = topic
        elif opcode == METADATA:
            (name,), description = _texts_and_pairs(content, 0, 1)
            if name == LIBRARY:
                size = RECORD.size + len(content)
                self._note_description(self._end - size, size, description)


def _texts_and_pairs(content: bytes, at: int, count: int) -> tuple[list[str], dict[str, str]]:
    """Return so many texts from some byte on, and the pairs of texts behind them."""
    texts: list[str] = []
    while at < len(content):
        texts.append(text_at(content, at))
        at += 4 + len(texts[-1].encode())
        if len(texts) == count:
            at += 4
    return texts[:count], dict(zip(texts[count::2], texts[count + 1::2], strict=True))


def _is_zero(file: BinaryIO, at: int) -> bool:
    """Return whether a file has nothing but zeros from somewhere on, as a power cut leaves it."""
    file.seek(at)
    return not any(block.strip(b'\0') for block in iter(lambda: file.read(CHUNK_BYTES), b''))
