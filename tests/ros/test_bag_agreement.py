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


def without_metadata(bag):
    write(bag, 'sqlite3')
    (bag / 'metadata.yaml').unlink()


def cut_off(bag):
    write(bag, images=pictures(9, (40, 60)))
    file = bag / 'bag.mcap'
    file.write_bytes(file.read_bytes()[:-30_000])


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
    'version 8': lambda bag: write(bag, version=8),
    'other QoS': other_qos,
    'named twice': named_twice,
    'in a subfolder': in_a_subfolder,
    'in two files': in_two_files,
    'without metadata': without_metadata,
}
DAMAGED = {'cut off': cut_off, 'no time': with_a_time_that_is_none,
           'broken messages': with_broken_messages}


def frames_of(bag, topic, folder):
    """Return the (stamp, picture) of all frames that `univseg frames` writes, and problems."""
    report = extract_frames([bag], folder, [topic], ExtractionSettings(
        duplicate_bits=None, codec='png'), progress=False)
    with (folder / 'manifest.csv').open() as file:
        rows = [row for row in csv.DictReader(file) if row['outcome'] == 'kept']
    return [(int(row['stamp']), read_image(folder / row['file'])) for row in rows], report.problems


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


@pytest.mark.parametrize('topic', TOPICS)
@pytest.mark.parametrize('kind', [*WHOLE, *DAMAGED])
def test_frames_and_the_player_read_the_same(tmp_path, kind, topic):
    bag = tmp_path / 'bag'
    (WHOLE | DAMAGED)[kind](bag)
    frames, problems = frames_of(bag, topic, tmp_path / 'frames')
    sent, damage = played(bag, topic)
    assert_equal(frames, sent)
    assert problems == damage
    if kind in WHOLE:
        assert not problems
        expected = [(10**9 * (100 + number) + 5, picture)
                    for number, picture in enumerate(pictures())]
        if kind == 'in two files':  # the stamps begin anew in the second one
            expected[2] = (10**9 * 100 + 5, expected[2][1])
        assert_equal(frames, expected)
    else:
        assert 0 < len(frames) < (9 if kind == 'cut off' else 3) or topic == '/back'


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
        paths = [bag] if kind not in ('other QoS', 'named twice', 'in a subfolder',
                                      'without metadata') else files
        theirs = []
        for path in paths:
            with Reader(path) as reader:
                theirs += [(connection.topic, time, bytes(data))
                           for connection, time, data in reader.messages()]
        assert sorted(theirs) == found
        if files[0].suffix == '.mcap' and kind != 'mcap, messages':
            make_reader = pytest.importorskip('mcap.reader').make_reader
            theirs = []
            for path in files:
                with path.open('rb') as file:
                    theirs += [(channel.topic, message.log_time, message.data)
                               for _, channel, message in make_reader(file).iter_messages()]
            assert sorted(theirs) == found
    assert len(found) == 9


def test_metadata_of_humble_is_read_alike(tmp_path):
    """Its version 5 has the QoS of topics as a text."""
    bag = write(tmp_path / 'bag', version=8)
    change_metadata(bag, 'version: 8', 'version: 5')
    change_metadata(bag, "offered_qos_profiles: ''",
                    'offered_qos_profiles: "- history: 3\\n  depth: 0\\n  reliability: 1"')
    for topic in TOPICS:
        frames, problems = frames_of(bag, topic, tmp_path / f'frames{topic.strip("/")}')
        assert_equal(frames, played(bag, topic)[0])
        assert (len(frames), problems) == (3, [])


def test_a_bag_that_changed_places_is_read_from_where_it_is(tmp_path):
    bag = write(tmp_path / 'bag')
    change_metadata(bag, '- bag.mcap', f'- {tmp_path}/old/bag.mcap')
    shutil.move(bag, tmp_path / 'elsewhere')
    frames, problems = frames_of(tmp_path / 'elsewhere', '/front', tmp_path / 'frames')
    assert (len(frames), problems) == (3, [])
