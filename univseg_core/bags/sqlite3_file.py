"""The sqlite3 files of bags, row by row, so that a damaged one gives all that is readable."""

from bisect import bisect_left
from collections.abc import Collection, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import apsw
from univseg_core.bags.mcap import LONGEST_NAME, Message, MOST_TOPICS, note
from univseg_core.files.limits import MESSAGE

MAPPED = 2**40
"""Bytes of a file that are read through a memory map: else, sqlite asks for each page."""

NEAR = 1000
"""Numbers behind damage that are tried one by one: there may be several holes."""

MOST_HOLES = 100
"""Places of damage behind which messages are looked for: each may take many queries."""

LARGEST = 2**62
"""Above every message's number."""

OPERATIONS, AT_A_TIME = 10_000_000, 100_000
"""
Of sqlite's engine for a pass, beside one for each byte of the file (a row takes ten, and more
bytes). Damage, or ill will, can make a table endless.
"""

TABLES = ('topics', 'messages')

ROWS_FROM = ('SELECT rowid, topic_id, timestamp FROM messages WHERE rowid >= ? '
             'ORDER BY rowid')


class Sqlite3File:
    """
    One sqlite3 file of a bag, whose messages are read by number, without the index of times.

    `topics` has the type of each topic. `damage` tells what was found to be broken, and where.
    Raises ValueError for a file of something else, OSError for one that cannot be opened.
    """

    def __init__(self, path: Path):
        self.damage: list[str] = []
        self.path = path
        self._log = path.with_name(f'{path.name}-wal')
        self._uri = f'{path.resolve().as_uri()}?immutable=1'
        if self._log.is_file() and self._log.stat().st_size:
            self._read_log()  # which may hold the last messages
        try:
            with closing(self._connect()) as connection:
                self._check_tables(connection)
                rows = connection.execute(
                    'SELECT id, CAST(name AS BLOB), CAST(type AS BLOB) FROM topics '
                    f'WHERE length(name) <= {LONGEST_NAME} AND length(type) <= {LONGEST_NAME} '
                    f'LIMIT {MOST_TOPICS}'
                ).fetchall()
        except apsw.Error as error:
            raise ValueError(str(error)) from error
        self._topics = {number: (topic.decode(errors='replace'), type_.decode(errors='replace'))
                        for number, topic, type_ in rows
                        if isinstance(number, int) and isinstance(topic, bytes)
                        and isinstance(type_, bytes)}
        self.topics = dict(self._topics.values())

    def begin(self) -> int | None:
        """Return the time of the first message in nanoseconds; None where there is none."""
        known = len(self.damage)
        with closing(self._connect()) as connection:
            try:
                ((time,),) = connection.execute('SELECT min(timestamp) FROM messages')
            except apsw.Error:
                time = None
            if not isinstance(time, int):
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
                        if blob.length() > min(self._stored(), MESSAGE()):
                            raise ValueError(f'{blob.length()} bytes; expected {MESSAGE} at most')
                        data = blob.read()
                except (apsw.Error, ValueError) as error:
                    broken += 1
                    if broken == 1:
                        note(self.damage, f'{self.path}: broken at message {number}: {error}')
                    continue
                yield Message(*wanted[topic], time, data)
        if broken > 1:
            note(self.damage, f'{self.path}: {broken} messages are broken')

    def _rows(self, connection: apsw.Connection) -> Iterator[tuple[int, int, int]]:
        """Yield the number, topic and time of all messages."""
        broken = f'{self.path}: broken after message'
        number = -LARGEST  # the recorder's begin with 1, others' may not
        for _ in range(MOST_HOLES):
            try:
                for found, topic, time in connection.execute(ROWS_FROM, (number,)):
                    if found < number:
                        # One page in several places could make the table endless.
                        note(self.damage, f'{broken} {max(number, 1) - 1}: its numbers do not '
                                          'grow')
                        return
                    number = found + 1
                    if isinstance(time, int):
                        yield found, topic, time
                    else:
                        note(self.damage, f'{self.path}: broken at message {found}: it has no '
                                          'time')
                return
            except apsw.InterruptError:
                note(self.damage, f'{broken} {max(number, 1) - 1}: the table does not end')
                return
            except apsw.Error as error:
                note(self.damage, f'{broken} {max(number, 1) - 1}: {error}')
                number = _behind_damage(connection, max(number, 1))
                if number >= LARGEST:
                    return
        note(self.damage, f'{broken} {max(number, 1) - 1}: given up, for it is so in '
                          f'{MOST_HOLES} places')

    def _check_tables(self, connection: apsw.Connection) -> None:
        """Raise ValueError where what is to be read is computed, not stored."""
        for table in TABLES:
            kinds = connection.execute(
                "SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = ?", (table,)
            ).fetchall()
            if kinds != [('table',)]:
                raise ValueError(f'{table} is no table of it')
            if connection.execute('SELECT 1 FROM pragma_table_xinfo(?) WHERE hidden',
                                  (table,)).fetchall():
                raise ValueError(f'{table} has columns that are computed')

    def _stored(self) -> int:
        """Return the bytes of the file and its log as they are now."""
        return sum(path.stat().st_size for path in (self.path, self._log) if path.is_file())

    def _read_log(self) -> None:
        """Read the log's messages, too, where sqlite can; nothing is written for that."""
        whole, reasons = self._uri, []
        file = self.path.resolve().as_uri()
        shared = self.path.with_name(f'{self.path.name}-shm')
        # Beside a recorder that goes on, its index of the log; else one of our own, in memory.
        for uri in [f'{file}?mode=ro&readonly_shm=1'] * shared.is_file() + [
                f'{file}?mode=ro&vfs=unix-none']:
            self._uri = uri
            try:
                with closing(self._connect()) as connection:
                    connection.execute('SELECT id FROM topics LIMIT 1').fetchall()
                return
            except (apsw.Error, OSError) as error:
                reasons.append(str(error))
        self._uri = whole
        note(self.damage, f'{self._log}: cannot be read: {reasons[-1]}')

    def _connect(self) -> apsw.Connection:
        try:
            connection = apsw.Connection(
                self._uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
            if 'unix-none' in self._uri:
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                connection.execute('PRAGMA locking_mode = EXCLUSIVE')
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, min(MESSAGE(), 2**30))
            steps = count(1)
            most = (OPERATIONS + self._stored()) // AT_A_TIME
            connection.set_progress_handler(lambda: next(steps) > most, AT_A_TIME)
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
