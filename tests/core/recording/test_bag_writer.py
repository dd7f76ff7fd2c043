"""Bags in files of a size and time, finished or left by a kill."""

import os
from pathlib import Path
import shutil

import pytest
from recorded import (
    as_tuples,
    BACK,
    back,
    BEST_EFFORT,
    FRONT,
    front,
    IMAGE,
    read_by_rosbags,
    read_by_us,
    RELIABLE,
    SECOND,
    write,
)
from rosbags.rosbag2 import Reader
from univseg_core.bags import bag_writer
from univseg_core.bags.bag_writer import BagWriter, finish_bag, is_unfinished, MARKER
from univseg_core.bags.metadata import read_own_metadata
from univseg_core.bags.topics import Topic
import yaml


@pytest.fixture
def frames():
    """Return images of two topics."""
    return [frame for number in range(8) for frame in (front(number, 100), back(number))]


def facts_of(folder):
    return yaml.safe_load((folder / 'metadata.yaml').read_text())['rosbag2_bagfile_information']


@pytest.mark.parametrize('compression', ['', 'zstd'])
def test_a_bag_of_several_files_is_read_as_one(tmp_path, frames, compression):
    bag = BagWriter(tmp_path / 'bag', compression)
    write(bag, frames[:5])
    bag.split()
    bag.split()  # nothing has come since
    write(bag, frames[5:])
    bag.close()
    assert sorted(path.name for path in bag.folder.iterdir()) == [
        'bag_0.mcap', 'bag_1.mcap', 'metadata.yaml']
    assert read_by_rosbags(bag.folder) == as_tuples(frames)
    assert read_by_us(bag.folder) == (as_tuples(frames), [])


def test_the_metadata_says_what_rosbag2_wants_to_know(tmp_path, frames):
    bag = BagWriter(tmp_path / 'bag')
    write(bag, frames[:5])
    bag.split()
    write(bag, frames[5:])
    bag.close()
    facts = facts_of(bag.folder)
    begin, end = frames[0].time, frames[-1].time
    assert facts['version'] == 9
    assert facts['storage_identifier'] == 'mcap'
    assert facts['message_count'] == 16
    assert facts['starting_time'] == {'nanoseconds_since_epoch': begin}
    assert facts['duration'] == {'nanoseconds': end - begin}
    assert facts['compression_format'] == facts['compression_mode'] == ''
    assert facts['relative_file_paths'] == ['bag_0.mcap', 'bag_1.mcap']
    assert facts['files'] == [
        {'path': 'bag_0.mcap', 'starting_time': {'nanoseconds_since_epoch': begin},
         'duration': {'nanoseconds': frames[4].time - begin}, 'message_count': 5},
        {'path': 'bag_1.mcap', 'starting_time': {'nanoseconds_since_epoch': frames[5].time},
         'duration': {'nanoseconds': end - frames[5].time}, 'message_count': 11}]
    topics = {topic['topic_metadata']['name']: topic
              for topic in facts['topics_with_message_count']}
    assert topics['/front']['message_count'] == topics['/back']['message_count'] == 8
    assert topics['/front']['topic_metadata'] == {
        'name': '/front', 'type': IMAGE, 'serialization_format': 'cdr',
        'offered_qos_profiles': list(FRONT.qos),
        # As rosidl's type description of sensor_msgs/msg/Image in Jazzy.
        'type_description_hash':
            'RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47'}
    assert topics['/back']['topic_metadata']['offered_qos_profiles'] == list(BACK.qos)


NUMBERS = {**RELIABLE, 'history': 3, 'reliability': 1, 'durability': 2, 'liveliness': 1}
"""RELIABLE in rmw's numbers."""


@pytest.mark.parametrize(('distribution', 'version', 'type_hash', 'ros_distro'), [
    ('humble', 5, False, None), ('iron', 7, True, None), ('kilted', 9, True, 'kilted')])
