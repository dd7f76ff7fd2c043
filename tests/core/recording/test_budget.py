"""What the recorder's bags may take of the disk, and whose are dropped."""

from collections import namedtuple
import os
import shutil

from bag_files import raw, STORE, write_bag
import pytest
from recorded import as_tuples, back, front, picture, read_by_rosbags, read_by_us, write
from rosbags.rosbag2 import StoragePlugin, Writer
from univseg_core.bags.bag_writer import BagWriter
from univseg_core.bags.reading import Bag
from univseg_core.recording.budget import Budget
import yaml


def make_bag(folder, numbers):
    """Write a bag with a file for each number."""
    bag = BagWriter(folder)
    for number in numbers:
        write(bag, [front(number, 300), back(number)])
        bag.split()
    bag.close()
    return bag


def make_sqlite3_bag(folder, numbers):
    """Write a bag of sqlite3 files, as recorders of former versions did."""
    make_bag(folder, numbers)
    for number, path in zip(numbers, sorted(folder.glob('*.mcap')), strict=True):
        with Writer(folder / 'new', version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
            for frame in (front(number, 300), back(number)):
                writer.write(writer.add_connection(
                    frame.topic.name, frame.topic.type, typestore=STORE), frame.time, frame.data)
        path.unlink()
        (folder / 'new' / 'new.db3').rename(path.with_suffix('.db3'))
        shutil.rmtree(folder / 'new')
    metadata = folder / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('.mcap', '.db3').replace(
        'storage_identifier: mcap', 'storage_identifier: sqlite3'))


@pytest.fixture
def bags(tmp_path):
    """Return a folder with two bags of the recorder's, the newer one first by name."""
    make_bag(tmp_path / 'b', (1, 2))
    make_bag(tmp_path / 'a', (3, 4))
    for path in (tmp_path / 'b').iterdir():
        os.utime(path, (1000, 1000))
    return tmp_path


def size_of(folder, *patterns):
    return sum(path.stat().st_size for pattern in patterns for path in folder.glob(pattern))


def test_a_budget_counts_the_recorder_s_bags_and_no_others(bags):
    write_bag(bags / 'another', {'/front': [raw(0, picture(0, 300))]})
    (bags / 'notes').mkdir()
    (bags / 'notes' / 'metadata.yaml').write_text('- what I had for lunch')
    (bags / 'c.mcap').write_bytes(bytes(10_000))
    assert Budget(bags).finished_size == size_of(bags, '[ab]/[ab]_*')


def test_without_limits_there_is_room(bags):
    assert Budget(bags).make_room(10**9, None) == ''


def test_where_nothing_is_dropped_the_reason_is_told(bags):
    budget = Budget(bags, max_size=10**6)
    size = Budget(bags).finished_size
    assert budget.make_room(10**6, None) == (
        f'the bags in {bags} have {size / 1e6:.0f} MB; max_size is 1 MB')
    assert len(list(bags.rglob('*_?.*'))) == 4


def test_the_oldest_files_are_dropped_and_the_bags_stay_readable(bags):
    size = size_of(bags, '*/*_?.*')
    largest = max(path.stat().st_size for path in bags.rglob('*_?.*'))
    budget = Budget(bags, max_size=size, drops_oldest=True)
    assert budget.make_room(1, None) == ''
    assert budget.dropped == 1
    assert read_by_rosbags(bags / 'b') == as_tuples([front(2, 300), back(2)])
    assert read_by_rosbags(bags / 'a') == as_tuples(
        [frame for number in (3, 4) for frame in (front(number, 300), back(number))])
    facts = yaml.safe_load((bags / 'b' / 'metadata.yaml').read_text())[
        'rosbag2_bagfile_information']
    assert facts['message_count'] == facts['files'][0]['message_count'] == 2
    assert [topic['message_count'] for topic in facts['topics_with_message_count']] == [1, 1]
    assert facts['starting_time'] == facts['files'][0]['starting_time']
    # The next one is the last of its bag, which goes with it.
    assert budget.make_room(largest + 2, None) == ''
    assert not (bags / 'b').exists()
    assert budget.dropped == 2


