"""Processes that prepare batches: what they send arrives, and none outlives its training."""

from contextlib import closing
import errno
import multiprocessing
import os
from pathlib import Path
import signal
import threading
import time

import pytest
import torch
from univseg_core.batches import workers
from univseg_core.batches.workers import prepared
from univseg_core.datasets.folders import DataError

HANGS = 600
"""Seconds after which a process counts as hanging."""


class Numbers:
    """What a step is made into: the step, and the process that did it."""

    def __init__(self, values, other=None):
        self.values, self.other = values, other

    def moved(self, move):
        return Numbers(move(self.values), self.other)


def batches_of(step):
    return [Numbers(torch.tensor([step, os.getpid()])), Numbers(torch.empty(0, 3))]


def processes_of(items):
    return {pieces[0].values[1].item() for pieces in items}


def is_there(pid):
    """Return whether a process has not ended; one that has may wait for its parent to look."""
    try:
        stat = Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(')')[2].split()[0] != 'Z'


@pytest.fixture
def told(monkeypatch):
    """Return the list of warnings from now on."""
    messages = []
    monkeypatch.setattr(workers.log, 'warning', lambda text, *values: messages.append(
        text % values))
    return messages


@pytest.mark.parametrize('count', [0, 2])
def test_steps_come_in_their_order(count, told):
    items = list(prepared(batches_of, range(3, 9), count))
    assert [pieces[0].values[0].item() for pieces in items] == list(range(3, 9))
    assert len(processes_of(items)) == max(1, count)
    assert (os.getpid() in processes_of(items)) == (count == 0)
    assert told == []


@pytest.mark.parametrize('error', [RuntimeError, OSError])
def test_without_room_in_shared_memory_batches_come_all_the_same(monkeypatch, told, error):
    def full(tensor):
        raise error('unable to allocate shared memory(shm): No space left on device (28)')

    monkeypatch.setattr(torch.Tensor, 'share_memory_', full)
    items = list(prepared(batches_of, range(4), 1))
    assert [pieces[0].values[0].item() for pieces in items] == list(range(4))
    assert [pieces[1].values.shape for pieces in items] == 4 * [(0, 3)]
    [message] = told
    assert message.startswith('/dev/shm is full: batches come through pipes')
    assert 'docker run --shm-size=1g' in message


@pytest.mark.parametrize('end', ['close', 'error'])
def test_no_worker_outlives_the_iteration(end):
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(KeyError), closing(prepared(batches_of, range(100), 2)) as items:
        pids = processes_of([next(items), next(items)])
        assert len(pids) == 2
        assert all(map(is_there, pids))
        if end == 'close':
            items.close()
        raise KeyError
    assert not any(map(is_there, pids))
    assert multiprocessing.active_children() == []
    assert handler in (signal.SIG_DFL, signal.getsignal(signal.SIGCHLD))


def test_a_worker_that_is_killed_is_told_and_ends_the_others():
    with pytest.raises(RuntimeError, match=r'^DataLoader worker .*') as error, \
            closing(prepared(batches_of, range(10 ** 6), 2)) as items:
        pids = processes_of([next(items), next(items)])
        os.kill(min(pids), signal.SIGKILL)
        for _ in items:
            pass
    assert 'is killed by signal: Killed' in f'{error.value} {error.value.__cause__}'
    assert not any(map(is_there, pids))


@pytest.mark.parametrize(('end', 'said'), [
    (lambda: os.kill(os.getpid(), signal.SIGKILL),
     r'^DataLoader worker \(pid \d+\) is killed by signal: Killed$'),
    (lambda: os._exit(3), 'exited unexpectedly with exit code 3'), (lambda: None, None)])
def test_a_worker_that_ends_while_it_is_read_from_is_told_as_such(monkeypatch, end, said):
    """Not by the connection that is lost with it, which may be noticed first."""
    def reset(loader):
        worker = multiprocessing.get_context('fork').Process(
            target=lambda: (end(), time.sleep(HANGS)))
        worker.start()
        return map(lost, [1])

    def lost(step):
        raise ConnectionResetError(104, 'Connection reset by peer')

    monkeypatch.setattr(workers.DataLoader, '__iter__', reset)
    monkeypatch.setattr(workers, 'PATIENCE', HANGS if said else 0.05)
    error = RuntimeError if said else ConnectionResetError
    with pytest.raises(error, match=said or 'reset by peer'):
        next(prepared(batches_of, range(3), 1))
    for worker in multiprocessing.active_children():  # killed, and perhaps not yet taken note of
        worker.join(HANGS)
        assert not worker.is_alive()


def test_a_thread_that_reads_what_a_killed_worker_sent_but_half_is_not_waited_for(monkeypatch):
    """It is there with a GPU alone, whose place is taken by the memory of the machine."""
    for name, value in (('is_available', True), ('current_device_index', 0),
                        ('set_device_index', None)):
        monkeypatch.setattr(torch.accelerator, name, lambda *_, value=value: value)
    monkeypatch.setattr(workers, 'PATIENCE', 0.1)

    def cut_off(step):
        if step == 1:  # the first bytes of a message of 1000
            results = multiprocessing.current_process()._args[3]
            os.write(results._writer.fileno(), (1000).to_bytes(4, 'big') + b'half')
            os.kill(os.getpid(), signal.SIGKILL)
        return batches_of(step)

    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match='DataLoader worker'), \
            closing(prepared(cut_off, range(9), 1, pin_memory=True)) as items:
        assert next(items)[0].values[0] == 0
        assert [each for each in {*threading.enumerate()} - before if '_pin' in each.name]
        list(items)
    assert multiprocessing.active_children() == []


def test_what_cannot_be_sent_ends_the_iteration_and_is_not_waited_for(capfd):
    def unsendable(step):
        return [Numbers(torch.zeros(1), other=lambda: None)]  # which no pickle can hold

    with pytest.raises(RuntimeError, match='exited unexpectedly'):
        list(prepared(unsendable, range(3), 1))
    assert 'lambda' in capfd.readouterr().err


def test_without_room_for_workers_it_is_told_what_to_do(monkeypatch):
    def full(loader):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(workers.DataLoader, '__iter__', full)
    with pytest.raises(DataError, match=r'^training\.workers: no worker process can be started '
                                        r'\(No space left on device\).*--shm-size=1g.*'
                                        r'training\.workers=0'):
        next(prepared(batches_of, range(3), 1))


def start_workers_and_wait(connection):
    with closing(prepared(batches_of, range(100), 2)) as items:
        connection.send(sorted(processes_of([next(items), next(items)])))
        time.sleep(HANGS)


def test_workers_end_with_a_parent_that_is_killed():
    """Though they take no notice of signals that reach all processes of a terminal."""
    context = multiprocessing.get_context('fork')
    ours, others = context.Pipe()
    process = context.Process(target=start_workers_and_wait, args=(others,))
    process.start()
    try:
        assert ours.poll(HANGS)
        pids = ours.recv()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for pid in pids:
                os.kill(pid, number)
        time.sleep(0.1)
        assert all(map(is_there, pids))
    finally:
        process.kill()
        process.join()
    deadline = time.monotonic() + HANGS
    while any(map(is_there, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