@pytest.mark.parametrize('killed', [False, True])
def test_a_bag_is_written_as_a_distribution_reads_it(
        tmp_path, frames, distribution, version, type_hash, ros_distro, killed):
    bag = BagWriter(tmp_path / 'bag', distribution=distribution)
    write(bag, frames)
    bag.flush()
    left = shutil.copytree(bag.folder, tmp_path / 'left')
    bag.close()
    if killed:
        assert finish_bag(left) == (len(frames), [])
        ros_distro = ros_distro and 'jazzy'  # what is known of it then
    folder = left if killed else bag.folder
    facts = facts_of(folder)
    assert facts['version'] == version
    assert facts.get('ros_distro') == ros_distro
    topic = facts['topics_with_message_count'][0]['topic_metadata']
    assert topic['name'] == '/front'
    assert ('type_description_hash' in topic) is type_hash
    content = (folder / 'bag_0.mcap').read_bytes()
    assert (b'topic_type_hash' in content) is type_hash
    assert (b'reliability: 1' in content) is (version < 9)
    assert (b'reliability: reliable' in content) is (version == 9)
    if version < 9:
        assert topic['offered_qos_profiles'].encode() in content
        assert yaml.safe_load(topic['offered_qos_profiles']) == [NUMBERS]
    else:
        assert topic['offered_qos_profiles'] == [RELIABLE]
    with Reader(folder) as reader:
        profile, = reader.connections[0].ext.offered_qos_profiles
    assert (profile.reliability.name, profile.durability.name) == ('RELIABLE', 'VOLATILE')
    assert read_by_rosbags(folder) == as_tuples(frames)
    assert read_by_us(folder) == (as_tuples(frames), [])


def test_compression_makes_bags_smaller(tmp_path):
    sizes = []
    for compression in ('', 'zstd'):
        bag = BagWriter(tmp_path / f'bag{compression}', compression)
        frame = front(0, 100)
        write(bag, [frame.__class__(FRONT, number, number, frame.data) for number in range(50)])
        bag.close()
        sizes.append(bag.finished[0][0].stat().st_size)
    assert sizes[1] < sizes[0] / 5


def test_a_file_ends_behind_its_size(tmp_path):
    bag = BagWriter(tmp_path / 'bag', split_size=3_000_000)
    frames = [front(number, 600) for number in range(8)]  # of 1.08 MB
    for frame in frames:
        write(bag, [frame])
        bag.flush()
    bag.close()
    assert len(bag.finished) in (3, 4)
    assert all(path.stat().st_size < 4_500_000 for path, _ in bag.finished)
    assert read_by_rosbags(bag.folder) == as_tuples(frames)


def test_a_file_ends_behind_its_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(bag_writer.time, 'monotonic', lambda: now[0])
    bag = BagWriter(tmp_path / 'bag', split_seconds=2.0)
    for number in range(10):
        now[0] = number / 2
        write(bag, [front(number)])
    bag.close()
    assert [contents.counts['/front'] for _, contents in bag.finished] == [4, 4, 2]


def test_a_topic_that_comes_later_is_in_the_bag(tmp_path):
    bag = BagWriter(tmp_path / 'bag')
    write(bag, [front(0)])
    bag.split()
    write(bag, [front(1), back(1)])
    bag.close()
    assert read_by_rosbags(bag.folder) == as_tuples([front(0), front(1), back(1)])


def test_a_topic_of_another_type_or_qos_does_not_suit_a_bag(tmp_path):
    bag = BagWriter(tmp_path / 'bag')
    assert bag.suits(FRONT)
    write(bag, [front(0)])
    bag.split()
    assert bag.suits(FRONT)
    assert bag.suits(BACK)
    assert not bag.suits(Topic('/front', IMAGE, (BEST_EFFORT,)))
    assert not bag.suits(Topic('/front', BACK.type, FRONT.qos))
    bag.close()


@pytest.mark.parametrize('distribution', ['jazzy', 'humble'])
@pytest.mark.parametrize('compression', ['', 'zstd'])
def test_a_bag_says_what_it_is_for_also_after_a_kill(tmp_path, frames, compression, distribution):
    bag = BagWriter(tmp_path / 'bag', compression, distribution=distribution)
    bag.describe({'triggers': 'first'})
    write(bag, frames[:4])
    bag.flush()
    bag.describe({'triggers': 'first, sécond', 'count': '2'})
    write(bag, frames[4:6])
    bag.split()
    write(bag, frames[6:])
    bag.flush()
    killed = shutil.copytree(bag.folder, tmp_path / 'killed')
    early = shutil.copytree(bag.folder, tmp_path / 'early')
    (early / 'bag_1.mcap').unlink()
    bag.split()
    bag.describe({'triggers': 'third'})
    bag.close()
    assert finish_bag(killed) == (len(frames), [])
    assert finish_bag(early) == (6, [])
    ours = {'recorded_by': 'univseg_ros bag_recorder'}
    for folder, said in ((bag.folder, {'triggers': 'third'}),
                         (killed, {'triggers': 'first, sécond', 'count': '2'}),
                         (early, {'triggers': 'first, sécond', 'count': '2'})):
        assert facts_of(folder)['custom_data'] == {**ours, **said}
        assert read_own_metadata(folder) is not None
    for folder in (bag.folder, killed):
        assert read_by_rosbags(folder) == as_tuples(frames)
        assert read_by_us(folder) == (as_tuples(frames), [])


