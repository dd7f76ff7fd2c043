"""Bags of many kinds: `univseg frames`, the player, rosbags and the package mcap read the same."""

import csv
import shutil
import sqlite3

import numpy as np
import pytest
from recordings import add_images, pictures
from univseg_core.bags.reading import Bag
from univseg_core.datasets.frames import extract_frames, ExtractionSettings
from univseg_core.pictures.image_messages import decode
from univseg_core.pictures.images import read_image
from univseg_ros.image_sources import open_source

TOPICS = ('/front', '/back')


def write(path, storage='mcap', compression=None, version=9, images=None):
    """Write a bag of three pictures on two topics, and a text."""
    module = pytest.importorskip('rosbags.rosbag2', reason='needs rosbags')
    writer = module.Writer(path, version=version,
                           storage_plugin=module.StoragePlugin[storage.upper()])
    if compression:
        writer.set_compression(module.CompressionMode[compression.upper()],
                               module.CompressionFormat.ZSTD)
    with writer:
        add_images(writer, pictures() if images is None else images, 10**9)
    return path


def change_metadata(bag, old, new):
    path = bag / 'metadata.yaml'
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))



def other_qos(bag):
    """Let the metadata tell another QoS than the file, as after a change by hand."""
    write(bag)
    change_metadata(bag, 'offered_qos_profiles: []',
                    'offered_qos_profiles: [{history: keep_last, depth: 7, reliability: '
                    'best_effort, durability: volatile}]')


def named_twice(bag):
    write(bag)
    change_metadata(bag, '- bag.mcap', '- bag.mcap\n  - bag.mcap')


def in_a_subfolder(bag):
    write(bag)
    (bag / 'part').mkdir()
    (bag / 'bag.mcap').rename(bag / 'part' / 'bag.mcap')
    change_metadata(bag, '- bag.mcap', '- part/bag.mcap')


def in_two_files(bag):
    write(bag, images=pictures()[:2])
    write(bag.parent / 'second', images=pictures()[2:])
    (bag.parent / 'second' / 'second.mcap').rename(bag / 'second.mcap')
    change_metadata(bag, '- bag.mcap', '- bag.mcap\n  - second.mcap')


def listed_out_of_order(bag):
    in_two_files(bag)
    change_metadata(bag, '- bag.mcap\n  - second.mcap', '- second.mcap\n  - bag.mcap')


def in_capitals(storage):
    """Let the file's ending be as a disk of another system may have it."""
    def make(bag):
        (file,) = (path for path in write(bag, storage).iterdir() if path.stem == 'bag')
        change_metadata(bag, file.name, file.name.upper())
        file.rename(bag / file.name.upper())
    return make


