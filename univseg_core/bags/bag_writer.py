"""
Bags as a recorder writes them: files of a size and time, and at last their metadata.

A bag that is being written, or whose recorder was killed, has a file MARKER and no metadata;
`finish_bag` makes it one that is whole.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
import os
from pathlib import Path
import time

from univseg_core.bags.distributions import NEWEST
from univseg_core.bags.mcap_writer import McapWriter
from univseg_core.bags.metadata import write_metadata
from univseg_core.bags.reading import in_order
from univseg_core.bags.topics import Contents, Topic
from univseg_core.files import remove_leftovers

SUFFIX = '.mcap'

MARKER = '.recording'
"""
A bag's file that is there while the bag is not finished. It takes room on the disk, which
finishing the bag gets when that is full.
"""


class BagWriter:
    """
    A new bag in a folder of its own.

    A new file begins after `split_size` bytes or `split_seconds`; 0 stands for no limit. It is
    written for rosbag2 of a ROS 2 `distribution`, and newer ones. Raises OSError where the disk is
    full: the bag is then to be closed, with what it has.
    """

    reserve = McapWriter.reserve
    """The bytes that are held back for the bag's end."""

    def __init__(self, folder: Path, compression: str = '', split_size: int = 0,
                 split_seconds: float = 0.0, distribution: str = NEWEST):
        self.folder = folder
        self.finished: list[tuple[Path, Contents]] = []
        """The files that are closed, and what they hold."""
        self._compression = compression
        self._split_size = split_size
        self._split_seconds = split_seconds
        self._distribution = distribution
        self._number = 0
        self._sizes: dict[Path, int] = {}
        self._finished_counts: Counter[str] = Counter()
        self._topics: dict[str, Topic] = {}
        self._description: Mapping[str, str] = {}
        self._file: McapWriter | None = None
        folder.mkdir(parents=True)
        try:
            _mark(folder)
        except BaseException:
            (folder / MARKER).unlink(missing_ok=True)
            folder.rmdir()
            raise

    @property
    def file(self) -> Path | None:
        """Return the path of the file that is being written; None until there is a message."""
        file = self._file
        return file.path if file else None

    @property
    def total_size(self) -> int:
        """Return the bytes of all files of the bag with messages."""
        file = self._file
        return sum(self._sizes.values()) + (file.size if file else 0)

    @property
    def counts(self) -> Counter[str]:
        """Return how many messages of each topic have been made safe."""
        file = self._file
        return self._finished_counts + (file.contents.counts if file else Counter())

    def suits(self, topic: Topic) -> bool:
        """Return whether a topic has the type and QoS with which the bag knows it, if it does."""
        return self._topics.get(topic.name, topic) == topic

    def write(self, topic: Topic, time_: int, published: int, data: bytes) -> None:
        """Add a message: when it came and was published, in nanoseconds, and its bytes in CDR."""
        if self._file and self._is_full(self._file):
            self.split()
        if self._file is None:
            self._file = self._next_file()
            if self._description:
                self._file.describe(self._description)
        if topic.name not in self._file.contents.topics:
            self._file.add_topic(topic)
            self._topics[topic.name] = topic
        self._file.write(topic.name, time_, published, data)

    def describe(self, description: Mapping[str, str]) -> None:
        """
        Say something of the bag, in its metadata and files, instead of what was said before.

        Once there is a message, it is safe from a kill.
        """
        self._description = dict(description)
        for _, contents in self.finished:
            contents.description = dict(description)
        if self._file:
            self._file.describe(description)

    def flush(self) -> None:
        """
        Make all messages so far safe from a kill.

        Raises FileNotFoundError where the file was removed meanwhile: what is written is lost.
        """
        if self._file:
            self._file.path.stat()
            self._file.flush()

    def write_back(self) -> None:
        """
        Begin to write the file's data to the disk, and drop from memory what is there already.

        May be called from another thread; raises OSError where the file was just closed.
        """
        if file := self._file:
            file.write_back()

    def split(self) -> None:
        """Finish this file: the next message begins a new one."""
        if self._file:
            self._finish_file(self._file)

    def drop_oldest(self) -> bool:
        """Remove the oldest file that is finished; return whether there was one."""
        if not self.finished:
            return False
        path, _ = self.finished.pop(0)
        del self._sizes[path]
        path.unlink(missing_ok=True)  # somebody may have taken it away
        return True

    def close(self) -> None:
        """Finish the bag: it is whole then, or not there where it has no message."""
        try:
            # What its end needs shall have room, whatever was written before.
            _release_reserve(self.folder)
            self.split()
        finally:
            if self._file:
                self._file.abandon()
        _complete(self.folder, [(path, contents) for path, contents in self.finished
                                if path.exists()])

    def _is_full(self, file: McapWriter) -> bool:
        seconds = time.monotonic() - self._begin
        return bool((self._split_size and file.size >= self._split_size)
                    or (self._split_seconds and seconds >= self._split_seconds))

    def _next_file(self) -> McapWriter:
        self._begin = time.monotonic()
        file = McapWriter(self.folder / f'{self.folder.name}_{self._number}{SUFFIX}',
                          self._compression, self._distribution)
        self._number += 1
        return file

    def _finish_file(self, file: McapWriter) -> None:
        """Close the file, with what could be written of it; it is removed if that is nothing."""
        with suppress(OSError):  # what is lost by that, the file's contents tell
            file.flush()
        if file.contents.counts:
            file.close()
            self.finished.append((file.path, file.contents))
            self._sizes[file.path] = file.size
            self._finished_counts += file.contents.counts
        else:
            file.abandon()
            file.path.unlink(missing_ok=True)
        self._file = None