def test_bags_of_sqlite3_files_count_and_are_dropped_as_well(tmp_path):
    make_sqlite3_bag(tmp_path / 'a', (1, 2))
    size = size_of(tmp_path, 'a/a_*.db3')
    budget = Budget(tmp_path, max_size=size, drops_oldest=True)
    assert budget.finished_size == size > 500_000
    assert budget.make_room(1, None) == ''
    assert read_by_us(tmp_path / 'a') == (as_tuples([front(2, 300), back(2)]), [])
    with Bag(tmp_path / 'a') as bag:
        assert bag.count(['/front']) == bag.count(['/back']) == 1


def test_the_bag_that_is_written_gives_its_own_files_last(bags):
    bag = BagWriter(bags / 'now')
    for number in (5, 6):
        write(bag, [front(number, 300)])
        bag.split()
    budget = Budget(bags, max_size=bag.total_size + bag.reserve + 10, drops_oldest=True)
    assert budget.make_room(10, bag) == ''
    assert [path.name for path in bags.iterdir()] == ['now']
    assert len(bag.finished) == 2
    assert budget.make_room(20, bag) == ''
    assert len(bag.finished) == 1
    reason = budget.make_room(10**9, bag)
    assert reason.endswith('; there is nothing older to drop')
    assert not bag.finished
    bag.close()


def test_what_somebody_put_beside_a_bag_s_files_stays(bags):
    (bags / 'b' / 'notes.txt').write_text('mine')
    budget = Budget(bags, max_size=1, drops_oldest=True)
    assert 'nothing older' in budget.make_room(2, None)
    assert [path.name for path in bags.rglob('*')] == ['b', 'notes.txt']


def test_a_bag_that_was_moved_away_or_damaged_meanwhile_is_no_trouble(bags):
    budget = Budget(bags, max_size=1, drops_oldest=True)
    shutil.rmtree(bags / 'b')
    for path in (bags / 'a').glob('a_*'):
        path.write_bytes(b'damaged')
    assert 'nothing older' in budget.make_room(2, None)
    assert not list(bags.iterdir())


def test_the_oldest_bag_is_the_one_that_was_written_first_whatever_its_messages_say(bags):
    for path in (bags / 'a').iterdir():
        os.utime(path, (500, 500))
    budget = Budget(bags, max_size=Budget(bags).finished_size, drops_oldest=True)
    assert budget.make_room(1, None) == ''
    assert read_by_rosbags(bags / 'a') == as_tuples([front(4, 300), back(4)])


def test_what_somebody_takes_away_makes_room(bags):
    budget = Budget(bags, max_size=Budget(bags).finished_size)
    assert 'max_size' in budget.make_room(1, None)
    shutil.rmtree(bags / 'a')
    assert budget.make_room(1, None) == ''
    assert budget.finished_size == size_of(bags, 'b/b_*')


def test_a_bag_whose_metadata_is_somebody_s_is_left_alone(bags):
    budget = Budget(bags, max_size=1, drops_oldest=True)
    (bags / 'b' / 'metadata.yaml').write_text('mine')
    assert 'nothing older' in budget.make_room(2, None)
    assert budget.dropped == 2
    assert len(list((bags / 'b').iterdir())) == 3
    assert not (bags / 'a').exists()


def test_what_a_bag_holds_back_counts(tmp_path):
    bag = BagWriter(tmp_path / 'bag')
    assert Budget(tmp_path, max_size=bag.reserve + 10).make_room(10, bag) == ''
    assert 'max_size' in Budget(tmp_path, max_size=bag.reserve + 10).make_room(11, bag)
    bag.close()


def test_a_bag_that_is_closed_counts_from_then_on(tmp_path):
    budget = Budget(tmp_path)
    budget.take_over(make_bag(tmp_path / 'a', (1, 2)))
    assert budget.finished_size == size_of(tmp_path, 'a/a_*')


def test_room_on_the_disk_is_left_free(bags, monkeypatch):
    free = [2_000_000]
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: namedtuple('U', 'free')(free[0]))
    budget = Budget(bags, min_free=1_000_000)
    assert budget.make_room(1_000_000, None) == ''
    assert budget.make_room(1_000_001, None) == (
        f'the disk of {bags} has 2 MB left; min_free is 1 MB')
