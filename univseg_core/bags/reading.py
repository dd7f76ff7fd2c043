"""
The messages of ROS 2 bags (sqlite3 and MCAP), without ROS.

A bag is read file by file and record by record, not by its index, so that a damaged or unfinished
one gives all that is readable.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, ExitStack, suppress
from dataclasses import replace
from functools import cache
import logging
import os
from pathlib import Path
import re
import shutil
import tempfile
from typing import TYPE_CHECKING

from univseg_core.bags.compression import (
    decompress,
    size_unpacked,
    TOO_LARGE,
    unpack_file,
    unpacked_in_vain,
    ZSTD_HEAD,
    ZSTD_MAGIC,
)
from univseg_core.bags.mcap import FOREVER, McapFile, Message, note
from univseg_core.errors import first_few, in_one_line, shortened, UnivsegError
from univseg_core.files.limits import beyond_unpacked, IN_STEPS, MESSAGE, most_unpacked
from univseg_core.files.yaml_text import read_yaml

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore
    from univseg_core.bags.sqlite3_file import Sqlite3File
    from univseg_core.pictures.image_messages import CompressedImage, Image

METADATA = 'metadata.yaml'
STORAGES = ('.mcap', '.db3')
COMPRESSED = '.zstd'
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
PACKET_TYPES = {
    'ffmpeg_image_transport_msgs/msg/FFMPEGPacket': """\
        std_msgs/Header header
        int32 width
        int32 height
        string encoding
        uint64 pts
        uint8 flags
        bool is_bigendian
        uint8[] data""",
    'foxglove_msgs/msg/CompressedVideo': """\
        builtin_interfaces/Time timestamp
        string frame_id
        uint8[] data
        string format""",
}
"""Types of packets of videos, and their definitions, which rosbags does not have."""

NO_ROSBAGS = "reading bags needs rosbags (pip install 'rosbags>=0.11.7')"

ROOM = 1 << 26
"""Bytes of the disk of TMPDIR that unpacking leaves to others."""

log = logging.getLogger(__name__)


class BagError(UnivsegError):
    """A bag that is not there, is damaged or lacks a topic."""


def is_bag(path: Path) -> bool:
    """Return whether a path is a bag's folder or one of its files, as far as names tell."""
    if path.is_dir():
        return (path / METADATA).is_file() or any(map(_is_storage, path.iterdir()))
    return path.is_file() and _is_storage(path)


