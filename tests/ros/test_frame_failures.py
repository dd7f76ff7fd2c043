"""What a frame can raise, memory that runs out, and that each frame is counted."""

import threading

from fakes import DEADLINE
from frame_bench import Gate
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
import torch
from univseg_core.inference.domain_decision import Decision
from univseg_ros.frame_worker import SMALLEST_SIZE
from univseg_ros.statistics import OUTCOMES


class NoPlace:
    """A place of which nothing is known."""

    now = Decision()

    def is_watched(self):
        return False

    def see(self, recognition, rule):
        return self.now

    def publish(self, recognition, decision, header):
        pass


@pytest.mark.parametrize('error', [
    torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'), MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")])
def test_out_of_memory_lowers_the_size_and_publishes_the_same_frame(bench, error):
    bench.change(inference_size=480)
    bench.segmenter.memory = 300
    bench.segmenter.error = error
    assert bench.put_and_wait() == 'published'
    assert bench.published == [(1, 'a', 'mask', 0)]
    assert bench.stream.lowered == (480, 270)
    told, = bench.errors
    assert told.startswith('out of memory at inference_size 480; from now on it is 270 ')
    assert bench.put_and_wait() == 'published'
    assert [call.size for call in bench.segmenter.calls] == [480, 360, 270, 270]


def test_out_of_memory_without_a_size_begins_with_that_of_the_image(bench):
    bench.segmenter.memory = 100
    assert bench.put_and_wait(bench.camera.frame((120, 160))) == 'published'
    assert bench.stream.lowered == (None, 90)


def test_out_of_memory_gives_up_at_the_smallest_size_and_tries_the_next_frame(bench):
    bench.change(inference_size=100)
    bench.segmenter.memory = 0
    assert bench.put_and_wait() == 'failed'
    assert [call.size for call in bench.segmenter.calls] == [100, 75, 56, 42, SMALLEST_SIZE]
    assert 'out of memory' in bench.stream.statistics.recent().reasons['failed']
    assert bench.published == []
    assert bench.put_and_wait() == 'failed'
    assert bench.stream.lowered is None
    bench.segmenter.memory = None
    assert bench.put_and_wait() == 'published'
    assert bench.segmenter.calls[-1].size == 100


def test_a_size_that_is_set_while_memory_runs_out_is_for_the_next_frame(bench):
    bench.change(inference_size=400)
    bench.segmenter.memory = 250
    bench.segmenter.during = lambda: bench.change(inference_size=80)
    assert [bench.put_and_wait() for _ in range(2)] == ['published'] * 2
    assert [call.size for call in bench.segmenter.calls] == [400, 300, 225, 80]


@pytest.mark.parametrize('size', [1, SMALLEST_SIZE - 1, SMALLEST_SIZE])
def test_out_of_memory_never_raises_a_size_that_was_smaller(bench, size):
    bench.change(inference_size=size)
    bench.segmenter.memory = 0
    assert bench.put_and_wait() == 'failed'
    assert bench.stream.lowered is None
    assert len(bench.segmenter.calls) == 1


def test_another_error_lowers_no_size(bench):
    bench.change(inference_size=480)
    bench.segmenter.memory = 0
    bench.segmenter.error = RuntimeError('the device is gone')
    assert bench.put_and_wait() == 'failed'
    assert len(bench.segmenter.calls) == 1
    assert bench.stream.lowered is None
    reason = bench.stream.statistics.recent().reasons['failed']
    assert reason == 'its segmentation failed: RuntimeError: the device is gone'
    assert bench.errors == [f'frame skipped, {reason}']


@pytest.mark.parametrize('error', [
    ValueError('a'), KeyError('b'), AssertionError(), StopIteration(), RuntimeError('c'),
    MemoryError(), np.linalg.LinAlgError(), TypeError('d')])
@pytest.mark.parametrize('where', ['inference', 'messages', 'publish', 'watched'])
def test_whatever_a_frame_raises_is_counted_and_the_next_one_served(
        bench, monkeypatch, where, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as broken:
        if where == 'inference':
            broken.setattr(bench.segmenter, 'memory', SMALLEST_SIZE - 1)
            bench.change(inference_size=SMALLEST_SIZE)
            broken.setattr(bench.segmenter, 'error', error)
        elif where == 'watched':
            broken.setattr(bench.outputs['a'], 'watched', fail)
        else:
            broken.setattr(bench.outputs['a'], f'during_{where}', fail)
        assert bench.put_and_wait() == 'failed'
    assert type(error).__name__ in bench.errors[0]
    assert bench.published == []
    assert bench.put_and_wait() == 'published'


def test_where_one_domains_message_fails_none_is_published(make_bench):
    bench = make_bench(a=['mask'], b=['mask'])
    bench.change(active_domains=['a', 'b'])

    def fail():
        raise ValueError('no overlay')

    bench.outputs['b'].during_messages = fail
    assert bench.put_and_wait() == 'failed'
    assert bench.published == []


@pytest.mark.parametrize('message', [
    Image(), CompressedImage(), Image(height=2, width=2, encoding='rgb8', step=6, data=bytes(11)),
    Image(height=2, width=2, encoding='\x00\ufffd%s{}', step=6, data=bytes(12)),
    CompressedImage(format='jpeg', data=b'\xff\xd8\xff')])
def test_what_cannot_be_decoded_is_counted_as_that_with_its_reason(bench, message):
    assert bench.put_and_wait(message) == 'undecodable'
    reason = bench.stream.statistics.recent().reasons['undecodable']
    assert reason.startswith('it cannot be decoded: ')
    assert bench.errors == [f'frame skipped, {reason}']
    assert bench.put_and_wait() == 'published'


def test_every_outcome_of_the_table_has_happened_once(bench, clock):
    gate = Gate(bench)
    bench.put()  # is published
    gate.wait()
    bench.put()  # is replaced
    bench.change(max_rate=1.0)
    clock.advance(100)
    bench.put()  # is replaced, too: a pause gives one frame's credit
    bench.put()  # is unwatched
    bench.put()  # is limited
    bench.outputs['a'].names = frozenset()
    gate.go_on.release(10)
    bench.change(max_rate=0.0)
    bench.wait()
    bench.outputs['a'].names = frozenset(['mask'])
    assert bench.put_and_wait(Image()) == 'undecodable'
    bench.now = 10**15
    bench.change(max_age=1.0)
    assert bench.put_and_wait() == 'stale'
    bench.change(max_age=0.0)
    bench.segmenter.memory = 0
    assert bench.put_and_wait() == 'failed'
    bench.segmenter.memory = None
    bench.stream.place = NoPlace()
    bench.change(active_domains=['auto'])
    assert bench.put_and_wait() == 'undecided'
    bench.change(active_domains=['a'])
    gate = Gate(bench)
    bench.put()
    gate.wait()
    bench.put()  # is in the mailbox when the worker stops
    stop = threading.Thread(target=bench.worker.stop)
    stop.start()
    gate.go_on.release()
    stop.join(DEADLINE)
    assert bench.outcomes() == {
        'published': 2, 'replaced': 2, 'limited': 1, 'unwatched': 1, 'undecodable': 1, 'stale': 1,
        'failed': 1, 'undecided': 1, 'stopped': 1}
    assert bench.outcomes().keys() == set(OUTCOMES)
