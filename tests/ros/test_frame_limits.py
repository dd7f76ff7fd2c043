"""Which frames are turned away: max_rate and max_age."""


from builtin_interfaces.msg import Time
from frame_bench import Gate
import numpy as np
import pytest


def taken(bench, clock, arrivals):
    """Return those of some times of arrival whose frames max_rate let through."""
    through, limited = [], bench.outcomes().get('limited', 0)
    for clock.now in arrivals:
        bench.put()
        now_limited = bench.outcomes().get('limited', 0)
        if now_limited == limited:
            through.append(clock.now)
        limited = now_limited
    return np.array(through)


def excess(through, rate):
    """Return how many frames too many there are in that span that has most of them."""
    # The first frame of a span stands at its beginning, so that one more than rate × span fits.
    turns = np.arange(len(through)) - rate * through
    return (turns - np.minimum.accumulate(turns)).max()


@pytest.mark.parametrize('jitter', [0, 0.4])
@pytest.mark.parametrize('rate', [0.5, 7.0, 20.0, 30.0, 100.0])
@pytest.mark.parametrize('camera', [5, 15, 30, 61, 200, 1000])
def test_max_rate_is_kept_on_average_at_any_cameras_rate(make_bench, clock, camera, rate, jitter):
    seconds = max(4, 4 / rate)
    bench = make_bench()
    bench.change(max_rate=rate)
    shifts = np.random.default_rng(0).uniform(-jitter, jitter, round(seconds * camera))
    arrivals = 50 + (np.arange(len(shifts)) + shifts) / camera
    through = taken(bench, clock, arrivals)
    possible = min(camera, rate) * seconds
    assert excess(through, rate) <= 1.001
    assert len(through) >= possible - 2


def test_a_camera_at_max_rate_exactly_loses_no_frame(make_bench, clock):
    bench = make_bench()
    bench.change(max_rate=30.0)
    jitter = np.random.default_rng(0).uniform(-0.4, 0.4, 300)
    arrivals = 1000 + (np.arange(300) + jitter) / 30
    assert len(taken(bench, clock, arrivals)) >= 299


@pytest.mark.parametrize('pause', [0.01, 0.5, 10, 1e5])
def test_after_a_pause_at_most_one_frame_is_made_up_for(make_bench, clock, pause):
    bench = make_bench()
    bench.change(max_rate=10.0)
    streams = [1000 + i * (1 + pause) + np.arange(200) / 200 for i in range(4)]
    through = taken(bench, clock, np.concatenate(streams))
    assert excess(through, 10) <= 1.001
    assert len(through) >= 4 * 10 - 1


def test_a_new_max_rate_holds_at_once(make_bench, clock):
    bench = make_bench()
    bench.change(max_rate=0.001)
    arrivals = iter(1000 + np.arange(1000) / 50)

    def through(count):
        return len(taken(bench, clock, [next(arrivals) for _ in range(count)]))

    assert through(50) <= 2
    bench.change(max_rate=25.0)
    assert 24 <= through(50) <= 26
    bench.change(max_rate=0.001)
    assert through(50) <= 2
    bench.change(max_rate=0.0)
    assert through(50) == 50
    bench.change(max_rate=25.0)
    assert 24 <= through(50) <= 26


def test_a_frame_beyond_max_rate_takes_the_place_of_one_that_waits(bench, clock):
    bench.change(max_rate=10.0)
    gate = Gate(bench)
    bench.put()
    gate.wait()
    clock.advance(10)
    bench.put()
    bench.put()  # the credit of the pause
    bench.put()
    gate.go_on.release(2)
    assert bench.wait() == {'published': 2, 'replaced': 1, 'limited': 1}
    assert [number for number, *_ in bench.published] == [1, 4]


NOW = 5_000_000_000  # ns


@pytest.mark.parametrize(('sec', 'nanosec', 'max_age', 'outcome'), [
    (4, 500_000_000, 0.6, 'published'),
    (4, 500_000_000, 0.5, 'published'),  # not older than that
    (4, 499_999_999, 0.5, 'stale'),
    (4, 500_000_000, 0.4, 'stale'),
    (1, 0, 0.0, 'published'),  # off
    (9, 0, 0.5, 'published'),  # from the future
    (2**31 - 1, 2**32 - 1, 0.5, 'published'),
    (0, 0, 0.5, 'published'),  # no stamp, no age
    (0, 1, 0.5, 'stale'),
    (0, 4_294_967_295, 0.75, 'published'),  # 4.29 s in nanoseconds alone
    (3, 2_000_000_000, 0.5, 'published'),
    (-1, 0, 0.5, 'stale'),
    (-1, 1_000_000_000, 0.5, 'published'),  # zero again
    (-2**31, 0, 3600.0, 'stale'),
])
def test_a_stamp_and_what_becomes_of_its_frame(bench, sec, nanosec, max_age, outcome):
    bench.now = NOW
    bench.change(max_age=max_age)
    message = bench.camera.frame()
    message.header.stamp = Time(sec=sec, nanosec=nanosec)
    assert bench.put_and_wait(message) == outcome
    assert len(bench.published) == (outcome == 'published')
    assert len(bench.segmenter.calls) == (outcome == 'published')


def test_with_a_clock_that_has_not_begun_no_frame_is_stale(bench):
    bench.now = 0
    bench.change(max_age=0.1)
    assert bench.put_and_wait() == 'published'


def test_a_stale_frame_says_how_old_it_was(bench):
    bench.now = NOW
    bench.change(max_age=0.5)
    assert bench.put_and_wait() == 'stale'
    assert bench.stream.statistics.recent().reasons == {
        'stale': '4.000 s old; max_age is 0.5 s'}
