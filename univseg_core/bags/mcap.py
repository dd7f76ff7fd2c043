"""
MCAP files, record by record, so that a damaged one gives all that is readable.

https://mcap.dev/spec: a record is an opcode, the length of its content in 8 bytes, and that.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
import io
from pathlib import Path
import struct
from typing import BinaryIO
import zlib

from univseg_core.bags.compression import decompress
from univseg_core.files.limits import beyond_unpacked, IN_STEPS, most_unpacked
from univseg_core.files.limits import MESSAGE as LARGEST_MESSAGE

MAGIC = b'\x89MCAP0\r\n'
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, STATISTICS, DATA_END = 2, 3, 4, 5, 6, 11, 15
FOOTER_BYTES = 9 + 20 + len(MAGIC)

MOST_DAMAGE = 50
"""Places that are told, of a file."""

RECORDS_PER_BYTE = 8
"""Of a chunk as it is stored, at most: no two messages are alike in time and number."""

LONGEST_NAME = 1000
"""Characters of a topic or type."""

MOST_TOPICS = 2**16
"""As many as have numbers of their own."""

FOREVER = 2**64
"""Behind the last moment, in nanoseconds, that a message may have been recorded at."""

RECORD, MESSAGE_HEAD, CHUNK_HEAD = map(struct.Struct, ('<BQ', '<HIQQ', '<QQQII'))


@dataclass(frozen=True)
class Message:
    """One recorded message: when it was, in nanoseconds, and its bytes in CDR."""

    topic: str
    msgtype: str
    time: int
    data: bytes | memoryview


class McapFile:
    """
    One MCAP file of a bag.

    `topics` has the type of each topic; of a file without a summary, all of them only when its
    messages have been read. `damage` tells what was found to be broken, and where.
    """

    def __init__(self, path: Path):
        self.topics: dict[str, str] = {}
        self.damage: list[str] = []
        self.path = path
        self._types: dict[int, str] = {}
        self._channels: dict[int, tuple[str, str]] = {}
        self._begin: int | None = None
        self._scanned: list[str] | None = None
        self._most = LARGEST_MESSAGE()
        self._left = 0
        self.has_summary = False
        with path.open('rb') as file, suppress(ValueError, struct.error, OSError):
            self._read_summary(file)  # The messages are read without it, too.

    def begin(self) -> int | None:
        """Return the time of the first message in nanoseconds; None where there is none."""
        if self._begin is None and self._scanned is None:
            first = next(self._scan(None, 0, FOREVER), None)
            self._begin = first.time if first else None
            self.damage.clear()  # It will be found again.
        return self._begin

    def messages(self, topics: Collection[str], since: int, until: int) -> Iterator[Message]:
        """Yield the messages of some topics that were recorded in since <= time < until."""
        if self._scanned is not None and self._begin is None:
            self.damage += self._scanned  # There is none: it is not searched again.
        else:
            yield from self._scan(topics, since, until)

    def scan_topics(self) -> None:
        """Read the whole file for its topics, where no summary has told them."""
        if not self.has_summary and self._scanned is None:
            for message in self._scan(None, 0, FOREVER):
                if self._begin is None:
                    self._begin = message.time
            self._scanned = self.damage[:]
            self.damage.clear()  # It will be found again.

    def _read_summary(self, file: BinaryIO) -> None:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - FOOTER_BYTES))
        tail = file.read()
        if tail[-len(MAGIC):] != MAGIC or tail[0] != FOOTER:
            return
        (start,) = struct.unpack_from('<Q', tail, 9)
        if not start:
            return
        file.seek(start)
        for opcode, content in records(file.read(self._bounded(size - FOOTER_BYTES - start))):
            self._learn(opcode, content)
            if opcode == STATISTICS:
                messages, _, _, _, _, _, begin = struct.unpack_from('<QHIIIIQ', content)
                self._begin = begin if messages else None
        self.has_summary = bool(self._channels)

    def _learn(self, opcode: int, content: memoryview) -> None:
        """Note a schema (a type) or a channel (a topic of a type)."""
        if opcode == SCHEMA:
            (number,) = struct.unpack_from('<H', content)
            self._types[number] = text_at(content, 2)[:LONGEST_NAME]
        elif opcode == CHANNEL:
            number, schema = struct.unpack_from('<HH', content)
            topic, type_ = text_at(content, 4), self._types.get(schema, '')
            if len(topic) <= LONGEST_NAME and (
                    len(self.topics) < MOST_TOPICS or topic in self.topics):
                self._channels[number] = topic, type_
                self.topics[topic] = type_

    def _scan(self, topics: Collection[str] | None, since: int, until: int) -> Iterator[Message]:
        """Yield the messages of some topics, or of all."""
        with self.path.open('rb') as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            self._left = most_unpacked(size, IN_STEPS)
            if file.read(len(MAGIC)) != MAGIC:
                self._broken(0, 'the beginning is not that of an MCAP file')
                return
            while True:
                at = file.tell()
                try:
                    head = file.read(RECORD.size)
                except OSError as error:
                    self._broken(at, str(error.strerror))
                    return
                if len(head) < RECORD.size:
                    self._broken(at, 'the end is missing')
                    return
                opcode, length = RECORD.unpack(head)
                if opcode in (DATA_END, FOOTER):
                    return
                if not opcode:
                    self._broken(at, 'zeros, where a record was to begin')
                    return
                end = file.tell() + length
                try:
                    if opcode == CHUNK:
                        content = self._chunk(file, min(end, size), since, until)
                        for number, (inner, record) in enumerate(records(content)):
                            if number > RECORDS_PER_BYTE * min(length, size - at):
                                raise ValueError('a chunk of more records than it can have')
                            yield from self._message(inner, record, topics, since, until)
                    elif opcode in (SCHEMA, CHANNEL, MESSAGE) and end <= size:
                        record = memoryview(file.read(self._bounded(length)))
                        yield from self._message(opcode, record, topics, since, until)
                except (ValueError, struct.error, RuntimeError, EOFError, OSError) as error:
                    if end <= size:
                        self._broken(at, str(error))
                if self._left < 0:
                    note(self.damage, f'{self.path}: not read to its end, but to byte {at}: its '
                                      f'chunks are unpacked {beyond_unpacked(size, IN_STEPS)}')
                    return
                if end > size:
                    self._broken(at, f'{end - size} bytes of a record are missing')
                    return
                file.seek(end)

    def _message(self, opcode: int, content: memoryview, topics: Collection[str] | None,
                 since: int, until: int) -> Iterator[Message]:
        if opcode != MESSAGE:
            self._learn(opcode, content)
            return
        channel, _, time, _ = MESSAGE_HEAD.unpack_from(content)
        topic, type_ = self._channels.get(channel, ('', ''))
        if (topics is None or topic in topics) and since <= time < until:
            yield Message(topic, type_, time, content[MESSAGE_HEAD.size:])

    def _chunk(self, file: BinaryIO, end: int, since: int, until: int) -> bytes:
        """Return a chunk's records, or what there is of them; none if it is of another time."""
        begin, last, size, checksum, length = CHUNK_HEAD.unpack(file.read(CHUNK_HEAD.size))
        # A chunk that nothing else tells the topics of is read for these.
        if self.has_summary and not (begin < until and since <= last):
            return b''
        compression = file.read(self._bounded(length)).decode()
        (length,) = struct.unpack('<Q', file.read(8))
        whole = file.tell() + length <= end
        stored = file.read(self._bounded(min(length, end - file.tell())))
        self._left -= self._bounded(size)  # of which no more is unpacked, and may be in vain
        if self._left < 0:
            return b''
        content = decompress(stored, compression, size)
        if whole and (len(content) != size or (checksum and zlib.crc32(content) != checksum)):
            raise ValueError('a chunk does not have the bytes that were written')
        return content

    def _bounded(self, size: int) -> int:
        """Return a size of which memory may be taken; ValueError for a larger one."""
        if not 0 <= size <= self._most:
            raise ValueError(f'{size} bytes; expected {LARGEST_MESSAGE} at most')
        return size

    def _broken(self, at: int, what: str) -> None:
        note(self.damage, f'{self.path}: broken at byte {at}: {what}')


def note(damage: list[str], text: str) -> None:
    """Add to what is told of damage, unless that is more already than anybody reads."""
    if len(damage) < MOST_DAMAGE:
        damage.append(text)
    elif len(damage) == MOST_DAMAGE:
        damage.append('and more of that kind')


def records(content: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield the opcode and content of each whole record."""
    view, at = memoryview(content), 0
    while at + RECORD.size <= len(view):
        opcode, length = RECORD.unpack_from(view, at)
        at += RECORD.size + length
        if not opcode or at > len(view):
            return
        yield opcode, view[at - length:at]


def text_at(content: bytes | memoryview, at: int) -> str:
    """Return the text at a byte of a record, behind its length in 4 bytes."""
    (length,) = struct.unpack_from('<I', content, at)
    return str(content[at + 4:at + 4 + length], 'utf-8')
