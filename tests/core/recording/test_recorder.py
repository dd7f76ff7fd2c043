"""The recording thread: what is kept, counted and told, also where the disk is slow or full."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
import shutil
import subprocess
import threading
import time

import pytest
from recorded import as_tuples, back, BEST_EFFORT, FRONT, front, read_by_rosbags, read_by_us
from univseg_core.bags.bag_writer import BagWriter, is_unfinished
from univseg_core.bags.mcap_writer import McapWriter
from univseg_core.bags.topics import RecordingError
from univseg_core.recording import recorder as module
from univseg_core.recording.folder import RecordingFolder
from univseg_core.recording.judged import Uncertain
from univseg_core.recording.policies import Policy, RateLimit

DEADLINE = 20


def wait_until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def counts(recorder):
    return {topic: dict(+count) for topic, count in recorder.status().counts.items()}


def put(recorder, frames):
    """Put frames one by one, each when the one before it has come to something."""
    for frame in frames:
        seen = recorder.status().seen
        recorder.put(frame)
        wait_until(lambda seen=seen: recorder.status().seen > seen)


def test_what_is_put_is_in_a_bag_named_by_its_time(make_recorder, tmp_path):
    recorder = make_recorder(name='robot')
    assert not list(tmp_path.iterdir())  # no bag before there is anything in it
    frames = [frame for number in range(5) for frame in (front(number), back(number))]
    for frame in frames:
        recorder.put(frame)
    recorder.stop()
    bag, = tmp_path.iterdir()
    datetime.strptime(bag.name, 'robot_%Y_%m_%d-%H_%M_%S')
    assert read_by_rosbags(bag) == as_tuples(frames)
    assert counts(recorder) == {'/front': {'kept': 5}, '/back': {'kept': 5}}
    assert recorder.status().written_bytes == sum(len(frame.data) for frame in frames)


def test_what_came_half_a_second_ago_is_readable(make_recorder, tmp_path):
    recorder = make_recorder()
    put(recorder, [front(number) for number in range(3)])
    bag, = tmp_path.iterdir()
    wait_until(lambda: len(read_by_us(bag)[0]) == 3)
    assert is_unfinished(bag)
    assert module.FLUSH_PERIOD <= 0.5


def test_frames_that_are_not_kept_are_counted_with_the_reason(make_recorder, tmp_path):
    recorder = make_recorder(RateLimit(1.0))
    frames = [front(number) for number in range(12)]
    put(recorder, frames)
    assert counts(recorder) == {'/front': {'kept': 2, 'rate': 10}}
    recorder.stop()
    bag, = tmp_path.iterdir()
    assert read_by_rosbags(bag) == as_tuples([frames[0], frames[10]])


def test_a_pause_keeps_nothing_and_ends(make_recorder, tmp_path):
    recorder = make_recorder()
    put(recorder, [front(0)])
    recorder.pause()
    assert recorder.status().paused
    put(recorder, [front(1), front(2)])
    recorder.resume()
    put(recorder, [front(3)])
    recorder.stop()
    assert counts(recorder) == {'/front': {'kept': 2, 'paused': 2}}
    bag, = tmp_path.iterdir()
    assert read_by_rosbags(bag) == as_tuples([front(0), front(3)])


def test_a_split_begins_a_new_file(make_recorder, tmp_path):
    recorder = make_recorder()
    put(recorder, [front(0)])
    assert recorder.status().file.endswith('_0.mcap')
    recorder.split()
    wait_until(lambda: recorder.status().file == '')
    put(recorder, [front(1)])
    assert recorder.status().file.endswith('_1.mcap')
    recorder.stop()
    bag, = tmp_path.iterdir()
    assert len(list(bag.glob('*.mcap'))) == 2
    assert read_by_rosbags(bag) == as_tuples([front(0), front(1)])


def test_a_publisher_that_changes_its_qos_begins_a_new_bag(make_recorder, tmp_path):
    recorder = make_recorder()
    changed = replace(front(1), topic=replace(FRONT, qos=(BEST_EFFORT,)))
    put(recorder, [front(0), changed, replace(changed, time=changed.time + 1)])
    recorder.stop()
    assert sorted(len(read_by_rosbags(bag)) for bag in tmp_path.iterdir()) == [1, 2]


class Blocking(Policy):
    """Lets the thread wait, as a slow disk would."""

    def __init__(self):
        self.go_on = threading.Event()

    def judge(self, frame):
        self.go_on.wait(DEADLINE)
        yield frame, 'kept'


def test_a_slow_disk_makes_the_queue_drop_and_count_but_never_grow(make_recorder, tmp_path):
    policy = Blocking()
    frames = [front(number) for number in range(20)]
    size = len(frames[0].data)
    recorder = make_recorder(policy, queue_size=5 * size)
    recorder.put(frames[0])
    wait_until(lambda: recorder.status().queued_bytes == 0)  # the thread has it
    for frame in frames[1:]:
        recorder.put(frame)
        assert recorder.status().queued_bytes <= 5 * size
    assert counts(recorder) == {'/front': {'queue full': 14}}
    policy.go_on.set()
    recorder.stop()
    assert counts(recorder) == {'/front': {'queue full': 14, 'kept': 6}}
    bag, = tmp_path.iterdir()
    assert read_by_rosbags(bag) == as_tuples(frames[:6])


def test_an_image_larger_than_the_queue_is_taken_where_nothing_waits(make_recorder):
    recorder = make_recorder(queue_size=10)
    put(recorder, [front(0)])
    assert counts(recorder) == {'/front': {'kept': 1}}


def test_where_there_is_no_room_recording_ends_until_somebody_resumes(make_recorder, tmp_path):
    recorder = make_recorder(max_size=BagWriter.reserve + 20_000)
    frames = [front(number, 50) for number in range(5)]  # of 7.5 kB
    put(recorder, frames[:4])
    assert counts(recorder) == {'/front': {'kept': 2, 'no room': 2}}
    assert 'max_size is 1 MB' in recorder.status().trouble
    bag, = tmp_path.iterdir()
    assert read_by_rosbags(bag) == as_tuples(frames[:2])  # it is whole at once
    assert [text for level, text in recorder.said if level == 'error'] == [
        f'{recorder.status().trouble}; call ~/resume when that is mended']
    for path in bag.iterdir():
        path.unlink()
    recorder.resume()
    assert recorder.status().trouble == ''
    put(recorder, frames[4:])
    assert counts(recorder) == {'/front': {'kept': 3, 'no room': 2}}


def test_the_oldest_files_make_room(make_recorder, tmp_path):
    recorder = make_recorder(max_size=BagWriter.reserve + 60_000, drops_oldest=True,
                             split_size=15_000)
    frames = [front(number, 50) for number in range(30)]
    put(recorder, frames)
    status = recorder.status()
    assert status.count('kept') == 30
    assert status.dropped_files >= 5
    recorder.stop()
    bag, = tmp_path.iterdir()
    read = read_by_rosbags(bag)
    assert read == as_tuples(frames[-len(read):])
    assert sum(path.stat().st_size for path in bag.glob('*.mcap')) < 62_000
    assert len(read) >= 4


def test_whatever_a_frame_raises_is_counted_and_the_next_one_kept(make_recorder):
    class Faulty(Policy):
        def judge(self, frame):
            if frame.time == front(0).time:
                raise RuntimeError('told to fail')
            yield frame, 'kept'

    recorder = make_recorder(Faulty())
    put(recorder, [front(0), front(1)])
    assert counts(recorder) == {'/front': {'failed': 1, 'kept': 1}}
    assert 'told to fail' in recorder.said[0][1]


def test_what_could_not_be_written_is_counted_as_that(make_recorder, tmp_path, monkeypatch):
    recorder = make_recorder()
    put(recorder, [front(0)])
    wait_until(lambda: recorder._bag.counts)

    def full(self, *arguments):
        raise OSError('No space left on device')

    with monkeypatch.context() as broken:
        broken.setattr(BagWriter, 'write', full)
        put(recorder, [front(1)])
        assert 'No space left' in recorder.status().trouble
    put(recorder, [front(2)])
    recorder.resume()
    put(recorder, [front(3)])
    recorder.stop()
    assert counts(recorder) == {'/front': {'kept': 2, 'failed': 1, 'no room': 1}}
    assert sorted(message for bag in tmp_path.iterdir() for message in read_by_rosbags(bag)
                  ) == as_tuples([front(0), front(3)])


def test_whatever_happens_to_the_bag_is_told_and_the_thread_goes_on(make_recorder, monkeypatch):
    recorder = make_recorder()
    put(recorder, [front(0)])

    def fails(self):
        raise RuntimeError('malformed')

    with monkeypatch.context() as broken:
        broken.setattr(McapWriter, 'flush', fails)
        wait_until(lambda: recorder.status().trouble)
        wait_until(lambda: any('malformed' in text for _, text in recorder.said))
    put(recorder, [front(1)])
    recorder.resume()
    put(recorder, [front(2)])
    recorder.stop()
    assert counts(recorder) == {'/front': {'failed': 1, 'no room': 1, 'kept': 1}}


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a disk of its own of 60 MB."""
    path = tmp_path / 'disk'
    path.mkdir()
    mount = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=60m', 'tmpfs', str(path)],
                           capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f'cannot mount a small disk: {mount.stderr.strip()}')
    yield path
    subprocess.run(['umount', '-l', str(path)], check=True)


