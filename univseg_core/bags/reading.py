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
from pathlib import Path
import re
import tempfile
from typing import BinaryIO, TYPE_CHECKING

from univseg_core.bags.mcap import McapFile, Message, zstd
from univseg_core.errors import UnivsegError
import yaml

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore
    from univseg_core.bags.sqlite3_file import Sqlite3File
    from univseg_core.pictures.image_messages import CompressedImage, Image

METADATA = 'metadata.yaml'
STORAGES = ('.mcap', '.db3')
COMPRESSED = '.zstd'
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
"""With which no message in CDR begins."""

NO_ROSBAGS = "reading bags needs rosbags (pip install 'rosbags>=0.11.7')"

BLOCK = 1 << 20

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
        self.name = path.resolve().name
        self._stack = ExitStack()
        self.damage: list[str] = []
        self._counts: dict[str, int] = {}
        try:
            if not path.exists():
                raise BagError(f'{path}: no such bag')
            if not is_bag(path):
                raise BagError(f'{path}: not a ROS 2 bag; expected a folder with {METADATA}, or '
                               f'with files {", ".join(STORAGES)}, or such a file')
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
                 until: int = 2**63 - 1) -> Iterator[Message]:
        """
        Yield the messages of some topics with since <= time < until (ns), as they were written.

        What is broken is left out; it is in `damage` at the end.
        """
        for file in self._files:
            with self._damage_of(file):
                yield from map(_unpacked_message, file.messages(topics, since, until))
            self.damage += file.damage

    @contextmanager
    def _damage_of(self, file: 'McapFile | Sqlite3File') -> Iterator[None]:
        """Note what keeps a file from being read, such as that somebody took it away."""
        try:
            yield
        except OSError as error:
            text = f'{file.path}: cannot be read: {error}'
            self.damage += [text] if text not in self.damage else []

    def _listed(self) -> list[Path]:
        """Return the paths of the folder's files in order, and note what metadata.yaml tells."""
        there: dict[str, Path] = {}
        for path in sorted(filter(_is_storage, self.path.iterdir()), key=in_order):
            # A file may have been unpacked, with the compressed one still beside it.
            there.setdefault(path.name.removesuffix(COMPRESSED), path)
        try:
            text = (self.path / METADATA).read_text(encoding='utf-8')
            facts = yaml.safe_load(text)['rosbag2_bagfile_information']
            # Paths were once relative to the folder's parent.
            listed = [Path(name).name for name in facts['relative_file_paths']]
            self._counts = {topic['topic_metadata']['name']: int(topic['message_count'])
                            for topic in facts['topics_with_message_count']}
        except FileNotFoundError:
            log.info('%s: has no %s; its %d files are read', self.path, METADATA, len(there))
            return list(there.values())
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            self.damage.append(f'{self.path / METADATA}: cannot be read '
                               f'({type(error).__name__}); the files beside it were')
            return list(there.values())
        paths = []
        for name in listed:
            if file := there.pop(name.removesuffix(COMPRESSED), None):
                paths.append(file)
            else:
                self.damage.append(f'{self.path / name}: this file of the bag is missing')
        if there:
            # As of a recorder that goes on, or did not end well.
            log.info('%s: %s does not name %s, which are read, too', self.path, METADATA,
                     ', '.join(path.name for path in there.values()))
        return paths + list(there.values())

    def _open(self, path: Path) -> 'McapFile | Sqlite3File | None':
        kind = path
        if path.suffix == COMPRESSED:
            kind = path.with_suffix('')
            path = self._unpacked(path)
        try:
            return McapFile(path) if kind.suffix == '.mcap' else _sqlite3_file(path)
        except (OSError, ValueError) as error:
            self.damage.append(f'{path}: cannot be opened: {error}')
            return None

    def _unpacked(self, path: Path) -> Path:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix='univseg-bag-'))
        unpacked = Path(folder) / path.stem
        try:
            with path.open('rb') as source, unpacked.open('wb') as target:
                if problem := _unpack(source, target):
                    self.damage.append(f'{path}: broken after {target.tell()} unpacked bytes: '
                                       f'{problem}')
        except OSError as error:
            raise BagError(f'{path}: cannot be unpacked into {folder}: {error.strerror}; '
                           'TMPDIR may name another disk') from error
        return unpacked


def _unpacked_message(message: Message) -> Message:
    if message.data[:4] == ZSTD_MAGIC:
        with suppress(zstd().ZstdError):  # It is told as a message that cannot be deserialised.
            return replace(message, data=zstd().decompress(message.data))
    return message


def _unpack(source: BinaryIO, target: BinaryIO) -> str | None:
    """Unpack a file as far as it goes; return what is wrong with it."""
    frame = zstd().ZstdDecompressor()
    try:
        while block := source.read(BLOCK):
            target.write(frame.decompress(block))
            while frame.eof and frame.unused_data:
                rest, frame = frame.unused_data, zstd().ZstdDecompressor()
                target.write(frame.decompress(rest))
    except zstd().ZstdError as error:
        return str(error)
    return None if frame.eof else 'the end is missing'


def _sqlite3_file(path: Path) -> 'Sqlite3File':
    try:
        from univseg_core.bags.sqlite3_file import Sqlite3File
    except ImportError as error:
        raise BagError(NO_ROSBAGS) from error
    return Sqlite3File(path)


def _is_storage(path: Path) -> bool:
    name = path.name.removesuffix(COMPRESSED)
    return not name.startswith('.') and name.endswith(STORAGES)


def in_order(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts name_10 behind name_9."""
    return [(int(part), '') if part.isdigit() else (-1, part)
            for part in re.split(r'(\d+)', path.name)]


def deserialise(message: Message) -> 'Image | CompressedImage':
    """
    Return the sensor_msgs/Image or CompressedImage of a message, with ROS 2's field names.

    They are the same in every distribution. Raises BagError for bytes that are none.
    """
    if message.msgtype not in IMAGE_TYPES:
        raise BagError(f'a message of type {message.msgtype}')
    try:
        # Of a view, rosbags makes no copies.
        return _typestore().deserialize_cdr(memoryview(message.data), message.msgtype)
    except Exception as error:  # rosbags has many, for bytes that are damaged in as many ways
        raise BagError(f'cannot be deserialised: {error}') from error


@cache
def _typestore() -> 'Typestore':
    try:
        from rosbags.typesys import get_typestore, Stores
    except ImportError as error:
        raise BagError(NO_ROSBAGS) from error
    return get_typestore(Stores.LATEST)
