"""What a bag claims, or is made to claim, costs no more than the limits; and nothing hangs."""

from contextlib import closing
import io
import json
import os
import resource
import shutil
import sqlite3
import struct
from types import SimpleNamespace
import zlib

import pytest
from univseg_core.bags import mcap as mcap_files
from univseg_core.bags import reading
from univseg_core.bags.compression import BLOCK, decompress, TOO_LARGE, unpack_file, zstd
from univseg_core.bags.mcap import MAGIC, McapFile
from univseg_core.bags.reading import Bag, BagError, deserialise

TOPIC, TYPE = '/cam', 'sensor_msgs/msg/Image'
END = b'\x0f' + struct.pack('<QI', 4, 0)


def record(opcode, content):
    return struct.pack('<BQ', opcode, len(content)) + content


def text(value):
    return struct.pack('<I', len(value)) + value.encode()


SCHEMA = record(3, struct.pack('<H', 1) + text(TYPE) + text('ros2msg') + text(''))
CHANNEL = record(4, struct.pack('<HH', 1, 1) + text(TOPIC) + text('cdr') + bytes(4))


def message(data, time=1):
    return record(5, struct.pack('<HIQQ', 1, 0, time, time) + data)


def chunk(records, compression='zstd', size=None, packed=None):
    packed = zstd().compress(records) if packed is None else packed
    size = len(records) if size is None else size
    return record(6, struct.pack('<QQQI', 0, 9, size, 0) + text(compression)
                  + struct.pack('<Q', len(packed)) + packed)


def mcap(path, *records):
    path.write_bytes(MAGIC + SCHEMA + CHANNEL + b''.join(records) + END)
    return path


def without_size(data):
    """Return zstd data whose frame does not tell how large it is unpacked."""
    compressor = zstd().ZstdCompressor()
    return compressor.compress(data) + compressor.flush()


def read(path, topics=(TOPIC,)):
    """Return the (time, data) of a bag's messages, its topics, and its damage."""
    with Bag(path) as bag:
        topics_there = bag.topics()
        bag.begin()
        found = [(message.time, bytes(message.data)) for message in bag.messages(topics)]
        return found, topics_there, bag.damage


@pytest.fixture
def little(monkeypatch):
    """Let messages and chunks have 10 kB at most, and unpacked files 100 kB."""
    monkeypatch.setenv('UNIVSEG_MAX_MESSAGE', '10000')
    monkeypatch.setenv('UNIVSEG_MAX_UNPACKED', '100000')


@pytest.mark.parametrize(('bad', 'expected'), [
    # The header says 100 bytes, and there are more.
    (chunk(bytes(9000), size=100), 'more than 100 bytes unpacked'),
    (chunk(b'', size=100, packed=without_size(bytes(9000))), 'more than 100 bytes unpacked'),
    (chunk(bytes(10001)), '10001 bytes; expected 10000 bytes, which UNIVSEG_MAX_MESSAGE changes'),
    (chunk(b'', size=2**64 - 1), '18446744073709551615 bytes; expected 10000 bytes'),
    (chunk(bytes(10001), '', packed=bytes(10001)), '10001 bytes; expected 10000 bytes'),
    (message(bytes(10001)), '10023 bytes; expected 10000 bytes'),
    # More records than there can be messages in so few bytes.
    (chunk(1100 * record(0x80, b'')), 'more records than it can have'),
])
def test_what_is_larger_than_the_limit_or_than_it_says_is_left_out_alone(tmp_path, little, bad,
                                                                        expected):
    path = mcap(tmp_path / 'bag.mcap', message(b'before', 1), bad, message(b'behind', 2))
    found, topics, (damage,) = read(path)
    assert [pair for pair in found if pair[1]] == [(1, b'before'), (2, b'behind')]
    assert topics == {TOPIC: TYPE}
    assert expected in damage


@pytest.mark.parametrize('compression', ['zstd', 'lz4'])
def test_no_more_is_unpacked_than_the_limit(compression):
    import lz4.frame
    packed = {'zstd': without_size, 'lz4': lz4.frame.compress}[compression](bytes(5000))
    assert decompress(packed, compression, 5000) == bytes(5000)
    with pytest.raises(ValueError, match='more than 4999 bytes unpacked'):
        decompress(packed, compression, 4999)


