"""The last seconds in memory, and when they are written."""

import json

import pytest
from recorded import BACK, FRONT, SECOND
from test_policies import CONFIDENCE, confidence
from univseg_core.recording import flight
from univseg_core.recording.events import Event, in_words, MOST_TRIGGERS, Trigger
from univseg_core.recording.flight import Flight
from univseg_core.recording.serialized_image import SerializedImage


@pytest.fixture
def now(monkeypatch):
    """Return a list with the time of the policy's clock, which is none of the images'."""
    now = [0.0]
    monkeypatch.setattr(flight.time, 'monotonic', lambda: now[0])
    return now


def at(seconds, topic=FRONT, size=100):
    """Return an image that came at some time."""
    time = round(seconds * SECOND)
    return SerializedImage(topic, time, time, bytes(size))


def happens(policy, seconds, why='a test'):
    return times(policy.trigger(Trigger(round(seconds * SECOND), why)))


def times(verdicts):
    return [(frame.time / SECOND, outcome) for frame, outcome in verdicts]


def judged(policy, *frames):
    return times(verdict for frame in frames for verdict in policy.judge(frame))


def test_nothing_is_kept_while_nothing_happens_and_only_the_last_seconds_are_held(now):
    policy = Flight(2, 1, 10**6)
    assert judged(policy, *map(at, range(6))) == [(0, 'passed'), (1, 'passed'), (2, 'passed')]
    assert policy.held_bytes == 300
    assert policy.event is None
    assert policy.facts() == {'held_seconds': 2.0, 'triggers': 0, 'last_trigger': ''}
    assert times(policy.overdue()) == []
    assert times(policy.overdue(at_once=True)) == [(3, 'passed'), (4, 'passed'), (5, 'passed')]
    assert policy.held_bytes == 0


def test_what_was_before_and_what_comes_after_is_kept_to_the_nanosecond(now):
    policy = Flight(2, 1, 10**6)
    edge = SerializedImage(FRONT, 3 * SECOND - 1, 0, b'')
    assert judged(policy, edge, *map(at, (3, 4, 4.9))) == []
    assert happens(policy, 5) == [(2.999999999, 'passed'), (3, 'kept'), (4, 'kept'), (4.9, 'kept')]
    assert policy.held_bytes == 0
    late = SerializedImage(FRONT, 6 * SECOND + 1, 0, b'')
    assert judged(policy, at(5.5), at(6), late) == [(5.5, 'kept'), (6, 'kept')]
    assert policy.event.triggers == [Trigger(5 * SECOND, 'a test')]
    assert judged(policy, at(6.5)) == times(policy.overdue()) == []
    assert policy.event is not None  # another topic's image of 6.0 may still come
    assert judged(policy, at(6, BACK)) == [(6, 'kept')]
    assert judged(policy, at(6.6)) == times(policy.overdue()) == []
    assert policy.event is None
    assert judged(policy, at(6, BACK)) == []
    assert policy.facts()['last_trigger'] == 'a test'


def test_another_trigger_extends_what_is_written(now):
    policy = Flight(2, 1, 10**6)
    assert judged(policy, at(5)) == []
    assert happens(policy, 5, 'first') == [(5, 'kept')]
    event = policy.event
    assert happens(policy, 5.7, 'second') == []
    assert judged(policy, at(6.7), at(6.8)) == [(6.7, 'kept')]
    # Between its end and that of the bag, nothing is lost either.
    assert happens(policy, 6.9, 'third') == [(6.8, 'kept')]
    assert judged(policy, at(7.9), at(8.5)) == [(7.9, 'kept')]
    assert times(policy.overdue()) == []
    assert event.count == 3
    assert json.loads(event.description()['triggers']) == [
        {'time': 5 * SECOND, 'why': 'first'}, {'time': 5_700_000_000, 'why': 'second'},
        {'time': 6_900_000_000, 'why': 'third'}]
    assert policy.event is None
    assert happens(policy, 8.6, 'fourth') == [(8.5, 'kept')]
    assert policy.event.count == 1
    assert policy.facts()['triggers'] == 4


def test_an_earlier_trigger_does_not_shorten_what_is_written(now):
    policy = Flight(2, 1, 10**6)
    happens(policy, 5)
    happens(policy, 4)  # as of a clock that is a little behind
    assert judged(policy, at(6)) == [(6, 'kept')]


def test_the_oldest_give_way_where_there_are_too_many_bytes(now):
    policy = Flight(10, 1, 250)
    assert judged(policy, at(1), at(2), at(3), at(3.5, size=40)) == [(1, 'memory full')]
    assert (policy.held_bytes, policy.spare_bytes) == (240, 10)
    assert judged(policy, at(4, size=251)) == [
        (2, 'memory full'), (3, 'memory full'), (3.5, 'memory full'), (4, 'memory full')]
    assert policy.held_bytes == 0
    assert judged(policy, at(5, size=250)) == []
    assert happens(policy, 5) == [(5, 'kept')]
    # What is written at once needs no room.
    assert judged(policy, at(6, size=251)) == [(6, 'kept')]
    assert policy.spare_bytes == 250


