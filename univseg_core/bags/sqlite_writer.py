"""sqlite3 files of bags, written so that a kill at any moment costs only what was not flushed."""

from contextlib import ExitStack, suppress
import os
from pathlib import Path
import sqlite3

from univseg_core.bags.mcap import zstd
from univseg_core.bags.topics import Contents, definition_of, DISTRIBUTION, Topic

# As rosbag2 makes them in Jazzy.
TABLES = """
CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
CREATE TABLE metadata(
  id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL);
CREATE TABLE topics(
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
  serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL,
  type_description_hash TEXT NOT NULL);
CREATE TABLE message_definitions(
  id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL, encoding TEXT NOT NULL,
  encoded_message_definition TEXT NOT NULL, type_description_hash TEXT NOT NULL);
CREATE TABLE messages(
  id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,
  data BLOB NOT NULL);
CREATE INDEX timestamp_idx ON messages (timestamp ASC);
"""
SCHEMA_VERSION = 4

PAGE_BYTES = 1 << 16
"""Pictures are large: fewer pages, and fewer steps to the end of one."""

COMMIT_BYTES, JOURNAL_BYTES = 8 << 20, 16 << 20
"""After how many bytes messages are committed, and the journal's contents put into the file."""

COMPRESSION_LEVEL = 1


class SqliteWriter:
    """
    A new sqlite3 file; `compression` of its messages is zstd or empty.

    What was written before `flush` returned stays readable, whatever ends the process: with the
    journal beside it, until it is closed. Raises OSError where the disk is full or the file was
    damaged; what was not flushed is then lost, and `contents` tells what the file holds.
    """

    suffix = '.db3'
    reserve = 32 << 20
    """Bytes of the disk that finishing a file may take: as much as its journal has."""

    def __init__(self, path: Path, compression: str = ''):
        path.touch(exist_ok=False)
        try:
            self._open(path, compression)
            self._connection.executescript(TABLES)
            self._execute('INSERT INTO schema VALUES (?, ?)', SCHEMA_VERSION, DISTRIBUTION)
            self._commit()
        except sqlite3.Error as error:
            self.abandon()
            raise OSError(f'{path}: {error}') from error
        except BaseException:
            self.abandon()
            raise

    @classmethod
    def recover(cls, path: Path) -> 'SqliteWriter':
        """
        Open a file that was not finished, with all that was flushed.

        Raises ValueError where it is no such file.
        """
        if not path.stat().st_size:
            raise ValueError(f'{path}: is empty')
        writer = cls.__new__(cls)
        try:
            writer._open(path, '')
            writer._learn()
        except OSError:
            writer.abandon()
            raise
        except Exception as error:  # whatever damaged bytes lead to
            writer.abandon()
            raise ValueError(f'{path}: damaged: {error!r}') from error
        return writer

    def _open(self, path: Path, compression: str) -> None:
        self.path = path
        self.contents = Contents()
        self._compression = compression
        self._numbers: dict[str, int] = {}
        self._times: dict[str, list[int]] = {}
        self._gathered = 0
        self._open_files = ExitStack()
        # Closing any descriptor of the file takes sqlite's locks from the process: this one stays
        # open as long as the connection.
        self._descriptor = os.open(path, os.O_RDONLY)
        self._open_files.callback(os.close, self._descriptor)
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._open_files.callback(self._connection.close)
        self._connection.execute(f'PRAGMA page_size = {PAGE_BYTES}')
        self._connection.execute('PRAGMA journal_mode = WAL')
        self._connection.execute('PRAGMA synchronous = NORMAL')
        self._connection.execute(f'PRAGMA wal_autocheckpoint = {JOURNAL_BYTES // PAGE_BYTES}')

    @property
    def size(self) -> int:
        """Return the bytes that the file and its journal take."""
        size = 0
        for path in (self.path, self.path.with_name(f'{self.path.name}-wal')):
            with suppress(FileNotFoundError):
                size += path.stat().st_size
        return size

    def add_topic(self, topic: Topic) -> None:
        """Note a topic, before its first message."""
        definition, hash_ = definition_of(topic.type)
        known = {known.type for known in self.contents.topics.values()}
        if topic.type not in known:
            self._execute(
                'INSERT INTO message_definitions (topic_type, encoding, '
                'encoded_message_definition, type_description_hash) VALUES (?, ?, ?, ?)',
                topic.type, 'ros2msg', definition, hash_)
        number = len(self._numbers) + 1
        self._execute('INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)', number, topic.name,
                      topic.type, 'cdr', topic.qos_text(), hash_)
        self._numbers[topic.name] = number
        self.contents.topics[topic.name] = topic

    def write(self, topic: str, time: int, published: int, data: bytes) -> None:
        """Add a message of a topic: its time in nanoseconds, and its bytes in CDR."""
        if self._compression:
            data = zstd().compress(data, COMPRESSION_LEVEL)
        self._times.setdefault(topic, []).append(time)
        self._execute('INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)',
                      self._numbers[topic], time, data)
        self._gathered += len(data)
        if self._gathered > COMMIT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Commit what has been written."""
        self._commit()
        for topic, times in self._times.items():
            self.contents.add(topic, times)
        self._clear()

    def close(self) -> None:
        """
        Commit what has been written, and put the journal's contents into the file.

        Where that fails, it can be tried again.
        """
        self.flush()
        self._execute('PRAGMA journal_mode = DELETE')
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is; it can be recovered."""
        self._open_files.close()

    def write_back(self) -> None:
        """Begin to write the data to the disk, and drop from memory what is there already."""
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _clear(self) -> None:
        self._times.clear()
        self._gathered = 0

    def _commit(self) -> None:
        try:
            self._connection.commit()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _execute(self, statement: str, *values: object) -> None:
        try:
            self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> OSError:
        with suppress(sqlite3.Error):  # where the file is damaged, too
            self._connection.rollback()
        self._clear()
        return OSError(f'{self.path}: {error}')

    def _learn(self) -> None:
        """Take over what an unfinished file holds."""
        for number, name, type_, qos in self._connection.execute(
                'SELECT id, name, type, offered_qos_profiles FROM topics'):
            self._numbers[name] = number
            self.contents.topics[name] = Topic.from_text(name, type_, qos)
        for name, number in self._numbers.items():
            rows = self._connection.execute(
                'SELECT timestamp FROM messages WHERE topic_id = ?', (number,))
            if times := [time for time, in rows]:
                self.contents.add(name, times)