def is_unfinished(folder: Path) -> bool:
    """Return whether a folder is a bag whose recorder has not finished it."""
    return (folder / MARKER).is_file()


def finish_bag(folder: Path) -> tuple[int, list[str]]:
    """
    Finish a bag whose recorder was killed; return how many messages it has, and what is damaged.

    Its files are cut behind the last whole message and completed; a damaged one is left as it is
    and out of the metadata, and the bag stays marked while it is there. A bag without a message
    is removed. The recorder must not be running. Raises OSError where the disk is full, and
    ValueError for sqlite3 files, which recorders of earlier versions wrote.
    """
    if any(folder.glob('*.db3')):
        raise ValueError('it has sqlite3 files, which are not written any more; it is read as it '
                         f'is, and finished by `ros2 bag reindex {folder}`; {folder / MARKER} '
                         'can be removed then')
    _release_reserve(folder)
    remove_leftovers(folder)
    files, problems = [], []
    for path in sorted(folder.glob(f'*{SUFFIX}'), key=in_order):
        try:
            file = McapWriter.recover(path)
        except ValueError as error:
            if path.stat().st_size:
                problems.append(str(error))
            else:
                path.unlink()
            continue
        try:
            if file.contents.counts:
                file.close()
                files.append((path, file.contents))
            else:
                path.unlink()
        finally:
            file.abandon()
    _complete(folder, files, is_whole=not problems)
    return sum(contents.counts.total() for _, contents in files), problems


def _mark(folder: Path) -> None:
    with (folder / MARKER).open('wb') as file:
        # Not lost by a power cut: without it, nobody would finish the bag.
        os.fsync(file.fileno())
        # Written, since a hole takes no room.
        file.write(bytes(BagWriter.reserve))


def _release_reserve(folder: Path) -> None:
    os.truncate(folder / MARKER, 0)


def _complete(folder: Path, files: list[tuple[Path, Contents]], is_whole: bool = True) -> None:
    """Write a bag's metadata; remove the bag where it has none. It stays marked if not whole."""
    if files:
        write_metadata(folder, [(path.name, contents) for path, contents in files])
    if not is_whole:
        return
    (folder / MARKER).unlink()
    if not files:
        with suppress(OSError):  # where there is something that is not ours
            folder.rmdir()
