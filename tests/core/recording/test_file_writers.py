"""The files of bags: what is flushed stays, whatever happens; rosbags reads what is finished."""

from contextlib import suppress
import errno
import os
from pathlib import Path
import shutil

import numpy as np
import pytest
from recorded import as_tuples, BACK, back, FRONT, front, picture, read_by_rosbags, read_by_us
from rosbags.rosbag2 import Reader
from univseg_core.bags import mcap_writer
from univseg_core.bags.mcap_writer import McapWriter


def write(writer, frames):
    for frame in frames:
        if frame.topic.name not in writer.contents.topics:
            writer.add_topic(frame.topic)
        writer.write(frame.topic.name, frame.time, frame.published, frame.data)


@pytest.fixture
def frames():
    """Return small and large images of two topics."""
    return [frame for number in range(6)
            for frame in (front(number, 700 if number == 3 else 16), back(number))]


@pytest.mark.parametrize('compression', ['', 'zstd'])
def test_what_is_written_is_read_by_rosbags_and_by_us(tmp_path, frames, compression):
    path = tmp_path / 'file.mcap'
    file = McapWriter(path, compression)
    write(file, frames)
    file.close()
    assert file.contents.counts == {'/front': 6, '/back': 6}
    assert (file.contents.begin, file.contents.end) == (frames[0].time, frames[-1].time)
    assert read_by_us(path) == (as_tuples(frames), [])
    assert read_by_rosbags(path) == as_tuples(frames)
    with Reader(path) as reader:
        offered = {connection.topic: [profile.reliability.name for profile in
                                      connection.ext.offered_qos_profiles]
                   for connection in reader.connections}
    assert offered == {'/front': ['RELIABLE'], '/back': ['BEST_EFFORT', 'RELIABLE']}


def test_messages_that_came_out_of_order_are_read_in_order(tmp_path, frames):
    path = tmp_path / 'file.mcap'
    file = McapWriter(path)
    write(file, frames[::-1])
    file.close()
    with Reader(path) as reader:
        times = [time for _, time, _ in reader.messages()]
    assert times == sorted(frame.time for frame in frames)


@pytest.mark.parametrize('compression', ['', 'zstd'])
def test_an_mcap_file_that_ends_at_any_byte_gives_all_whole_chunks(
        tmp_path, frames, monkeypatch, compression):
    monkeypatch.setattr(mcap_writer, 'CHUNK_BYTES', 1)  # each message is one
    path = tmp_path / 'whole.mcap'
    file = McapWriter(path, compression)
    small = [frame for frame in frames if len(frame.data) < 10_000]
    ends = []
    for frame in small:
        write(file, [frame])
        ends.append(file.size)
    file.close()
    data = path.read_bytes()
    assert len(ends) == 11
    for size in [*range(8, len(data), 499), *ends, *(end - 1 for end in ends)]:
        cut = tmp_path / 'cut.mcap'
        cut.write_bytes(data[:size])
        recovered = McapWriter.recover(cut)
        # A chunk is whole before the index that follows it is.
        whole = [frame for frame, end in zip(small, ends, strict=True) if end <= size]
        count = recovered.contents.counts.total()
        assert len(whole) <= count <= len(whole) + 1
        assert recovered.contents.topics == {
            name: topic for name, topic in (('/front', FRONT), ('/back', BACK))
            if name in recovered.contents.topics}
        recovered.close()
        assert read_by_us(cut) == (as_tuples(small[:count]), [])
        if count:
            assert read_by_rosbags(cut) == as_tuples(small[:count])


def test_a_finished_mcap_file_is_recovered_as_it_was(tmp_path, frames):
    path = tmp_path / 'file.mcap'
    file = McapWriter(path)
    write(file, frames)
    file.close()
    before = path.read_bytes()
    McapWriter.recover(path).close()
    assert path.read_bytes() == before


def test_what_was_flushed_outlives_a_kill(tmp_path, frames):
    path = tmp_path / 'file.mcap'
    file = McapWriter(path)
    write(file, frames[:7])
    file.flush()
    file.write_back()
    write(file, frames[7:])
    killed = tmp_path / 'killed'
    shutil.copytree(tmp_path, killed)  # as the kernel has it at this moment
    file.close()
    copy = killed / path.name
    read, _ = read_by_us(copy)
    assert set(as_tuples(frames[:7])) <= set(read) <= set(as_tuples(frames))
    recovered = McapWriter.recover(copy)
    assert recovered.contents.counts.total() == len(read)
    recovered.close()
    assert read_by_rosbags(copy) == read