@pytest.mark.parametrize(('side', 'split_size'), [
    (600, 0), (150, 2_000_000)])  # 1.08 MB, larger than a chunk, and 68 kB
def test_a_full_disk_ends_a_bag_that_is_whole(make_recorder, small_disk, side, split_size):
    recorder = make_recorder(directory=small_disk, split_size=split_size)
    frames = [front(number, side) for number in range(66_000_000 // (3 * side * side))]
    for frame in frames:
        recorder.put(frame)
        time.sleep(0.0005)
    wait_until(lambda: recorder.status().seen == len(frames) or recorder._closed)
    wait_until(lambda: recorder.status().trouble)
    recorder.stop()
    status = recorder.status()
    bag, = small_disk.iterdir()
    assert not is_unfinished(bag)
    read = read_by_rosbags(bag)
    assert read == as_tuples(frames[:len(read)])
    assert read_by_us(bag) == (read, [])
    assert status.count('kept') == len(read) > 0
    assert status.count('kept') + status.count('failed') + status.count('no room') == len(frames)
    # But for the reserve, the disk was used.
    assert sum(len(data) for *_, data in read) > 55_000_000


def test_a_folder_that_disappears_ends_the_recording_but_not_the_thread(make_recorder, tmp_path):
    folder = tmp_path / 'bags'
    folder.mkdir()
    recorder = make_recorder(directory=folder)
    folder.rmdir()
    put(recorder, [front(0), front(1)])
    assert counts(recorder) == {'/front': {'failed': 1, 'no room': 1}}
    assert str(folder) in recorder.status().trouble


def test_a_bag_that_is_removed_while_it_is_written_ends_the_recording(make_recorder, tmp_path):
    recorder = make_recorder()
    put(recorder, [front(0)])
    shutil.rmtree(next(tmp_path.iterdir()))
    wait_until(lambda: 'No such file' in recorder.status().trouble)
    wait_until(lambda: not recorder.status().bag)
    recorder.resume()
    put(recorder, [front(1)])
    recorder.stop()
    bag, = tmp_path.iterdir()
    assert read_by_rosbags(bag) == as_tuples([front(1)])


def test_confidences_reach_the_policy_and_what_waits_counts_as_queued(make_recorder):
    from test_policies import confidence
    recorder = make_recorder(Uncertain(0.5, 60.0, 10**9))
    frames = [front(number) for number in range(2)]
    for frame in frames:
        recorder.put(frame)
    wait_until(lambda: recorder._policy.held_bytes == sum(len(frame.data) for frame in frames))
    assert recorder.status().queued_bytes == recorder._policy.held_bytes
    recorder.put_evidence(confidence(frames[1], 0.3))
    wait_until(lambda: recorder.status().count('kept'))
    recorder.stop()
    assert counts(recorder) == {'/front': {'kept': 1, 'unjudged': 1}}


def test_a_folder_is_held_by_one_recorder(tmp_path):
    folder = RecordingFolder(tmp_path / 'a' / 'bags')
    with pytest.raises(RecordingError, match='another recorder holds this folder'):
        RecordingFolder(tmp_path / 'a' / 'bags')
    folder.close()
    RecordingFolder(tmp_path / 'a' / 'bags').close()


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(RecordingError, match=r'file/bags: cannot be made: Not a directory'):
        RecordingFolder(tmp_path / 'file' / 'bags')
    with pytest.raises(RecordingError, match=r'/proc/bags: cannot be'):
        RecordingFolder(Path('/proc/bags'))


def test_a_folder_finishes_what_was_left_and_touches_nothing_else(tmp_path, make_recorder):
    recorder = make_recorder()
    put(recorder, [front(0)])
    recorder.stop()
    whole, = tmp_path.iterdir()
    before = {path: path.read_bytes() for path in whole.iterdir()}
    left = BagWriter(tmp_path / 'left')
    left.write(front(1).topic, front(1).time, 0, front(1).data)
    left.flush()
    left._file.abandon()
    BagWriter(tmp_path / 'begun')
    folder = RecordingFolder(tmp_path)
    folder.close()
    assert folder.problems == []
    assert folder.finished == [
        f'{tmp_path}/begun was begun when its recorder ended, and held no image: it was removed',
        f'{tmp_path}/left was not finished when its recorder ended; it is now, with 1 images']
    assert {path: path.read_bytes() for path in whole.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [whole.name, 'left']
    assert read_by_rosbags(tmp_path / 'left') == as_tuples([front(1)])
