"""The sqlite3 files of bags, row by row, so that a damaged one gives all that is readable."""

from bisect import bisect_left
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import apsw
from univseg_core.bags.mcap import Message

MAPPED = 2**40
"""Bytes of a file that are read through a memory map: else, sqlite asks for each page."""

NEAR = 1000
"""Numbers behind damage that are tried one by one: there may be several holes."""

LARGEST = 2**62
"""Above every message's number."""

ROWS_FROM = 'SELECT id, topic_id, timestamp FROM messages WHERE id >= ? ORDER BY id'


class Sqlite3File:
    """
    One sqlite3 file of a bag, whose messages are read by number, without the index of times.

    `topics` has the type of each topic. `damage` tells what was found to be broken, and where.
    Raises ValueError for a file of something else, OSError for one that cannot be opened.
    """

    def __init__(self, path: Path):
        self.damage: list[str] = []
        self.path = path
        self._uri = f'{path.resolve().as_uri()}?immutable=1'  # Nothing is written near it,
        log = path.with_name(f'{path.name}-wal')  # unless a log there holds its last messages.
        if log.is_file() and log.stat().st_size:
            self._read_log(log)
        try:
            with closing(self._connect()) as connection:
                rows = list(connection.execute('SELECT id, name, type FROM topics'))
        except apsw.Error as error:
            raise ValueError(str(error)) from error
        self._topics = {number: (topic, type_) for number, topic, type_ in rows}
        self.topics = dict(self._topics.values())

    def begin(self) -> int | None:
        """Return the time of the first message in nanoseconds; None where there is none."""
        known = len(self.damage)
        with closing(self._connect()) as connection:
            try:
                ((time,),) = connection.execute('SELECT min(timestamp) FROM messages')
            except apsw.Error:
                _, _, time = next(self._rows(connection), (0, 0, None))
        del self.damage[known:]  # It will be found again.
        return time

    def messages(self, topics: Collection[str], since: int, until: int) -> Iterator[Message]:
        """Yield the messages of some topics that were recorded in since <= time < until."""
        wanted = {number: topic for number, topic in self._topics.items() if topic[0] in topics}
        broken = 0
        with closing(self._connect()) as connection:
            for number, topic, time in self._rows(connection):
                if topic not in wanted or not since <= time < until:
                    continue
                try:
                    # A query would copy the data once more.
                    with connection.blob_open('main', 'messages', 'data', number, False) as blob:
                        data = blob.read()
                except apsw.Error as error:
                    broken += 1
                    if broken == 1:
                        self.damage.append(f'{self.path}: broken at message {number}: {error}')
                    continue
                yield Message(*wanted[topic], time, data)
        if broken > 1:
            self.damage.append(f'{self.path}: {broken} messages are broken')

    def _rows(self, connection: apsw.Connection) -> Iterator[tuple[int, int, int]]:
        """Yield the number, topic and time of all messages."""
        number = 1
        while number < LARGEST:
            try:
                for row in connection.execute(ROWS_FROM, (number,)):
                    yield row
                    number = row[0] + 1
                return
            except apsw.Error as error:
                self.damage.append(f'{self.path}: broken after message {number - 1}: {error}')
                number = _behind_damage(connection, number)

    def _read_log(self, log: Path) -> None:
        """Read the log's messages, too, where sqlite can."""
        uri, self._uri = self._uri, f'{self.path.resolve().as_uri()}?mode=ro'
        try:
            with closing(self._connect()) as connection:
                connection.execute('SELECT id FROM topics').fetchall()
        except apsw.Error as error:
            self._uri = uri
            self.damage.append(f'{log}: cannot be read: {error}; it may need to be copied, with '
                               'the file beside it, to where you may write')

    def _connect(self) -> apsw.Connection:
        try:
            connection = apsw.Connection(
                self._uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
            connection.execute(f'PRAGMA mmap_size = {MAPPED}')
            # Without this, sqlite opens no file that has lost its end.
            connection.execute('PRAGMA writable_schema = ON')
        except apsw.Error as error:
            raise OSError(f'{self.path}: {error}') from error
        return connection


def _behind_damage(connection: apsw.Connection, number: int) -> int:
    """Return the least number behind one from which on messages can be read again."""
    def readable(number: int) -> bool:
        try:
            connection.execute(f'{ROWS_FROM} LIMIT 1', (number,)).fetchall()
        except apsw.Error:
            return False
        return True

    for near in range(number + 1, number + NEAR):
        if readable(near):
            return near
    step = NEAR
    while number + step < LARGEST and not readable(number + step):
        step *= 2
    return number + bisect_left(range(number, number + step), True, lo=step // 2, key=readable)