class Bag:
    """
    A ROS 2 bag: a folder, with metadata.yaml or without, or one of its .mcap or .db3 files.

    Use it in a `with` block: files that are compressed as a whole are unpacked for as long.
    Raises BagError where there is no such bag.
    """

    def __init__(self, path: Path):
        self.path = path
        self.name = in_one_line(path.resolve().name)
        self._stack = ExitStack()
        self._damage: list[str] = []
        self._packed_as: dict[Path, Path] = {}
        self._counts: dict[str, int] = {}
        try:
            if not path.exists():
                raise BagError(f'{path}: no such bag')
            if not is_bag(path):
                inside = (sorted(each.name for each in path.iterdir() if each.is_dir())
                          if path.is_dir() else [])
                raise BagError(f'{path}: not a ROS 2 bag; expected a folder with {METADATA}, or '
                               f'with files {", ".join(STORAGES)}, or such a file'
                               + (f'; the folders in it are {first_few(inside, 10)}' if inside
                                  else ''))
            self._paths = self._listed() if path.is_dir() else [path]
        except OSError as error:
            raise BagError(f'{path}: cannot be read: {error.strerror}') from error

    def __enter__(self) -> 'Bag':
        """Open its files."""
        with self._stack as stack:
            self._files: list[McapFile | Sqlite3File] = list(
                filter(None, map(self._open, self._paths)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was unpacked."""
        self._stack.close()

    @property
    def damage(self) -> list[str]:
        """Return what was found to be broken or missing so far, each with the bag's own file."""
        texts = self._damage
        for unpacked, packed in self._packed_as.items():
            texts = [text.replace(str(unpacked), str(packed)) for text in texts]
        return texts

    def topics(self) -> dict[str, str]:
        """Return the type of each topic; an unfinished MCAP file is read through for them."""
        topics: dict[str, str] = {}
        for file in self._files:
            if isinstance(file, McapFile):
                with self._damage_of(file):
                    file.scan_topics()
            topics |= file.topics
        return topics

    def begin(self) -> int | None:
        """Return the time of the first message in nanoseconds; None where there is none."""
        begins = []
        for file in self._files:
            with self._damage_of(file):
                begins.append(file.begin())
        return min((begin for begin in begins if begin is not None), default=None)

    def count(self, topics: Collection[str]) -> int | None:
        """Return how many messages some topics have; None where metadata.yaml does not tell."""
        return sum(self._counts.get(topic, 0) for topic in topics) if self._counts else None

    def messages(self, topics: Collection[str], since: int = 0,
                 until: int = FOREVER) -> Iterator[Message]:
        """
        Yield the messages of some topics with since <= time < until (ns), as they were written.

        What is broken is left out; it is in `damage` at the end.
        """
        for file in self._files:
            with self._damage_of(file):
                yield from self._unpacked_messages(file, file.messages(topics, since, until))
            self._damage += file.damage

    def _unpacked_messages(self, file: 'McapFile | Sqlite3File',
                           messages: Iterator[Message]) -> Iterator[Message]:
        """Yield messages unpacked, until they are more than the file may unpack to."""
        unpacked = 0
        for packed in messages:
            message = _unpacked_message(packed)
            if packed.data[:4] == ZSTD_MAGIC:
                unpacked += (len(message.data) if message is not packed
                             else unpacked_in_vain(packed.data, MESSAGE()))
                size = file.path.stat().st_size
                if unpacked > most_unpacked(size, IN_STEPS):
                    note(self._damage, f'{file.path}: not read to its end: unpacked, its messages '
                                      f'are {beyond_unpacked(size, IN_STEPS)}')
                    return
            yield message

    @contextmanager
    def _damage_of(self, file: 'McapFile | Sqlite3File') -> Iterator[None]:
        """Note what keeps a file from being read, such as that somebody took it away."""
        try:
            yield
        except Exception as error:  # beside the system's: whatever damaged bytes lead to
            kind = '' if isinstance(error, OSError) else f'{type(error).__name__}: '
            text = f'{file.path}: cannot be read: {kind}{shortened(str(error))}'
            self._damage += [text] if text not in self._damage else []

    def _listed(self) -> list[Path]:
        """Return the paths of the folder's files in order, and note what metadata.yaml tells."""
        there: dict[str, Path] = {}
        for path in sorted(filter(_is_storage, self.path.iterdir()), key=in_order):
            # A file may have been unpacked, with the compressed one still beside it.
            there.setdefault(_plain_name(path), path)
        metadata = self.path / METADATA
        if not metadata.is_file():
            log.info('%s: has no %s; its %d files are read', self.path, METADATA, len(there))
            return list(there.values())
        try:
            facts = read_yaml(metadata)['rosbag2_bagfile_information']
            # A file that is named twice is read once.
            names = [Path(name) for name in dict.fromkeys(facts['relative_file_paths'])]
            self._counts = {topic['topic_metadata']['name']: int(topic['message_count'])
                            for topic in facts['topics_with_message_count']}
        except (ArithmeticError, KeyError, OSError, TypeError, ValueError) as error:
            self._damage.append(f'{metadata}: cannot be read ({type(error).__name__}); the files '
                               'beside it were')
            return list(there.values())
        paths = []
        for name in names:
            if file := self._named(name):
                paths.append(file)
            else:
                note(self._damage, f'{self.path / shortened(name.name)}: this file of the bag is '
                                  'missing')
        paths = list(dict.fromkeys(paths))
        unnamed = [path for path in there.values() if not {path, _packed(path)} & {*paths}]
        if unnamed:
            # As of a recorder that goes on, or did not end well.
            log.info('%s: %s does not name %s, which are read, too', self.path, METADATA,
                     ', '.join(path.name for path in unnamed))
        return paths + unnamed

    def _named(self, name: Path) -> Path | None:
        """Return the file that metadata.yaml names, packed or unpacked; None if there is none."""
        folder = os.path.normpath(self.path)
        with suppress(OSError, ValueError):  # of a name that cannot be one
            # Paths were once relative to the folder's parent.
            for path in (self.path / name, self.path / name.name):
                plain = path.with_name(_plain_name(path))
                for file in (plain, _packed(plain), path):
                    # Where it lies counts, not where a link of the user's leads.
                    if (_is_storage(file) and file.exists()
                            and Path(os.path.normpath(file)).parent.is_relative_to(folder)):
                        return file
        return None

    def _open(self, path: Path) -> 'McapFile | Sqlite3File | None':
        kind = path
        if not path.is_file():
            self._damage.append(f'{path}: not a file')
            return None
        if path.suffix.lower() == COMPRESSED:
            kind = path.with_suffix('')
            path = self._unpacked(path)
        try:
            return McapFile(path) if kind.suffix.lower() == '.mcap' else _sqlite3_file(path)
        except (OSError, ValueError) as error:
            self._damage.append(f'{path}: cannot be opened: {shortened(str(error))}')
            return None

    def _unpacked(self, path: Path) -> Path:
        """Return the unpacked copy of a file, as far as it goes and the limits allow."""
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix='univseg-bag-'))
        unpacked = Path(folder) / path.stem
        self._packed_as[unpacked] = path
        try:
            room = max(0, shutil.disk_usage(folder).free - ROOM)
            packed = path.stat().st_size
            most = most_unpacked(packed)
            with path.open('rb') as source, unpacked.open('wb') as target:
                told = size_unpacked(source.read(ZSTD_HEAD)) or 0
                source.seek(0)
                # What says itself that it is too large is not even begun.
                problem = TOO_LARGE if told > min(most, room) else unpack_file(
                    source, target, min(most, room))
                if problem == TOO_LARGE and room < most:
                    raise BagError(f'{path}: cannot be unpacked into {folder}, which has room '
                                   f'for {room} bytes; TMPDIR may name another disk')
                if problem == TOO_LARGE:
                    problem = beyond_unpacked(packed)
                if problem:
                    self._damage.append(f'{path}: broken after {target.tell()} unpacked bytes: '
                                       f'{problem}')
        except OSError as error:
            raise BagError(f'{path}: cannot be unpacked into {folder}: {error.strerror}; '
                           'TMPDIR may name another disk') from error
        return unpacked