def by_the_package(finish=True, times=None, compression='ZSTD', index='ALL', **options):
    """Let the package mcap write the file, without metadata, each message in its own chunk."""
    def make(bag):
        mcap = pytest.importorskip('mcap.writer')
        make_reader = pytest.importorskip('mcap.reader').make_reader
        file = write(bag) / 'bag.mcap'
        (bag / 'metadata.yaml').unlink()
        with file.open('rb') as source:
            messages = list(make_reader(source).iter_messages(log_time_order=False))
        with file.open('wb') as target:
            writer = mcap.Writer(target, chunk_size=1, index_types=mcap.IndexType[index],
                                 compression=mcap.CompressionType[compression], **options)
            writer.start('ros2')
            channels = {}
            for number, (schema, channel, message) in enumerate(messages):
                if channel.topic not in channels:
                    channels[channel.topic] = writer.register_channel(
                        channel.topic, 'cdr',
                        writer.register_schema(schema.name, 'ros2msg', schema.data))
                time = times[number // 3] if times else message.log_time
                writer.add_message(channels[channel.topic], time, message.data, time)
            if finish:
                writer.finish()
    return make


def with_numbers_as_qos(bag):
    """Let the metadata be of Humble: version 5, whose QoS is a text of numbers."""
    write(bag, version=8)
    change_metadata(bag, 'version: 8', 'version: 5')
    change_metadata(bag, "offered_qos_profiles: ''",
                    'offered_qos_profiles: "- history: 3\\n  depth: 0\\n  reliability: 1"')


def without_metadata(bag):
    write(bag, 'sqlite3')
    (bag / 'metadata.yaml').unlink()


def cut_off(bag):
    write(bag, images=pictures(9, (40, 60)))
    file = bag / 'bag.mcap'
    file.write_bytes(file.read_bytes()[:-30_000])


def without_a_file(bag):
    in_two_files(bag)
    (bag / 'bag.mcap').unlink()


def broken_in_the_midst(bag):
    """Break the chunk of the second picture on /front; a chunk has one message."""
    by_the_package()(bag)
    file = bag / 'bag.mcap'
    with file.open('rb') as source:
        reader = pytest.importorskip('mcap.reader').make_reader(source)
        chunk = reader.get_summary().chunk_indexes[3]
    data = bytearray(file.read_bytes())
    data[chunk.chunk_start_offset + 80] ^= 255
    file.write_bytes(data)


def with_a_time_that_is_none(bag):
    write(bag, 'sqlite3')
    with sqlite3.connect(bag / 'bag.db3') as database:
        database.execute("UPDATE messages SET timestamp = 'x' WHERE id = 4")


def with_broken_messages(bag):
    """Let one be too short, one too long, and one of bytes that are no text."""
    write(bag, 'sqlite3')
    with sqlite3.connect(bag / 'bag.db3') as database:
        database.execute('UPDATE messages SET data = substr(data, 1, 60) WHERE id = 1')
        database.execute("UPDATE messages SET data = CAST(data || x'00000000000000' AS BLOB) "
                         'WHERE id = 4')
        ((data,),) = database.execute('SELECT data FROM messages WHERE id = 2')
        database.execute('UPDATE messages SET data = ? WHERE id = 2',
                         (data.replace(b'front', b'\xff\xff\xff\xff\xff'),))


WHOLE = {
    'sqlite3': lambda bag: write(bag, 'sqlite3'),
    'sqlite3, messages': lambda bag: write(bag, 'sqlite3', 'message'),
    'sqlite3, file': lambda bag: write(bag, 'sqlite3', 'file'),
    'mcap': write,
    'mcap, chunks': lambda bag: write(bag, compression='storage'),
    'mcap, messages': lambda bag: write(bag, compression='message'),
    'mcap, file': lambda bag: write(bag, compression='file'),
    'mcap, lz4': by_the_package(compression='LZ4'),
    'mcap, no chunks': by_the_package(use_chunking=False),
    'mcap, no index': by_the_package(index='NONE', use_statistics=False),
    'version 8': lambda bag: write(bag, version=8),
    'version 5': with_numbers_as_qos,
    'other QoS': other_qos,
    'named twice': named_twice,
    'in a subfolder': in_a_subfolder,
    'in two files': in_two_files,
    'listed out of order': listed_out_of_order,
    'MCAP': in_capitals('mcap'),
    'DB3': in_capitals('sqlite3'),
    'times that repeat': by_the_package(times=[0, 0, 0]),
    'times that go back': by_the_package(times=[2**64 - 1, 7, 2**63]),
    'without metadata': without_metadata,
}
DAMAGED = {
    'cut off': (cut_off, None), 'no time': (with_a_time_that_is_none, None),
    'broken messages': (with_broken_messages, None), 'a missing file': (without_a_file, (1, 1)),
    'no end': (by_the_package(finish=False, use_chunking=False), (3, 3)),
    'broken in the midst': (broken_in_the_midst, (2, 3)),
}
"""And how many pictures can be read of each topic, where that is known."""


def frames_of(bag, folder):
    """Return the (stamp, picture) of all frames of each topic that are written, and problems."""
    report = extract_frames([bag], folder, TOPICS, ExtractionSettings(
        duplicate_bits=None, codec='png'), progress=False)
    with (folder / 'manifest.csv').open() as file:
        rows = [row for row in csv.DictReader(file) if row['outcome'] == 'kept']
    return {topic: [(int(row['stamp']), read_image(folder / row['file'])) for row in rows
                    if row['topic'] == topic] for topic in TOPICS}, report.problems


def played(bag, topic):
    """Return the (stamp, picture) of all that the player sends, and the damage it tells of."""
    damage = []
    source = open_source(bag, topic, None, lambda _: None, damage.append)
    return [(frame.message.header.stamp.sec * 10**9 + frame.message.header.stamp.nanosec,
             decode(frame.message)) for frame in source], damage


def assert_equal(one, other):
    assert [stamp for stamp, _ in one] == [stamp for stamp, _ in other]
    for (_, picture), (_, same) in zip(one, other, strict=True):
        np.testing.assert_array_equal(picture, same)


@pytest.mark.parametrize('kind', [*WHOLE, *DAMAGED])
def test_frames_and_the_player_read_the_same(tmp_path, kind):
    bag = tmp_path / 'bag'
    make, counts = (WHOLE[kind], (3, 3)) if kind in WHOLE else DAMAGED[kind]
    make(bag)
    frames, problems = frames_of(bag, tmp_path / 'frames')
    for topic in TOPICS:
        sent, damage = played(bag, topic)
        assert_equal(frames[topic], sent)
        assert problems == damage
    assert bool(problems) == (kind in DAMAGED and kind != 'broken messages')
    found = tuple(len(frames[topic]) for topic in TOPICS)
    assert found == counts if counts else 0 < found[0] < (9 if kind == 'cut off' else 3)
    if kind in WHOLE:
        # Of a bag in two files, the stamps begin anew in the second one.
        stamps = {'in two files': [0, 1, 0], 'listed out of order': [0, 0, 1]}.get(kind, [0, 1, 2])
        order = [2, 0, 1] if kind == 'listed out of order' else [0, 1, 2]
        for topic in TOPICS:
            assert_equal(frames[topic], [(10**9 * (100 + stamp) + 5, pictures()[number])
                                         for stamp, number in zip(stamps, order, strict=True)])


@pytest.mark.parametrize('kind', WHOLE)
def test_rosbags_and_the_package_mcap_read_the_same(tmp_path, kind):
    from rosbags.rosbag2 import Reader

    bag = tmp_path / 'bag'
    WHOLE[kind](bag)
    with Bag(bag) as ours:
        found = sorted((message.topic, message.time, bytes(message.data))
                       for message in ours.messages(ours.topics()))
        files = [file.path for file in ours._files]  # unpacked
        # rosbags reads no such folders, or loses messages of a QoS that the metadata tells
        # otherwise; it then reads the files.
        paths = [bag] if kind not in (
            'other QoS', 'version 5', 'named twice', 'in a subfolder') and (
            bag / 'metadata.yaml').is_file() else files
        theirs = []
        for path in paths:
            with Reader(path) as reader:
                theirs += [(connection.topic, time, bytes(data))
                           for connection, time, data in reader.messages()]
        assert sorted(theirs) == found
        if files[0].suffix.lower() == '.mcap' and kind != 'mcap, messages':
            make_reader = pytest.importorskip('mcap.reader').make_reader
            theirs = []
            for path in files:
                with path.open('rb') as file:
                    theirs += [(channel.topic, message.log_time, message.data)
                               for _, channel, message in make_reader(file).iter_messages()]
            assert sorted(theirs) == found
    assert len(found) == 9


def test_a_bag_that_changed_places_is_read_from_where_it_is(tmp_path):
    bag = write(tmp_path / 'bag')
    change_metadata(bag, '- bag.mcap', f'- {tmp_path}/old/bag.mcap')
    shutil.move(bag, tmp_path / 'elsewhere')
    frames, problems = frames_of(tmp_path / 'elsewhere', tmp_path / 'frames')
    assert (len(frames['/front']), problems) == (3, [])