def test_a_file_is_described_as_the_format_has_it(tmp_path):
    bag = BagWriter(tmp_path / 'bag')
    bag.describe({'a': 'bc', 'd': ''})
    write(bag, [front(0)])
    bag.close()
    data = bag.finished[0][0].read_bytes()
    # Opcode, length; name; bytes of the map, and its pairs.
    pairs = b'\1\0\0\0a\2\0\0\0bc\1\0\0\0d\0\0\0\0'
    content = b'\7\0\0\0univseg' + bytes([len(pairs), 0, 0, 0]) + pairs
    record = b'\x0c' + len(content).to_bytes(8, 'little') + content
    at = data.index(record)
    index = at.to_bytes(8, 'little') + len(record).to_bytes(8, 'little') + b'\7\0\0\0univseg'
    assert b'\x0d' + len(index).to_bytes(8, 'little') + index in data[at + len(record):]


def test_what_others_say_of_a_bag_does_not_make_it_ours(tmp_path):
    bag = BagWriter(tmp_path / 'bag')
    bag.describe({'recorded_by': 'somebody'})
    write(bag, [front(0)])
    bag.close()
    assert read_own_metadata(bag.folder)['custom_data'] == {
        'recorded_by': 'univseg_ros bag_recorder'}
    path = bag.folder / 'metadata.yaml'
    for said in ('{triggers: "[]"}', '[]', '{recorded_by: somebody}'):
        facts = yaml.safe_load(path.read_text())
        facts['rosbag2_bagfile_information']['custom_data'] = yaml.safe_load(said)
        path.write_text(yaml.safe_dump(facts))
        assert read_own_metadata(bag.folder) is None


def test_a_bag_without_a_message_is_removed(tmp_path):
    BagWriter(tmp_path / 'bag').close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('compression', ['', 'zstd'])
def test_a_bag_that_a_kill_left_is_readable_and_can_be_finished(
        tmp_path, frames, compression):
    bag = BagWriter(tmp_path / 'bag', compression)
    write(bag, frames[:6])
    bag.split()
    write(bag, frames[6:14])
    bag.flush()
    write(bag, frames[14:])
    killed = tmp_path / 'killed'
    shutil.copytree(bag.folder, killed)
    bag.close()
    assert is_unfinished(killed)
    assert not is_unfinished(bag.folder)
    read, _ = read_by_us(killed)
    assert set(as_tuples(frames[:14])) <= set(read)
    assert finish_bag(killed) == (len(read), [])
    assert not is_unfinished(killed)
    assert read_by_rosbags(killed) == read
    assert read_by_us(killed) == (read, [])
    assert facts_of(killed)['topics_with_message_count'][0]['topic_metadata'][
        'offered_qos_profiles']
    assert not [path for path in killed.iterdir() if path.name.startswith('.')]


def test_a_kill_while_a_bag_was_begun_or_finished_is_mended(tmp_path, frames):
    bag = BagWriter(tmp_path / 'bag')
    (bag.folder / MARKER).write_bytes(b'')  # before anything was in it
    assert finish_bag(bag.folder) == (0, [])
    assert not bag.folder.exists()

    bag = BagWriter(tmp_path / 'bag')
    write(bag, frames)
    bag.split()
    finish_bag(bag.folder)
    (bag.folder / MARKER).touch()
    assert finish_bag(bag.folder) == (len(frames), [])  # the metadata was written, the marker left
    assert read_by_rosbags(bag.folder) == as_tuples(frames)