def _unpacked_message(message: Message) -> Message:
    if message.data[:4] == ZSTD_MAGIC:
        with suppress(ValueError):  # It is told as a message that cannot be deserialised.
            return replace(message, data=decompress(message.data, 'zstd', MESSAGE()))
    return message


def _plain_name(path: Path) -> str:
    """Return the name of a file that may be packed as it is unpacked."""
    return path.stem if path.suffix.lower() == COMPRESSED else path.name


def _packed(path: Path) -> Path:
    return path.with_name(path.name + COMPRESSED)


def _sqlite3_file(path: Path) -> 'Sqlite3File':
    try:
        from univseg_core.bags.sqlite3_file import Sqlite3File
    except ImportError as error:
        raise BagError(NO_ROSBAGS) from error
    return Sqlite3File(path)


def _is_storage(path: Path) -> bool:
    return not path.name.startswith('.') and _plain_name(path).lower().endswith(STORAGES)


def in_order(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts name_10 behind name_9."""
    return [(int(part), '') if part.isdigit() else (-1, part)
            for part in re.split(r'(\d+)', path.name)]


def deserialise(message: Message) -> 'Image | CompressedImage':
    """
    Return the sensor_msgs/Image or CompressedImage of a message, with ROS 2's field names.

    They are the same in every distribution. So it does with those of PACKET_TYPES. Raises BagError
    for bytes that are none.
    """
    if message.msgtype not in (*IMAGE_TYPES, *PACKET_TYPES):
        raise BagError(f'a message of type {shortened(message.msgtype)}')
    if message.data[:4] == ZSTD_MAGIC:
        raise BagError(f'cannot be deserialised: compressed by zstd, and damaged or of more than '
                       f'{MESSAGE}')
    try:
        # Of a view, rosbags makes no copies.
        return _typestore().deserialize_cdr(memoryview(message.data), message.msgtype)
    except Exception as error:  # rosbags has many, for bytes that are damaged in as many ways
        raise BagError(f'cannot be deserialised: {shortened(str(error))}') from error


@cache
def _typestore() -> 'Typestore':
    try:
        from rosbags.typesys import get_types_from_msg, get_typestore, Stores
    except ImportError as error:
        raise BagError(NO_ROSBAGS) from error
    store = get_typestore(Stores.LATEST)
    for name, definition in PACKET_TYPES.items():
        store.register(get_types_from_msg(definition, name))
    return store
