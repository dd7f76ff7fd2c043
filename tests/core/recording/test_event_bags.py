"""Bags of events: what was in memory and what came after, whole, and with the reason."""

from dataclasses import replace
import json
import shutil
import threading

from recorded import as_tuples, BEST_EFFORT, FRONT, front, read_by_rosbags, read_by_us
from test_recorder import counts, DEADLINE, put, wait_until
from univseg_core.bags.bag_writer import BagWriter, is_unfinished
from univseg_core.recording.flight import Flight
from univseg_core.recording.folder import RecordingFolder
import yaml


def facts_of(bag):
    facts = yaml.safe_load((bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    return [(each['time'], each['why'])
            for each in json.loads(facts['custom_data']['triggers'])]


def in_order(folder):
    """Return the bags by when their first events were."""
    return sorted(folder.iterdir(), key=lambda bag: facts_of(bag)[0][0])


def held(recorder, frames):
    """Put frames, and wait until the policy has them in memory."""
    for frame in frames:
        recorder.put(frame)
    wait_until(lambda: not recorder._queue and recorder._policy._newest == frames[-1].time)


def test_each_event_has_a_bag_that_says_why(make_recorder, tmp_path):
    recorder = make_recorder(Flight(0.5, 0.2, 10**9))
    frames = [front(number) for number in range(40)]  # at 10 Hz
    held(recorder, frames[:10])
    assert not list(tmp_path.iterdir())
    assert recorder.status().facts['held_seconds'] == 0.5
    assert recorder.trigger(frames[9].time, 'the first\nreason') == ''
    put(recorder, frames[10:11])
    bag, = tmp_path.iterdir()
    wait_until(lambda: len(read_by_us(bag)[0]) == 7)  # 4 to 10
    assert is_unfinished(bag)
    assert recorder.trigger(frames[10].time, 'another reason') == ''
    held(recorder, frames[11:25])
    wait_until(lambda: not recorder.status().bag)
    assert facts_of(bag) == [(frames[9].time, 'the first?reason'),
                             (frames[10].time, 'another reason')]
    assert read_by_rosbags(bag) == as_tuples(frames[4:13])
    recorder.trigger(frames[24].time, 'the next')
    recorder.stop()
    first, second = in_order(tmp_path)
    assert (read_by_rosbags(first), read_by_rosbags(second)) == (
        as_tuples(frames[4:13]), as_tuples(frames[19:25]))
    assert facts_of(second) == [(frames[24].time, 'the next')]
    assert counts(recorder) == {'/front': {'kept': 15, 'passed': 10}}
    assert ('info', f'recording to {bag}: the first?reason') in recorder.said


def test_a_kill_in_the_midst_of_an_event_leaves_what_others_leave(make_recorder, tmp_path):
    folder = tmp_path / 'bags'
    folder.mkdir()
    recorder = make_recorder(Flight(10, 10, 10**9), directory=folder)
    frames = [front(number) for number in range(5)]
    held(recorder, frames[:3])
    recorder.trigger(frames[2].time, 'why')
    put(recorder, frames[3:])
    bag, = folder.iterdir()
    wait_until(lambda: len(read_by_us(bag)[0]) == 5)
    recorder.trigger(frames[4].time, 'and again')
    wait_until(lambda: recorder._described == 2)
    left = shutil.copytree(folder, tmp_path / 'left')
    opened = RecordingFolder(left)
    assert opened.finished == [f'{left / bag.name} was not finished when its recorder ended; it '
                               'is now, with 5 images']
    opened.close()
    assert facts_of(left / bag.name) == [(frames[2].time, 'why'), (frames[4].time, 'and again')]
    assert read_by_rosbags(left / bag.name) == as_tuples(frames)


def test_what_cannot_be_written_is_said_at_once_and_stays_in_memory(make_recorder, tmp_path):
    frames = [front(number, 50) for number in range(8)]  # of 7.5 kB
    recorder = make_recorder(Flight(10, 0, 10**9), max_size=BagWriter.reserve + 20_000)
    held(recorder, frames[:2])
    recorder.pause()
    assert recorder.trigger(frames[1].time, 'why') == 'recording is paused'
    recorder.resume()
    held(recorder, frames[2:4])
    assert recorder.trigger(frames[3].time, 'why') == ''
    wait_until(lambda: recorder.status().seen == 4)
    assert counts(recorder) == {'/front': {'kept': 2, 'no room': 2}}
    assert recorder.trigger(frames[3].time, 'why') == recorder.status().trouble != ''
    held(recorder, frames[4:])
    assert recorder._policy.held_bytes == sum(len(frame.data) for frame in frames[4:])
    bag, = tmp_path.iterdir()
    assert read_by_rosbags(bag) == as_tuples(frames[:2])


def test_the_budget_of_the_disk_holds_for_events(make_recorder, tmp_path):
    recorder = make_recorder(Flight(0, 0, 10**9), max_size=45_000, drops_oldest=True)
    frames = [front(10 * number, 50) for number in range(8)]  # of 7.5 kB, a second apart
    for number, frame in enumerate(frames):
        held(recorder, [frame])
        wait_until(lambda: not recorder.status().bag)  # of the event before
        recorder.trigger(frame.time, str(number))
        wait_until(lambda number=number: recorder.status().count('kept') == number + 1)
    recorder.stop()
    left = in_order(tmp_path)
    assert 1 <= len(left) <= 4
    assert [facts_of(bag)[0][1] for bag in left] == list('01234567')[-len(left):]
    assert recorder.status().dropped_files == 8 - len(left)


def test_while_the_memory_is_written_new_images_find_its_room(make_recorder, tmp_path,
                                                              monkeypatch):
    frames = [front(number) for number in range(30)]
    size = len(frames[0].data)
    recorder = make_recorder(Flight(60, 60, 10 * size), queue_size=size)
    held(recorder, frames[:10])
    slow, write = threading.Event(), BagWriter.write

    def writes_slowly(self, topic, time_, *rest):
        if time_ == frames[8].time:
            slow.wait(DEADLINE)
        write(self, topic, time_, *rest)

    monkeypatch.setattr(BagWriter, 'write', writes_slowly)
    recorder.trigger(frames[9].time, 'why')
    wait_until(lambda: recorder.status().count('kept') == 8)
    for frame in frames[10:]:
        recorder.put(frame)
        assert recorder.status().queued_bytes <= 11 * size
    slow.set()
    recorder.stop()
    # One is in memory, one on its way: nine of ten, and the queue's own.
    assert counts(recorder) == {'/front': {'kept': 20, 'queue full': 10}}
    bag, = tmp_path.iterdir()
    assert read_by_rosbags(bag) == as_tuples(frames[:20])


def test_a_topic_that_changes_in_an_event_begins_a_bag_that_says_why_too(make_recorder, tmp_path):
    recorder = make_recorder(Flight(10, 10, 10**9))
    changed = replace(front(1), topic=replace(FRONT, qos=(BEST_EFFORT,)))
    held(recorder, [front(0), changed])
    recorder.trigger(changed.time, 'why')
    recorder.stop()
    first, second = in_order(tmp_path)
    assert facts_of(first) == facts_of(second) == [(changed.time, 'why')]
