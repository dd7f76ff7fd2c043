"""Bags, whole and damaged, read without ROS; rosbags, which wrote them, is the reference."""

from contextlib import closing
import sqlite3

import apsw
from bag_files import BEGIN, pictures, raw, STEP, storage_file, type_of, write_bag
import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from univseg_core.bags.compression import ZSTD_MAGIC
from univseg_core.bags.mcap import Message
from univseg_core.bags.reading import Bag, BagError, deserialise, is_bag

FRONT, BACK, TEXT = '/front', '/back', '/text'


@pytest.fixture
def topics():
    """Return the messages of three topics; each image is a chunk of MCAP of its own."""
    images = [np.random.default_rng(number).integers(0, 256, (600, 600, 3), np.uint8)
              for number in range(3)]
    return {FRONT: [raw(number, image) for number, image in enumerate(images)],
            BACK: [raw(0, picture) for picture in pictures(1)], TEXT: [b'\0\1\0\0\1\0\0\0\0'] * 3}


def read(path, topics=(FRONT,), **window):
    """Return the messages as (topic, time, bytes), and the damage."""
    with Bag(path) as bag:
        messages = [(message.topic, message.time, bytes(message.data))
                    for message in bag.messages(topics, **window)]
        return messages, bag.damage


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('compression', [None, 'file', 'message', 'storage'])
def test_whole_bags_are_read_as_by_rosbags(tmp_path, topics, storage, compression):
    if (storage, compression) == ('sqlite3', 'storage'):
        pytest.skip('sqlite3 has no compression of its own')
    path = write_bag(tmp_path / 'bag', topics, storage, compression)
    with Reader(path) as reader:
        expected = [(connection.topic, time, bytes(data))
                    for connection, time, data in reader.messages()]
    for part in (path, storage_file(path)):
        found, damage = read(part, topics)
        assert sorted(found) == sorted(expected)
        assert not damage
    with Bag(path) as bag:
        assert bag.topics() == {topic: type_of(topic) for topic in topics}
        assert bag.begin() == BEGIN
        assert bag.count([FRONT, BACK]) == 4


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_topics_and_a_window_of_time(tmp_path, topics, storage):
    path = write_bag(tmp_path / 'bag', topics, storage)
    found, _ = read(path, [FRONT, TEXT], since=BEGIN + STEP, until=BEGIN + 2 * STEP)
    assert sorted(message[:2] for message in found) == [
        (FRONT, BEGIN + STEP), (TEXT, BEGIN + STEP)]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_folder_without_metadata_and_the_order_of_its_files(tmp_path, storage):
    bag = tmp_path / 'bag'
    bag.mkdir()
    for number in (2, 10, 1):
        part = write_bag(tmp_path / f'part{number}', {TEXT: [bytes([number])]}, storage)
        file = storage_file(part)
        file.rename(bag / f'bag_{number}{file.suffix}')
    assert is_bag(bag)
    found, damage = read(bag, [TEXT])
    assert [data for *_, data in found] == [b'\1', b'\2', b'\12']
    assert not damage


def test_a_split_of_which_one_file_is_missing(tmp_path, topics):
    path = write_bag(tmp_path / 'bag', topics)
    metadata = path / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace(
        '- bag.mcap', '- old/bag_0.mcap\n  - old/bag.mcap'))
    found, damage = read(path)
    assert len(found) == 3
    assert damage == [f'{path / "bag_0.mcap"}: this file of the bag is missing']


def test_files_that_the_metadata_does_not_name_are_read_behind_the_others(tmp_path):
    path = write_bag(tmp_path / 'bag', {TEXT: [b'1']})
    further = write_bag(tmp_path / 'a', {TEXT: [b'2']})
    storage_file(further).rename(path / 'a.mcap')
    found, damage = read(path, [TEXT])
    assert [data for *_, data in found] == [b'1', b'2']
    assert not damage


