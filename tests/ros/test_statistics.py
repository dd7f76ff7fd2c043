"""Counts, rates and times of frames, worked out by hand with a clock that the test sets."""

import sys
import threading

from fakes import Clock
import numpy as np
import pytest
from univseg_ros import statistics
from univseg_ros.statistics import FrameStatistics, FrameTimes, OUTCOMES, WINDOW


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(statistics, 'time', clock)
    return clock


@pytest.fixture
def often_switching():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def times(latency, inference=0.0, own_cost=0.0, age=0.0):
    return FrameTimes(latency, inference, own_cost, age)


def test_at_first_there_is_nothing(clock):
    frames = FrameStatistics()
    assert frames.totals() == {'received': 0, **dict.fromkeys(OUTCOMES, 0)}
    summary = frames.recent()
    assert not summary.counts
    assert (summary.reasons, summary.times) == ({}, {})
    assert (summary.input_rate, summary.output_rate, summary.in_work) == (0, 0, 0)


def test_rates_of_a_stream(clock):
    frames = FrameStatistics()
    for _ in range(40):  # 8 s of 5 Hz, of which every other one is published
        clock.advance(0.1)
        frames.receive()
        clock.advance(0.1)
        frames.receive()
        frames.note('published', times=times(0.01))
    summary = frames.recent()
    assert summary.input_rate == pytest.approx(10)
    assert summary.output_rate == pytest.approx(5)
    clock.advance(5)  # the last 10 s hold 5 s of silence
    summary = frames.recent()
    assert summary.input_rate == pytest.approx(5)
    assert summary.output_rate == pytest.approx(2.5)


@pytest.mark.parametrize(('seconds', 'rate'), [(0, 3), (0.5, 3), (1, 3), (2, 1.5), (6, 0.5)])
def test_a_rate_before_the_window_is_full_is_that_of_the_time_so_far(clock, seconds, rate):
    frames = FrameStatistics()
    for _ in range(3):
        frames.receive()
    clock.advance(seconds)
    assert frames.recent().input_rate == pytest.approx(rate)


@pytest.mark.parametrize('rate', [1, 10, 50])
def test_a_regular_stream_has_its_own_rate_however_long_it_runs(clock, rate):
    frames = FrameStatistics()
    for i in range(1, 25 * rate + 1):
        clock.now = 1000 + i / rate
        frames.receive()
        frames.note('published', times=times(0.01))
    # A frame stands right at the edge, where a sum of fractions may lie on either side.
    assert frames.recent().input_rate == pytest.approx(rate, abs=0.101)
    clock.advance(0.5 / rate)
    assert frames.recent().input_rate == pytest.approx(rate)
    assert frames.recent().output_rate == pytest.approx(rate)


def test_the_window_is_open_at_its_far_end(clock):
    frames = FrameStatistics()
    frames.receive()
    frames.note('failed', 'why')
    clock.advance(WINDOW - 0.01)
    assert frames.recent().counts['failed'] == 1
    assert frames.recent().input_rate > 0
    clock.advance(0.01)
    summary = frames.recent()
    assert summary.counts['failed'] == 0
    assert summary.reasons == {}
    assert summary.input_rate == 0
    assert frames.totals()['failed'] == 1


def test_medians_and_percentiles(clock):
    frames = FrameStatistics()
    for i in np.random.default_rng(0).permutation(101):
        frames.note('published', times=times(i / 100, i / 1000, 0.002, -i))
        frames.note('unwatched')
    summary = frames.recent()
    assert summary.times == {
        'latency': pytest.approx((0.5, 0.95)), 'inference': pytest.approx((0.05, 0.095)),
        'own_cost': pytest.approx((0.002, 0.002)), 'age': pytest.approx((-50, -5))}


def test_times_older_than_the_window_do_not_count(clock):
    frames = FrameStatistics()
    frames.note('published', times=times(100.0))
    clock.advance(WINDOW)
    frames.note('published', times=times(1.0))
    assert frames.recent().times['latency'] == (1.0, 1.0)
    assert frames.recent().counts['published'] == 1


def test_the_last_reason_of_each_outcome_is_kept(clock):
    frames = FrameStatistics()
    for outcome, reason in [('failed', 'a'), ('stale', 'b'), ('failed', 'c'), ('replaced', '')]:
        frames.note(outcome, reason)
        clock.advance(1)
    assert frames.recent().reasons == {'failed': 'c', 'stale': 'b'}
    clock.advance(7.5)  # the last stale frame is 10.5 s ago, the last failed one 9.5 s
    assert frames.recent().reasons == {'failed': 'c'}


def test_totals_name_every_outcome_in_order(clock):
    frames = FrameStatistics()
    for count, outcome in enumerate(OUTCOMES):
        for _ in range(count):
            frames.receive()
            frames.note(outcome)
    clock.advance(1e6)
    frames.receive()
    totals = frames.totals()
    assert list(totals) == ['received', *OUTCOMES]
    assert [totals[outcome] for outcome in OUTCOMES] == list(range(len(OUTCOMES)))
    assert totals['received'] == sum(range(len(OUTCOMES))) + 1


@pytest.mark.parametrize('outcome', ['published', 'unwatched', 'stale', 'undecodable', 'failed'])
def test_how_long_a_frame_has_been_in_work(clock, outcome):
    frames = FrameStatistics()
    frames.begin_work()
    clock.advance(3)
    assert frames.recent().in_work == 3
    for of_others in ('replaced', 'limited'):
        frames.note(of_others)
    clock.advance(20)
    assert frames.recent().in_work == 23
    frames.note(outcome)
    assert frames.recent().in_work == 0
    clock.advance(5)
    assert frames.recent().in_work == 0
    frames.begin_work()
    clock.advance(1)
    assert frames.recent().in_work == 1


def test_only_the_window_is_remembered(clock):
    frames = FrameStatistics()
    for _ in range(10_000):
        clock.advance(0.1)
        frames.receive()
        frames.note('failed', 'why')
    kept = [len(value) for value in vars(frames).values() if hasattr(value, 'popleft')]
    assert len(kept) == 2
    assert max(kept) <= 101


def test_many_threads_lose_no_count(often_switching):
    frames = FrameStatistics()
    barrier = threading.Barrier(9)

    def work(number):
        barrier.wait()
        for i in range(60 * len(OUTCOMES)):
            frames.receive()
            frames.note(list(OUTCOMES)[(number + i) % len(OUTCOMES)], 'why', times(0.001))

    def read():
        barrier.wait()
        while any(thread.is_alive() for thread in threads[:8]):
            totals = frames.totals()
            assert totals.pop('received') >= sum(totals.values())
            assert frames.recent().in_work >= 0

    errors = []

    def guarded(target, *arguments):
        try:
            target(*arguments)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work, i)) for i in range(8)]
    threads.append(threading.Thread(target=guarded, args=(read,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert frames.totals() == {
        'received': 480 * len(OUTCOMES), **dict.fromkeys(OUTCOMES, 480)}
    assert sum(frames.recent().counts.values()) == 480 * len(OUTCOMES)