@pytest.mark.parametrize('pack', [zstd().compress, without_size])
def test_a_message_that_is_too_large_unpacked_cannot_be_deserialised(tmp_path, little, pack):
    mcap(tmp_path / 'bag.mcap', message(pack(bytes(10000))), message(pack(bytes(10001)), 2))
    with Bag(tmp_path / 'bag.mcap') as bag:
        whole, large = bag.messages([TOPIC])
    assert whole.data == bytes(10000)
    with pytest.raises(BagError, match='of more than 10000 bytes, which UNIVSEG_MAX_MESSAGE'):
        deserialise(large)


@pytest.mark.parametrize('pack', [zstd().compress, without_size])
def test_a_file_that_is_too_large_unpacked_is_read_up_to_the_limit(tmp_path, little, pack):
    plain = mcap(tmp_path / 'plain.mcap', message(b'first'), *[message(bytes(9000), 2)] * 20)
    (tmp_path / 'bag.mcap.zstd').write_bytes(pack(plain.read_bytes()))
    found, _, damage = read(tmp_path / 'bag.mcap.zstd')
    # What tells its size is not even begun.
    assert [time for time, _ in found] == ([1] + [2] * 11 if pack is without_size else [])
    assert 'more than 100000 bytes (100000 bytes, which UNIVSEG_MAX_UNPACKED' in damage[0]


@pytest.fixture
def loose(monkeypatch):
    """Let no ratio of packing raise the limit of what is unpacked in steps."""
    for module in (mcap_files, reading):
        monkeypatch.setattr(module, 'IN_STEPS', 0)


def test_a_file_of_well_packed_messages_is_read_to_its_end(tmp_path, little):
    """As one of nothing but masks is, which are packed to a 200th."""
    packed = zstd().compress(bytes(9000))
    chunks = [chunk(message(bytes(9000), time)) for time in range(20)]
    for records in (chunks, [message(packed, time) for time in range(20)]):
        found, _, damage = read(mcap(tmp_path / 'bag.mcap', *records))
        assert (len(found), damage) == (20, [])


@pytest.mark.usefixtures('little', 'loose')
def test_all_chunks_of_a_file_together_are_held_against_the_limit(tmp_path):
    chunks = [chunk(message(bytes(9000), time)) for time in range(20)]
    found, _, damage = read(mcap(tmp_path / 'bag.mcap', *chunks))
    assert [time for time, _ in found] == list(range(11))  # of 9031 bytes each
    assert 'chunks are unpacked more than 100000 bytes (100000 bytes, which UNIV' in damage[0]


@pytest.mark.usefixtures('little', 'loose')
def test_all_packed_messages_of_a_file_together_are_held_against_the_limit(tmp_path):
    packed = zstd().compress(bytes(9000))
    found, _, damage = read(mcap(
        tmp_path / 'bag.mcap', *[message(packed, time) for time in range(20)]))
    assert [(time, len(data)) for time, data in found] == [(time, 9000) for time in range(11)]
    assert 'its messages are more than 100000 bytes (100000 bytes, which' in damage[0]


@pytest.mark.usefixtures('little', 'loose')
def test_what_is_unpacked_in_vain_counts(tmp_path):
    """It takes as long as what is whole."""
    chunks = 20 * [chunk(b'', size=9000, packed=without_size(bytes(9001)))]
    found, _, damage = read(mcap(tmp_path / 'chunks.mcap', *chunks, message(b'behind')))
    assert found == []
    assert len(damage) == 12  # 11 are tried
    assert 'its chunks are unpacked more than 100000 bytes' in damage[-1]
    # Of 10 000 bytes each, as far as the limit; of none, where they say that they have more.
    for pack, count in ((without_size, 10), (zstd().compress, 20)):
        packed = pack(bytes(10001))
        found, _, damage = read(mcap(tmp_path / 'messages.mcap', *20 * [message(packed)]))
        assert len(found) == count
        assert len(damage) == (count < 20)