def test_a_file_in_which_nothing_can_be_read_does_not_keep_the_rest_from_being_finished(tmp_path):
    bag = BagWriter(tmp_path / 'bag')
    write(bag, [front(0)])
    bag.flush()
    bag._file.abandon()
    (bag.folder / 'bag_1.mcap').write_bytes(b'\0' * 100)  # a power cut
    count, (problem,) = finish_bag(bag.folder)
    assert count == 1
    assert 'bag_1.mcap' in problem
    assert is_unfinished(bag.folder)
    assert read_by_rosbags(bag.folder) == as_tuples([front(0)])
    assert (bag.folder / 'bag_1.mcap').exists()


def test_a_bag_whose_marker_was_lost_keeps_its_images(tmp_path):
    bag = BagWriter(tmp_path / 'bag')
    write(bag, [front(0)])
    bag.flush()
    bag._file.abandon()
    (bag.folder / MARKER).write_bytes(b'')
    assert finish_bag(bag.folder) == (1, [])
    assert read_by_rosbags(bag.folder) == as_tuples([front(0)])


def test_an_unfinished_bag_of_sqlite3_files_is_left_as_it_is(tmp_path):
    """As a killed recorder of a former version left it."""
    bag = BagWriter(tmp_path / 'bag')
    (bag.folder / 'bag_0.db3').write_bytes(b'images')
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(ValueError, match=f'finished by `ros2 bag reindex {bag.folder}`'):
        finish_bag(bag.folder)
    assert sorted(tmp_path.rglob('*')) == before
    assert is_unfinished(bag.folder)


def test_the_marker_keeps_room_on_the_disk_for_the_end_of_the_bag(tmp_path):
    bag = BagWriter(tmp_path / 'bag')
    marker = (bag.folder / MARKER).stat()
    assert marker.st_size == bag.reserve >= 2**20
    assert marker.st_blocks * 512 >= marker.st_size
    bag.close()


def test_the_oldest_file_can_be_dropped(tmp_path):
    bag = BagWriter(tmp_path / 'bag')
    for number in range(3):
        write(bag, [front(number)])
        bag.split()
    before = bag.total_size
    assert bag.drop_oldest()
    assert bag.total_size < before
    write(bag, [front(3)])
    assert bag.counts == {'/front': 3}  # the dropped one was made safe
    bag.close()
    assert bag.counts == {'/front': 4}
    assert read_by_rosbags(bag.folder) == as_tuples(map(front, (1, 2, 3)))
    assert facts_of(bag.folder)['starting_time'] == {
        'nanoseconds_since_epoch': 100 * SECOND + SECOND // 10}


def test_finished_files_that_somebody_takes_away_are_not_missed(tmp_path):
    bag = BagWriter(tmp_path / 'bag')
    for number in range(4):
        write(bag, [front(number)])
        bag.split()
    bag.finished[0][0].unlink()
    assert bag.drop_oldest()
    bag.finished[1][0].unlink()
    bag.close()
    assert read_by_rosbags(bag.folder) == as_tuples([front(1), front(3)])


def test_a_file_that_cannot_be_begun_costs_nothing_of_those_before(tmp_path, monkeypatch):
    bag = BagWriter(tmp_path / 'bag')
    write(bag, [front(0)])
    bag.split()
    with monkeypatch.context() as full:
        def writev(file, buffers):
            os.write(file, b'begun')
            raise OSError('full')
        full.setattr(os, 'writev', writev)
        open_files = len(list(Path('/proc/self/fd').iterdir()))
        for _ in range(2):
            with pytest.raises(OSError, match='full'):
                write(bag, [front(1)])
        assert len(list(Path('/proc/self/fd').iterdir())) == open_files
    bag.close()
    assert bag.counts == {'/front': 1}
    assert len(list(bag.folder.iterdir())) == 2
    assert read_by_rosbags(bag.folder) == as_tuples([front(0)])


def test_a_file_that_is_there_is_not_touched(tmp_path):
    bag = BagWriter(tmp_path / 'bag')
    path = bag.folder / 'bag_0.mcap'
    path.write_bytes(b'mine')
    with pytest.raises(FileExistsError):
        write(bag, [front(0)])
    assert path.read_bytes() == b'mine'
    bag.close()


def test_a_bag_takes_no_folder_that_is_there(tmp_path):
    with pytest.raises(FileExistsError):
        BagWriter(tmp_path)