@pytest.mark.parametrize('content', [b'', b'something else' * 9])
def test_what_is_no_such_file_is_not_recovered(tmp_path, content):
    path = tmp_path / 'file.mcap'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)):
        McapWriter.recover(path)
    assert path.read_bytes() == content


def test_a_damaged_last_chunk_is_cut_off(tmp_path, frames, monkeypatch):
    monkeypatch.setattr(mcap_writer, 'CHUNK_BYTES', 1)
    path = tmp_path / 'file.mcap'
    file = McapWriter(path, 'zstd')
    write(file, frames[:-1])
    end = file.size
    write(file, frames[-1:])
    file.abandon()
    with path.open('r+b') as damaged:
        damaged.seek(end + 60)
        damaged.write(bytes(100))
    McapWriter.recover(path).close()
    assert read_by_rosbags(path) == as_tuples(frames[:-1])


def test_a_chunk_with_a_tail_of_zeros_is_cut_off(tmp_path, frames):
    path = tmp_path / 'file.mcap'
    file = McapWriter(path)
    write(file, frames[:2])
    file.flush()
    end = file.size
    write(file, frames[4:6])
    file.flush()
    file.abandon()
    data = path.read_bytes()
    zeros = len(frames[5].data) + 100
    path.write_bytes(data[:-zeros] + bytes(zeros))
    McapWriter.recover(path).close()
    assert end < len(data) - zeros
    assert read_by_rosbags(path) == as_tuples(frames[:2])


def test_what_lies_behind_damage_is_not_cut_off(tmp_path, frames, monkeypatch):
    monkeypatch.setattr(mcap_writer, 'CHUNK_BYTES', 1)
    path = tmp_path / 'file.mcap'
    file = McapWriter(path)
    write(file, frames[:2])
    middle = file.size
    write(file, frames[2:])
    file.abandon()
    whole = path.read_bytes()
    path.write_bytes(whole[:middle] + bytes(50) + whole[middle + 50:])
    damaged = path.read_bytes()
    with pytest.raises(ValueError, match=f'damaged at byte {middle}, with more behind it'):
        McapWriter.recover(path)
    assert path.read_bytes() == damaged
    # Zeros to the end are no more than what was never written.
    path.write_bytes(whole[:middle] + bytes(5000))
    McapWriter.recover(path).close()
    assert read_by_rosbags(path) == as_tuples(frames[:2])


def test_whatever_is_damaged_is_recovered_or_told(tmp_path, frames):
    path = tmp_path / 'file.mcap'
    file = McapWriter(path)
    write(file, frames[:4])
    file.close()
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        begin, length = int(random.integers(8, len(data))), int(random.integers(1, 200))
        filling = random.bytes(length) if random.integers(2) else bytes(length)
        damaged[begin:begin + length] = filling[:len(data) - begin]
        path.write_bytes(damaged)
        try:
            recovered = McapWriter.recover(path)
        except ValueError:
            continue
        with suppress(OSError):
            recovered.close()
        recovered.abandon()


def test_a_full_disk_leaves_an_mcap_file_whole(tmp_path, frames, monkeypatch):
    path = tmp_path / 'file.mcap'
    file = McapWriter(path)
    write(file, frames[:6])
    file.flush()
    room, writev = [1000], os.writev

    def writes_little(handle, buffers):
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return writev(handle, [memoryview(b''.join(buffers))[:room.pop()]])

    monkeypatch.setattr(os, 'writev', writes_little)
    with pytest.raises(OSError, match='No space left'):
        write(file, [front(8, 700)])
    monkeypatch.undo()
    file.close()
    assert file.contents.counts.total() == 6
    assert read_by_rosbags(path) == as_tuples(frames[:6])


def test_writing_goes_on_where_the_system_took_a_part(tmp_path, frames, monkeypatch):
    writev = os.writev
    monkeypatch.setattr(os, 'writev', lambda handle, buffers: writev(
        handle, [memoryview(b''.join(buffers))[:777]]))
    path = tmp_path / 'file.mcap'
    file = McapWriter(path)
    write(file, frames)
    file.close()
    assert read_by_rosbags(path) == as_tuples(frames)


def test_nothing_is_written_over(tmp_path):
    path = tmp_path / 'file.mcap'
    path.write_bytes(b'mine')
    with pytest.raises(FileExistsError):
        McapWriter(path)
    assert path.read_bytes() == b'mine'


def test_many_small_messages_are_written_at_once(tmp_path):
    path = Path(tmp_path / 'file.mcap')
    file = McapWriter(path)
    frames = [front(number, 1) for number in range(2 * mcap_writer.MOST_BUFFERS)]
    write(file, frames)
    file.close()
    assert read_by_rosbags(path) == as_tuples(frames)
    assert picture(0, 1).shape == (1, 1, 3)