def test_a_file_that_was_unpacked_is_read_once(tmp_path, topics):
    path = write_bag(tmp_path / 'bag', topics, compression='file')
    whole, _ = read(path)
    unpacked = path / 'bag.mcap'
    with Bag(path) as bag:
        unpacked.write_bytes(bag._files[0].path.read_bytes())
    assert read(path) == (whole, [])
    (path / 'bag.mcap.zstd').unlink()
    assert read(path) == (whole, [])


VERSION_4 = """rosbag2_bagfile_information:
  version: 4
  storage_identifier: {storage}
  relative_file_paths:
    - {file}
  duration: {{nanoseconds: 1}}
  starting_time: {{nanoseconds_since_epoch: 1}}
  message_count: 3
  topics_with_message_count:
    - topic_metadata:
        name: /front
        type: sensor_msgs/msg/Image
        serialization_format: cdr
        offered_qos_profiles: "- history: 3\\n  depth: 0"
      message_count: 3
"""
OF_LATER_VERSIONS = {
    4: "  compression_format: ''\n  compression_mode: ''\n",
    5: '  files: [{path: x, starting_time: {nanoseconds_since_epoch: 1}}]\n',
    6: '  custom_data: ~\n', 7: '', 8: '  ros_distro: iron\n', 9: ''}


@pytest.mark.parametrize('version', OF_LATER_VERSIONS)
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_the_metadata_of_every_distribution(tmp_path, topics, version, storage):
    path = write_bag(tmp_path / 'bag', topics, storage)
    whole, _ = read(path)
    text = VERSION_4.format(storage=storage, file=storage_file(path).name)
    for later, lines in OF_LATER_VERSIONS.items():
        text += lines if later <= version else ''
    if version == 9:
        text = text.replace('"- history: 3\\n  depth: 0"', '[{history: keep_last, depth: 1}]')
    (path / 'metadata.yaml').write_text(text.replace('version: 4', f'version: {version}'))
    assert read(path) == (whole, [])
    with Bag(path) as bag:
        assert bag.count([FRONT]) == 3


@pytest.mark.parametrize('compression', [None, 'storage', 'file'])
@pytest.mark.parametrize('share', [0.5, 0.9, 0.999])
def test_a_truncated_mcap_file_gives_what_precedes_its_end(tmp_path, topics, compression, share):
    path = write_bag(tmp_path / 'bag', topics, compression=compression)
    file = storage_file(path)
    whole, _ = read(path, topics)
    file.write_bytes(file.read_bytes()[:int(share * file.stat().st_size)])
    found, damage = read(path, topics)
    assert found == whole[:len(found)]
    # Each of the three chunks is a third of the file.
    assert sum(topic == FRONT for topic, *_ in found) >= int(3 * share)
    assert any(str(file) in text or 'byte' in text for text in damage)
    with Bag(path) as bag:
        assert FRONT in bag.topics()
        assert bag.begin() == BEGIN


def test_a_damaged_chunk_is_left_out_alone(tmp_path, topics):
    path = write_bag(tmp_path / 'bag', topics, compression='storage')
    file = storage_file(path)
    whole, _ = read(path)
    data = bytearray(file.read_bytes())
    at = data.find(ZSTD_MAGIC, data.find(ZSTD_MAGIC) + 1)
    data[at] ^= 1
    file.write_bytes(data)
    found, (damage,) = read(path)
    assert found == [whole[0], whole[2]]
    assert damage.startswith(f'{file}: broken at byte ')
    assert 0 < at - int(damage.split('byte ')[1].split(':')[0]) < 100


@pytest.mark.parametrize('share', [0.4, 0.8])
def test_a_truncated_sqlite3_file_gives_what_precedes_its_end(tmp_path, share):
    images = {FRONT: [raw(number, picture)
                      for number, picture in enumerate(pictures(60, (80, 100)))]}
    path = write_bag(tmp_path / 'bag', images, 'sqlite3')
    file = storage_file(path)
    whole, _ = read(path)
    file.write_bytes(file.read_bytes()[:int(share * file.stat().st_size)])
    found, damage = read(path)
    assert found == whole[:len(found)]
    assert 60 * share - 15 < len(found) < 60 * share
    assert damage[0].startswith(f'{file}: broken after message ')