def test_images_of_several_topics_are_written_in_order_of_time(now):
    policy = Flight(2, 1, 10**6)
    assert judged(policy, at(5.2), at(5.0, BACK), at(5.1, BACK), at(5.3), at(5.2, BACK)) == []
    assert happens(policy, 5.3) == [
        (5.0, 'kept'), (5.1, 'kept'), (5.2, 'kept'), (5.2, 'kept'), (5.3, 'kept')]


def test_an_image_that_comes_late_is_no_clock_that_was_set_back(now):
    policy = Flight(0, 1, 10**6)
    happens(policy, 5)
    assert judged(policy, at(5.2), at(4.9, BACK), at(5.1, BACK), at(5.3)) == [
        (5.2, 'kept'), (4.9, 'kept'), (5.1, 'kept'), (5.3, 'kept')]
    assert policy.event is not None


def test_an_event_ends_where_no_image_comes_any_more(now):
    policy = Flight(2, 1, 10**6)
    happens(policy, 5)
    now[0] = 1.5
    assert times(policy.overdue()) == []
    assert policy.event is not None
    now[0] = 1.51
    assert times(policy.overdue()) == []
    assert policy.event is None


def test_a_disk_that_takes_long_does_not_end_an_event(now):
    policy = Flight(2, 1, 10**6)
    assert judged(policy, at(4), at(5)) == []
    written = []
    for frame, _ in policy.trigger(Trigger(5 * SECOND, 'a test')):
        now[0] += 10
        written.append(frame)
        assert policy.held_bytes == 100 * (2 - len(written))
    assert len(written) == 2
    assert times(policy.overdue()) == []
    assert judged(policy, at(5.5)) == [(5.5, 'kept')]


def test_where_images_ended_long_before_a_trigger_they_are_not_those_before_it(now):
    policy = Flight(2, 1, 10**6)
    assert judged(policy, at(5), at(6)) == []
    assert happens(policy, 7.5) == [(5, 'passed'), (6, 'kept')]


def test_a_clock_that_was_set_back_begins_anew(now):
    policy = Flight(2, 1, 10**6)
    assert judged(policy, at(98), at(99)) == []
    assert happens(policy, 99.5) == [(98, 'kept'), (99, 'kept')]
    assert judged(policy, at(101)) == []
    assert judged(policy, at(1)) == [(101, 'passed')]
    assert policy.event is None
    assert judged(policy, at(2), at(4)) == [(1, 'passed')]
    assert happens(policy, 4) == [(2, 'kept'), (4, 'kept')]


def test_without_seconds_after_only_those_before_are_kept(now):
    policy = Flight(2, 0, 10**6)
    assert judged(policy, at(5)) == []
    assert happens(policy, 5) == [(5, 'kept')]
    assert judged(policy, at(5.1)) == []


def test_a_confidence_that_falls_is_a_trigger_once(now):
    policy = Flight(2, 1, 10**6, 0.5)
    assert judged(policy, at(5)) == []

    def told(mean):
        picture = confidence(front_of_second, mean)
        return times(policy.learn(SerializedImage(CONFIDENCE, 5 * SECOND, 0, picture.data)))

    from recorded import front
    front_of_second = front(0)
    assert told(0.6) == []
    assert told(0.4) == [(5, 'kept')]
    assert told(0.3) == []
    assert policy.event.count == 1
    assert policy.event.triggers[0].why == f'the mean of {CONFIDENCE.name} is 0.40, below 0.5'
    assert told(0.6) == told(0.4) == []
    assert policy.event.count == 2


@pytest.mark.parametrize('data', [b'', bytes(9), b'\0\1\0\0' + bytes(60)])
def test_what_is_no_confidence_is_no_trigger(now, data):
    policy = Flight(2, 1, 10**6, 1.0)
    assert judged(policy, at(5)) == []
    assert times(policy.learn(SerializedImage(CONFIDENCE, 0, 0, data))) == []
    assert policy.event is None


def test_many_triggers_are_counted_and_the_first_told():
    event = Event()
    for number in range(MOST_TRIGGERS + 5):
        event.add(Trigger(number, 'again'))
    told = event.description()
    assert [each['time'] for each in json.loads(told['triggers'])] == list(range(MOST_TRIGGERS))
    assert told['trigger_count'] == str(MOST_TRIGGERS + 5)


def test_a_reason_of_anybody_s_making_is_one_line():
    assert in_words('Würfel\n\ud800\0') == 'Würfel???'
    assert in_words('a' * 10**6) == f'{"a" * 300}… (1000000 characters)'