@pytest.mark.parametrize('name', ['bag.mcap.zstd', 'bag.db3.zstd'])
def test_damage_of_a_packed_file_names_it(tmp_path, name):
    (tmp_path / name).write_bytes(zstd().compress(b'neither'))
    _, _, damage = read(tmp_path / name)
    assert damage
    assert all(text.startswith(f'{tmp_path / name}: ') for text in damage)


def test_a_file_without_messages_is_read_through_once(tmp_path, monkeypatch):
    passes, scan = [], McapFile._scan
    monkeypatch.setattr(McapFile, '_scan',
                        lambda *arguments: passes.append(1) or scan(*arguments))
    found, topics, damage = read(mcap(tmp_path / 'bag.mcap', 3 * chunk(b''), chunk(b'', size=1)))
    assert (found, topics, len(passes)) == ([], {TOPIC: TYPE}, 1)
    assert len(damage) == 1


def test_topics_have_names_of_a_length_and_are_not_endless(tmp_path, monkeypatch):
    def channel(number, name):
        return record(4, struct.pack('<HH', number, 1) + text(name) + text('cdr') + bytes(4))

    monkeypatch.setattr(mcap_files, 'MOST_TOPICS', 5)
    path = mcap(tmp_path / 'bag.mcap', message(b'x'), channel(2, 1001 * 'x'),
                channel(3, 1000 * 'x'), *[channel(4, f'/{number}') for number in range(9)])
    found, topics, damage = read(path)
    assert (found, damage) == ([(1, b'x')], [])
    assert list(topics) == [TOPIC, 1000 * 'x', '/0', '/1', '/2']


def test_a_large_file_may_grow_by_compression(tmp_path, little):
    random = os.urandom(9000)
    plain = mcap(tmp_path / 'plain.mcap', *[message(random, time) for time in range(40)])
    (tmp_path / 'bag.mcap.zstd').write_bytes(zstd().compress(plain.read_bytes()))
    found, _, damage = read(tmp_path / 'bag.mcap.zstd')
    assert len(found) == 40
    assert not damage


def test_the_disk_of_tmpdir_is_not_filled(tmp_path, monkeypatch):
    path = mcap(tmp_path / 'plain.mcap', message(bytes(5000)))
    (tmp_path / 'bag.mcap.zstd').write_bytes(zstd().compress(path.read_bytes()))
    free = reading.ROOM + 3000
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=free))
    with pytest.raises(BagError, match='which has room for 3000 bytes; TMPDIR may name another'):
        read(tmp_path / 'bag.mcap.zstd')


def test_a_file_of_several_frames_is_unpacked_in_blocks():
    parts = [os.urandom(2 * BLOCK), b'', bytes(3 * BLOCK + 7), b'end']
    packed = b''.join(map(zstd().compress, parts))
    target = io.BytesIO()
    assert unpack_file(io.BytesIO(packed), target, 10 * BLOCK) is None
    assert target.getvalue() == b''.join(parts)
    assert unpack_file(io.BytesIO(packed), io.BytesIO(), 4 * BLOCK) == TOO_LARGE
    assert unpack_file(io.BytesIO(packed[:-1]), io.BytesIO(), 10 * BLOCK) == 'the end is missing'
    assert unpack_file(io.BytesIO(packed + b'x' * 20), io.BytesIO(), 10 * BLOCK)
    assert unpack_file(io.BytesIO(b''), io.BytesIO(), 10) == 'the end is missing'


def test_a_hole_in_a_file_takes_neither_time_nor_memory(tmp_path):
    """Such as of a disk that was full, or of a file that claims to be huge."""
    whole = mcap(tmp_path / 'bag.mcap', message(b'first')).read_bytes()
    for tail in (b'', struct.pack('<BQ', 5, 2**39)):
        (tmp_path / 'bag.mcap').write_bytes(whole[:-len(END)] + tail)
        os.truncate(tmp_path / 'bag.mcap', 2**40)
        found, _, damage = read(tmp_path / 'bag.mcap')
        assert found == [(1, b'first')]
        assert 'zeros, where a record was to begin' in damage[-1]