@pytest.mark.parametrize('kind', ['leaf', 'overflow'])
@pytest.mark.parametrize('lost', [[20], [0, 30, 31, 32, 33, 34, 50], [20, 21, 22, 24]])
def test_messages_around_damaged_pages_of_a_sqlite3_file_are_read(tmp_path, kind, lost):
    images = {FRONT: [raw(number, picture)
                      for number, picture in enumerate(pictures(60, (80, 100)))]}
    path = write_bag(tmp_path / 'bag', images, 'sqlite3')
    file = storage_file(path)
    whole, _ = read(path)
    with closing(apsw.Connection(str(file))) as connection:
        ((size,),) = connection.execute('PRAGMA page_size')
        # Each message has a page of its own, and some for most of its bytes.
        pages = [page for (page,) in connection.execute(
            "SELECT min(pageno) FROM dbstat WHERE name = 'messages' AND pagetype = ? "
            'GROUP BY substr(path, 1, 5) ORDER BY path', (kind,))]
    assert len(pages) == 60
    with file.open('rb+') as damaged:
        for number in lost:
            damaged.seek((pages[number] - 1) * size)
            damaged.write(bytes(size))
    found, damage = read(path)
    assert found == [message for number, message in enumerate(whole) if number not in lost]
    assert damage[0].startswith(f'{file}: broken ')
    assert str(lost[0] + (kind == 'overflow')) in damage[0].split('message ')[1].split(':')[0]


@pytest.mark.parametrize('storage', ['sqlite3', 'mcap'])
def test_a_file_that_is_taken_away_in_the_meantime_is_damage(tmp_path, topics, storage):
    path = write_bag(tmp_path / 'bag', topics, storage)
    file = storage_file(path)
    with Bag(path) as bag:
        file.unlink()
        assert list(bag.messages(topics)) == []
        bag.begin()
    assert len(bag.damage) == 1
    assert bag.damage[0].startswith(f'{file}: cannot be read: ')


def test_what_a_journal_beside_a_sqlite3_file_holds_is_read(tmp_path, topics):
    path = write_bag(tmp_path / 'bag', topics, 'sqlite3')
    connection = sqlite3.connect(storage_file(path))
    connection.execute('PRAGMA journal_mode = WAL')
    connection.execute('INSERT INTO messages VALUES (99, 3, 7, ?)', (b'late',))
    connection.commit()
    found, damage = read(path, [TEXT])
    connection.close()
    assert found[-1] == (TEXT, 7, b'late')
    assert not damage


@pytest.mark.parametrize('name', ['bag.mcap', 'bag.db3', 'bag.mcap.zstd'])
@pytest.mark.parametrize('content', [b'', b'not a bag' * 99])
def test_a_file_of_something_else_is_damage(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    found, damage = read(tmp_path / name)
    assert not found
    assert damage
    assert all('bag' in text for text in damage)


def test_no_bag(tmp_path):
    with pytest.raises(BagError, match='no such bag'):
        Bag(tmp_path / 'none')
    with pytest.raises(BagError, match='not a ROS 2 bag'):
        Bag(tmp_path)
    for name in ('drive_2', 'drive_1'):
        (tmp_path / name).mkdir()
    with pytest.raises(BagError, match=r'the folders in it are drive_1, drive_2$'):
        Bag(tmp_path)


@pytest.mark.parametrize('data', [b'', b'\0\1\0\0', raw(0, pictures(1)[0])[:-1], b'\7' * 99])
def test_bytes_that_are_no_image(data):
    with pytest.raises(BagError, match='cannot be deserialised'):
        deserialise(Message(FRONT, 'sensor_msgs/msg/Image', 0, data))