def test_a_summary_as_large_as_the_bag_is_not_read(tmp_path, little):
    path = mcap(tmp_path / 'bag.mcap', *[message(bytes(9000), time) for time in range(3)])
    footer = record(2, struct.pack('<QQI', 8, 0, 0)) + MAGIC
    path.write_bytes(path.read_bytes() + footer)
    assert not reading.McapFile(path).has_summary
    found, topics, damage = read(path)
    assert (len(found), topics, damage) == (3, {TOPIC: TYPE}, [])


def database(path, *changes):
    """Write a .db3 file of three messages, and change it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, '
                           'serialization_format TEXT, offered_qos_profiles TEXT)')
        connection.execute('CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, '
                           'timestamp INTEGER, data BLOB)')
        connection.execute("INSERT INTO topics VALUES (1, '/cam', ?, 'cdr', ''), "
                           "(2, '/other', 'std_msgs/msg/String', 'cdr', '')", (TYPE,))
        connection.executemany('INSERT INTO messages VALUES (?, 1, ?, ?)',
                               [(number, number, b'abc') for number in (1, 2, 3)])
        for change in changes:
            connection.execute(change)
        connection.commit()
    return path


ENDLESS = ('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n')


@pytest.mark.parametrize(('changes', 'expected'), [
    (['DROP TABLE messages', 'CREATE VIEW messages AS ' + ENDLESS.format(
        "i AS id, 1 AS topic_id, i AS timestamp, x'00' AS data")], 'messages is no table of it'),
    (['DROP TABLE topics', 'CREATE VIEW topics AS ' + ENDLESS.format(
        "i AS id, '/cam' AS name, 'x' AS type")], 'topics is no table of it'),
    (['DROP TABLE topics', 'CREATE VIRTUAL TABLE topics USING fts5(id, name, type)'],
     'topics is no table of it'),
    (['DROP TABLE messages', 'CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, '
      'timestamp INTEGER AS (length(zeroblob(900000000))), data BLOB)'],
     'messages has columns that are computed'),
    (['DROP TABLE messages'], 'messages is no table of it'),
])
def test_a_table_that_is_computed_is_not_read(tmp_path, changes, expected):
    found, topics, (damage,) = read(database(tmp_path / 'bag.db3', *changes))
    assert (found, topics) == ([], {})
    assert damage == f'{tmp_path / "bag.db3"}: cannot be opened: {expected}'


def test_pages_that_make_a_table_endless_are_read_once(tmp_path):
    """Of a tree whose branches are all the same one, as a small file can have it."""
    path = database(tmp_path / 'bag.db3', 'PRAGMA user_version = 1', *[
        f'INSERT INTO messages VALUES ({number}, 1, {number}, zeroblob(900))'
        for number in range(4, 400)])
    with closing(sqlite3.connect(path)) as connection:
        (root,), = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'")
        (size,), = connection.execute('PRAGMA page_size')
    data = bytearray(path.read_bytes())
    at = (root - 1) * size
    assert data[at] == 5  # an inner page, whose cells begin with the number of another one
    cells = struct.unpack_from('>H', data, at + 3)[0]
    first = struct.unpack_from('>H', data, at + 12)[0]
    for number in range(1, cells):
        cell = at + struct.unpack_from('>H', data, at + 12 + 2 * number)[0]
        data[cell:cell + 4] = data[at + first:at + first + 4]
    path.write_bytes(data)
    found, _, damage = read(path)
    assert len(found) == len(set(found))
    assert 3 < len(found) < 400
    assert 'its numbers do not grow' in damage[0]


@pytest.mark.parametrize(('change', 'times', 'damage'), [
    ("UPDATE messages SET timestamp = 'x' WHERE id = 2", [1, 3], 'broken at message 2'),
    ('UPDATE messages SET timestamp = 1e400 WHERE id = 1', [2, 3], 'broken at message 1'),
    ('UPDATE messages SET timestamp = NULL', [], 'broken at message 1'),
    ('UPDATE messages SET data = NULL WHERE id = 3', [1, 2], 'broken at message 3'),
    ("UPDATE messages SET topic_id = 'x' WHERE id = 3", [1, 2], None),
    ("UPDATE topics SET name = CAST(x'2f6fff' AS TEXT) WHERE id = 2", [1, 2, 3], None),
    ('UPDATE topics SET name = NULL WHERE id = 2', [1, 2, 3], None),
    ("UPDATE topics SET type = x'ff' WHERE id = 2", [1, 2, 3], None),
    ('UPDATE topics SET name = hex(zeroblob(5000)) WHERE id = 2', [1, 2, 3], None),
])
def test_values_of_another_kind_cost_their_own_message_alone(tmp_path, change, times, damage):
    found, topics, told = read(database(tmp_path / 'bag.db3', change))
    assert [time for time, _ in found] == times
    assert topics[TOPIC] == TYPE
    assert all(len(name) <= 1000 for name in topics)
    assert damage is None or told[0].startswith(f'{tmp_path / "bag.db3"}: {damage}')
    assert bool(told) == bool(damage)


def test_messages_may_be_numbered_from_any_number(tmp_path):
    path = database(tmp_path / 'bag.db3', "INSERT INTO messages VALUES (0, 1, 8, 'x'), "
                    "(-7, 1, 9, 'y'), (1000000000000, 1, 7, 'z')")
    found, _, damage = read(path)
    assert ([time for time, _ in found], damage) == ([9, 8, 1, 2, 3, 7], [])


def test_a_message_larger_than_the_limit_in_a_database(tmp_path, little):
    path = database(tmp_path / 'bag.db3', 'UPDATE messages SET data = zeroblob(10001) '
                    'WHERE id = 2')
    found, _, (damage,) = read(path)
    assert [time for time, _ in found] == [1, 3]
    assert '10001 bytes; expected 10000 bytes, which UNIVSEG_MAX_MESSAGE changes' in damage


@pytest.mark.parametrize('shared', [True, False])
@pytest.mark.parametrize('writable', [True, False])
def test_reading_a_bag_writes_nothing_beside_it(tmp_path, shared, writable):
    """Not even where a killed recorder left a log, with its index or without."""
    bag = tmp_path / 'bag'
    bag.mkdir()
    with closing(sqlite3.connect(database(tmp_path / 'live.db3'))) as connection:
        connection.execute('PRAGMA journal_mode = WAL')
        # More than the file has without its log.
        connection.execute('INSERT INTO messages VALUES (4, 1, 4, zeroblob(100000))')
        connection.commit()
        for end in ('', '-wal', *['-shm'] * shared):
            shutil.copy(tmp_path / f'live.db3{end}', bag / f'live.db3{end}')
    for path in (*bag.iterdir(), bag):
        path.chmod(path.stat().st_mode & (0o777 if writable else 0o555))
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in bag.iterdir()}
    found, _, damage = read(bag)
    assert [time for time, _ in found] == [1, 2, 3, 4]
    assert not damage
    assert before == {path.name: (path.read_bytes(), path.stat().st_mtime_ns)
                      for path in bag.iterdir()}


def metadata(files, counts='3', further=''):
    return ('rosbag2_bagfile_information:\n  version: 5\n'
            f'  relative_file_paths: [{", ".join(files)}]\n'
            '  topics_with_message_count:\n    - topic_metadata: {name: /cam}\n'
            f'      message_count: {counts}\n{further}')


@pytest.mark.parametrize('text_', [
    metadata(['bag.db3'], '.inf'), metadata(['bag.db3'], '[' * 3000), '!!timestamp x',
    'rosbag2_bagfile_information: !!timestamp x', metadata(['!!int x']), metadata(['2024-02-30']),
    'rosbag2_bagfile_information: ' + '[' * 5000, '', '[]', 'a: &a [*a]', '\x00', '3',
    metadata([str(10**400)]), metadata(['{a: 1}'])])
def test_metadata_of_anything_else_is_damage_and_the_files_are_read(tmp_path, text_):
    database(tmp_path / 'bag.db3')
    (tmp_path / 'metadata.yaml').write_text(text_)
    found, _, damage = read(tmp_path)
    assert [time for time, _ in found] == [1, 2, 3]
    assert damage[0].startswith(f'{tmp_path / "metadata.yaml"}: cannot be read')
    assert all(len(line) < 1000 for line in damage)


def test_a_file_that_is_named_twice_or_lies_in_a_subfolder_is_read_once(tmp_path):
    bag = tmp_path / 'bag'
    (bag / 'part').mkdir(parents=True)
    database(bag / 'a.db3')
    database(bag / 'part' / 'b.db3', 'UPDATE messages SET timestamp = timestamp + 10')
    database(tmp_path / 'foreign.db3')
    (bag / 'metadata.yaml').write_text(metadata(
        ['a.db3', 'part/b.db3', 'bag/a.db3', './a.db3', 'part/b.db3']))
    found, _, damage = read(bag)
    assert [time for time, _ in found] == [1, 2, 3, 11, 12, 13]
    assert not damage
    # Nothing outside of the bag's folder is its file.
    (bag / 'metadata.yaml').write_text(metadata(['a.db3', '../foreign.db3']))
    found, _, damage = read(bag)
    assert [time for time, _ in found] == [1, 2, 3]
    assert damage == [f'{bag / "foreign.db3"}: this file of the bag is missing']


@pytest.mark.parametrize('name', ['', '.', '..', 'x' * 5000, '\0.db3', 'bag.db3/x.db3', '/'])
def test_a_name_that_is_none_of_a_file_is_a_missing_one(tmp_path, name):
    database(tmp_path / 'bag.db3')
    (tmp_path / 'metadata.yaml').write_text(metadata([json.dumps(name), 'bag.db3']))
    found, _, (damage,) = read(tmp_path)
    assert [time for time, _ in found] == [1, 2, 3]
    assert damage.endswith(': this file of the bag is missing')
    assert len(damage) < 1000


@pytest.mark.parametrize('name', ['pipe.mcap', 'pipe.db3', 'pipe.mcap.zstd', 'metadata.yaml'])
def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path, name):
    database(tmp_path / 'bag.db3')
    os.mkfifo(tmp_path / name)
    found, _, damage = read(tmp_path)
    assert [time for time, _ in found] == [1, 2, 3]
    assert damage == ([] if name == 'metadata.yaml' else [f'{tmp_path / name}: not a file'])


def test_memory_of_a_bomb(tmp_path):
    """Of 1 GB in 30 kB, some MB are taken."""
    zeros = without_size(bytes(10**8)) * 3
    path = mcap(tmp_path / 'bag.mcap', chunk(b'', size=100, packed=zeros),
                chunk(b'', size=2**62, packed=zeros))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, _, damage = read(path)
    assert len(damage) == 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


def test_a_checksum_that_differs_is_damage(tmp_path):
    records = message(b'x')
    whole = record(6, struct.pack('<QQQI', 0, 9, len(records), zlib.crc32(records)) + text('')
                   + struct.pack('<Q', len(records)) + records)
    assert read(mcap(tmp_path / 'bag.mcap', whole))[0] == [(1, b'x')]
    broken = whole[:-1] + b'y'
    assert read(mcap(tmp_path / 'bag.mcap', broken))[0] == []


def test_the_first_of_many_damages_are_told(tmp_path):
    mcap(tmp_path / 'a.mcap', message(b'x'), *[chunk(b'', size=2**60)] * 5000)
    database(tmp_path / 'b.db3', *[f"INSERT INTO messages VALUES ({number}, 1, 'x', x'00')"
                                   for number in range(4, 2000)])
    (tmp_path / 'metadata.yaml').write_text(metadata([f'{number}.db3' for number in range(3000)]))
    found, _, damage = read(tmp_path)
    assert [time for time, _ in found] == [1, 1, 2, 3]
    assert 100 < len(damage) < 200
    assert damage.count('and more of that kind') == 3
