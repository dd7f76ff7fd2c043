"""The thread in which frames become masks, with stand-ins for what lies around it."""

from collections import Counter
import threading
from types import SimpleNamespace
import weakref

from builtin_interfaces.msg import Time
from fakes import Clock, DEADLINE, wait_until
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
import torch
from univseg_core.inference import Segmentation
from univseg_ros import frame_worker, statistics
from univseg_ros.frame_worker import FrameWorker, Settings, SMALLEST_SIZE
from univseg_ros.messages import rgb_message
from univseg_ros.statistics import OUTCOMES


class WeakImage(Image):
    """An image message that can be referred to weakly."""


class Camera:
    """Numbers its frames in their stamps."""

    def __init__(self):
        self.count = 0

    def frame(self, size=(6, 8)):
        self.count += 1
        message = rgb_message(np.full((*size, 3), self.count % 256, np.uint8),
                              Header(stamp=Time(sec=self.count)))
        return WeakImage(**{name: getattr(message, name) for name in (
            'header', 'height', 'width', 'encoding', 'step', 'data')})


class Segmenter:
    """
    Says that a mask is its domain's position in the alphabet, after what a test has put in.

    `during` is called in the midst of each inference. `memory` is the largest size that it has
    memory for; beyond it, it raises `error`.
    """

    def __init__(self):
        self.inference_size = None
        self.calls = []
        self.during = lambda: None
        self.memory = None
        self.error = torch.OutOfMemoryError('CUDA out of memory')

    def __call__(self, image, domains, *, confidence, threshold):
        size = self.inference_size or max(image.shape[:2])
        self.calls.append(SimpleNamespace(
            domains=list(domains), confidence=confidence, threshold=threshold, size=size))
        if self.memory is not None and size > self.memory:
            raise self.error
        self.during()
        return {name: Segmentation(
            np.full(image.shape[:2], ord(name[0]) - ord('a'), np.uint8),
            np.zeros(image.shape[:2], np.uint8) if confidence else None) for name in domains}


class Outputs:
    """One domain's outputs, of which some are watched; keeps what is published, but no frame."""

    def __init__(self, name, log, watched=()):
        self.name = name
        self.names = frozenset(watched)
        self.log = log
        self.during_messages = self.during_publish = lambda: None

    def watched(self):
        return self.names

    def messages(self, names, image, segmentation, header):
        self.during_messages()
        if 'confidence' in names:
            assert segmentation.confidence is not None
        return dict.fromkeys(names, (header.stamp.sec, int(segmentation.mask[0, 0])))

    def publish(self, messages):
        self.during_publish()
        for output, (number, value) in messages.items():
            self.log.append((number, self.name, output, value))


class Bench:
    """A worker on a bench: settings, stand-ins, and what it published."""

    def __init__(self, **watched):
        self.settings = Settings(['a'], 0.0, 0.0, 0.0)
        self.published = []
        self.errors = []
        self.now = 0
        self.ok = True
        self.camera = Camera()
        self.segmenter = Segmenter()
        self.outputs = {name: Outputs(name, self.published, watched.get(name, ()))
                        for name in 'abc'}
        node = SimpleNamespace(
            context=SimpleNamespace(ok=lambda: self.ok),
            get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.now)),
            get_logger=lambda: SimpleNamespace(
                error=lambda text, **_: self.errors.append(text), debug=lambda text: None))
        self.worker = FrameWorker(node, self.segmenter, self.outputs, lambda: self.settings)

    def change(self, **values):
        self.settings = Settings(**{**vars(self.settings), **values})

    def put(self, message=None):
        self.worker.put(self.camera.frame() if message is None else message)

    def outcomes(self):
        """Return the counts of the outcomes that there were."""
        totals = self.worker.statistics.totals()
        del totals['received']
        return {name: count for name, count in totals.items() if count}

    def wait(self):
        """Wait until each frame so far has come to something; return their outcomes."""
        wait_until(lambda: sum(self.outcomes().values()) >= self.received(), self.outcomes())
        assert sum(self.outcomes().values()) == self.received()
        return self.outcomes()

    def received(self):
        return self.worker.statistics.totals()['received']

    def put_and_wait(self, message=None):
        """Return what became of one frame."""
        before = Counter(self.outcomes())
        self.put(message)
        (outcome, count), = (Counter(self.wait()) - before).items()
        assert count == 1
        return outcome


class Gate:
    """Holds inferences up until they may go on."""

    def __init__(self, bench):
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        bench.segmenter.during = self.hold

    def hold(self):
        self.entered.release()
        assert self.go_on.acquire(timeout=DEADLINE)

    def wait(self):
        assert self.entered.acquire(timeout=DEADLINE)


@pytest.fixture
def make_bench():
    """Return a function that makes benches; their workers are stopped at the end."""
    benches = []

    def make(**watched):
        benches.append(Bench(**watched))
        return benches[-1]

    yield make
    for bench in benches:
        bench.worker.stop()
        assert not bench.worker._thread.is_alive()
        assert sum(bench.outcomes().values()) == bench.received()


@pytest.fixture
def bench(make_bench):
    """Return a bench on which the mask of the domain a is watched."""
    return make_bench(a=['mask'])


def test_a_frame_is_published_once_with_its_own_stamp(bench):
    assert [bench.put_and_wait() for _ in range(3)] == ['published'] * 3
    assert bench.published == [(1, 'a', 'mask', 0), (2, 'a', 'mask', 0), (3, 'a', 'mask', 0)]
    assert bench.errors == []


def test_only_the_newest_frame_is_segmented_when_a_slow_one_ends(bench):
    gate = Gate(bench)
    bench.put()
    gate.wait()
    for _ in range(5):
        bench.put()
    gate.go_on.release()
    gate.wait()
    bench.put()
    gate.go_on.release(2)
    assert bench.wait() == {'published': 3, 'replaced': 4}
    assert [number for number, *_ in bench.published] == [1, 6, 7]


def test_a_flood_of_frames_comes_to_one_outcome_each_and_the_last_is_published(bench):
    for _ in range(500):
        bench.put()
    outcomes = bench.wait()
    assert outcomes.keys() <= {'published', 'replaced'}
    numbers = [number for number, *_ in bench.published]
    assert len(numbers) == outcomes['published']
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 500


def test_settings_that_change_during_an_inference_are_for_the_next_frame(make_bench):
    bench = make_bench(a=['mask', 'overlay'], b=['mask', 'confidence'], c=['mask'])
    bench.change(active_domains=['a', 'b'], confidence_threshold=0.25)
    gate = Gate(bench)
    bench.put()
    gate.wait()
    bench.change(active_domains=['c'], confidence_threshold=0.75, max_age=1e-9)
    bench.now = 10**15  # 11 days after every stamp
    bench.put()
    gate.go_on.release(2)
    assert bench.wait() == {'published': 1, 'stale': 1}
    bench.change(max_age=0.0)
    assert bench.put_and_wait() == 'published'
    assert sorted(bench.published) == [
        (1, 'a', 'mask', 0), (1, 'a', 'overlay', 0), (1, 'b', 'confidence', 1),
        (1, 'b', 'mask', 1), (3, 'c', 'mask', 2)]
    assert [(call.domains, call.threshold) for call in bench.segmenter.calls] == [
        (['a', 'b'], 0.25), (['c'], 0.75)]


def test_settings_that_change_while_a_frame_is_decoded_are_for_the_next_one(
        make_bench, monkeypatch):
    bench = make_bench(a=['mask'], b=['mask'])

    def decode_and_switch(message):
        bench.change(active_domains=['b'], confidence_threshold=0.5)
        return frame_worker_decode(message)

    frame_worker_decode = frame_worker.decode
    monkeypatch.setattr(frame_worker, 'decode', decode_and_switch)
    bench.put_and_wait()
    bench.put_and_wait()
    assert bench.published == [(1, 'a', 'mask', 0), (2, 'b', 'mask', 1)]
    assert [call.threshold for call in bench.segmenter.calls] == [0.0, 0.5]


def test_a_frame_that_waits_takes_the_settings_of_its_start_and_not_of_its_arrival(make_bench):
    bench = make_bench(a=['mask'], b=['mask'])
    gate = Gate(bench)
    bench.put()
    gate.wait()
    bench.put()
    bench.change(active_domains=['b'])
    gate.go_on.release(2)
    bench.wait()
    assert bench.published == [(1, 'a', 'mask', 0), (2, 'b', 'mask', 1)]


def test_switches_under_load_leave_no_frame_without_its_full_set(make_bench):
    bench = make_bench(a=['mask', 'overlay'], b=['mask', 'overlay'], c=['mask', 'overlay'])
    choices = [['a'], ['b'], ['a', 'b'], ['c', 'a'], ['a', 'b', 'c']]
    for i in range(1000):
        bench.change(active_domains=choices[i % 5])
        bench.put()
    outcomes = bench.wait()
    sets = {}
    for number, domain, output, value in bench.published:
        assert value == ord(domain) - ord('a')
        sets.setdefault(number, []).append((domain, output))
    assert len(sets) == outcomes['published']
    allowed = [sorted((domain, output) for domain in choice for output in ('mask', 'overlay'))
               for choice in choices]
    assert all(sorted(outputs) in allowed for outputs in sets.values())


def test_only_what_is_watched_is_asked_for(make_bench):
    bench = make_bench(a=['mask'], b=['overlay'], c=[])
    bench.change(active_domains=['c', 'b', 'a'])
    assert bench.put_and_wait() == 'published'
    assert bench.segmenter.calls[0].domains == ['b', 'a']
    assert not bench.segmenter.calls[0].confidence
    assert sorted(bench.published) == [(1, 'a', 'mask', 0), (1, 'b', 'overlay', 1)]


def test_confidence_of_a_domain_that_is_not_active_is_not_computed(make_bench):
    bench = make_bench(a=['mask'], b=['confidence'])
    bench.put_and_wait()
    bench.change(active_domains=['b'])
    bench.put_and_wait()
    assert [bool(call.confidence) for call in bench.segmenter.calls] == [False, True]


def test_a_frame_that_nobody_watches_is_not_even_decoded(make_bench, monkeypatch):
    bench = make_bench(b=['mask', 'confidence', 'overlay'])
    monkeypatch.setattr(frame_worker, 'decode', None)
    assert bench.put_and_wait() == 'unwatched'
    assert bench.put_and_wait(Image()) == 'unwatched'
    assert bench.put_and_wait(CompressedImage()) == 'unwatched'
    assert bench.segmenter.calls == []
    assert bench.errors == []


def test_who_subscribes_during_an_inference_gets_the_next_frame(bench):
    gate = Gate(bench)
    bench.put()
    gate.wait()
    bench.outputs['a'].names = frozenset(['mask', 'confidence'])
    gate.go_on.release(2)
    bench.wait()
    bench.put_and_wait()
    assert sorted(bench.published) == [
        (1, 'a', 'mask', 0), (2, 'a', 'confidence', 0), (2, 'a', 'mask', 0)]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(frame_worker, 'time', clock)
    monkeypatch.setattr(statistics, 'time', clock)
    return clock


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
    assert bench.worker.statistics.recent().reasons == {
        'stale': '4.000 s old; max_age is 0.5 s'}


@pytest.mark.parametrize('error', [
    torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'), MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")])
def test_out_of_memory_lowers_the_size_and_publishes_the_same_frame(bench, error):
    bench.segmenter.inference_size = 480
    bench.segmenter.memory = 300
    bench.segmenter.error = error
    assert bench.put_and_wait() == 'published'
    assert bench.published == [(1, 'a', 'mask', 0)]
    assert bench.segmenter.inference_size == 270
    told, = bench.errors
    assert told.startswith('out of memory at inference_size 480; from now on it is 270 ')
    assert bench.put_and_wait() == 'published'
    assert [call.size for call in bench.segmenter.calls] == [480, 360, 270, 270]


def test_out_of_memory_without_a_size_begins_with_that_of_the_image(bench):
    bench.segmenter.memory = 100
    assert bench.put_and_wait(bench.camera.frame((120, 160))) == 'published'
    assert bench.segmenter.inference_size == 90


def test_out_of_memory_gives_up_at_the_smallest_size_and_tries_the_next_frame(bench):
    bench.segmenter.inference_size = 100
    bench.segmenter.memory = 0
    assert bench.put_and_wait() == 'failed'
    assert [call.size for call in bench.segmenter.calls] == [100, 75, 56, 42, SMALLEST_SIZE]
    assert 'out of memory' in bench.worker.statistics.recent().reasons['failed']
    assert bench.published == []
    assert bench.put_and_wait() == 'failed'
    assert bench.segmenter.inference_size == 100
    bench.segmenter.memory = None
    assert bench.put_and_wait() == 'published'
    assert bench.segmenter.calls[-1].size == 100


def test_a_size_that_is_set_while_memory_runs_out_is_left_alone(bench):
    bench.segmenter.inference_size = 400
    bench.segmenter.memory = 100
    segment = Segmenter.__call__

    def set_by_a_user(self, *arguments, **options):
        if len(self.calls) == 1:
            self.inference_size = 80
        return segment(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segmenter, '__call__', set_by_a_user)
        assert bench.put_and_wait() == 'published'
    assert [call.size for call in bench.segmenter.calls] == [400, 80]
    assert bench.segmenter.inference_size == 80


@pytest.mark.parametrize('size', [1, SMALLEST_SIZE - 1, SMALLEST_SIZE])
def test_out_of_memory_never_raises_a_size_that_was_smaller(bench, size):
    bench.segmenter.inference_size = size
    bench.segmenter.memory = 0
    assert bench.put_and_wait() == 'failed'
    assert bench.segmenter.inference_size == size
    assert len(bench.segmenter.calls) == 1


def test_another_error_lowers_no_size(bench):
    bench.segmenter.inference_size = 480
    bench.segmenter.memory = 0
    bench.segmenter.error = RuntimeError('the device is gone')
    assert bench.put_and_wait() == 'failed'
    assert len(bench.segmenter.calls) == 1
    assert bench.segmenter.inference_size == 480
    reason = bench.worker.statistics.recent().reasons['failed']
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
            broken.setattr(bench.segmenter, 'inference_size', SMALLEST_SIZE)
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
    reason = bench.worker.statistics.recent().reasons['undecodable']
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
        'failed': 1, 'stopped': 1}
    assert bench.outcomes().keys() == set(OUTCOMES)


def test_times_are_those_of_the_parts_of_the_work(make_bench, clock):
    bench = make_bench(a=['mask'], b=['mask'])
    bench.change(active_domains=['a', 'b'])
    bench.now = 8_000_000_000
    bench.segmenter.during = lambda: clock.advance(0.5)
    for name in 'ab':
        bench.outputs[name].during_messages = lambda: clock.advance(0.03)
        bench.outputs[name].during_publish = lambda: clock.advance(0.02)
    bench.put_and_wait()
    values = {name: median for name, (median, _) in
              bench.worker.statistics.recent().times.items()}
    assert values == pytest.approx(
        {'latency': 0.6, 'inference': 0.5, 'own_cost': 0.1, 'age': 7.0})


def test_waiting_counts_for_the_latency_alone(bench, clock):
    gate = Gate(bench)
    bench.put()
    gate.wait()
    clock.advance(1)
    bench.put()
    clock.advance(2)
    gate.go_on.release()
    gate.wait()
    clock.advance(4)
    gate.go_on.release()
    bench.wait()
    times = bench.worker.statistics.recent().times
    assert times['latency'] == pytest.approx((4.5, 5.85))  # of 3 s and of 2 + 4 s
    assert times['inference'] == pytest.approx((3.5, 3.95))  # of 3 s and of 4 s
    assert times['own_cost'] == pytest.approx((0, 0))


def test_stopping_while_idle_and_stopping_twice(bench):
    bench.put_and_wait()
    bench.worker.stop()
    bench.worker.stop()
    assert bench.wait() == {'published': 1}


def test_stopping_before_any_frame(bench):
    bench.worker.stop()
    assert bench.outcomes() == {}


def test_stopping_waits_for_the_frame_in_work_and_drops_the_one_that_waits(bench):
    gate = Gate(bench)
    bench.put()
    gate.wait()
    bench.put()
    stop = threading.Thread(target=bench.worker.stop)
    stop.start()
    wait_until(lambda: bench.outcomes() == {'stopped': 1}, 'the drop of the frame that waits')
    assert stop.is_alive()
    assert bench.published == []
    gate.go_on.release(2)
    stop.join(DEADLINE)
    assert not stop.is_alive()
    assert bench.published == [(1, 'a', 'mask', 0)]
    assert bench.outcomes() == {'published': 1, 'stopped': 1}
    assert len(bench.segmenter.calls) == 1


def test_a_stop_at_any_moment_leaves_no_frame_uncounted_and_no_thread(make_bench):
    for _ in range(50):
        bench = make_bench(a=['mask'])
        for _ in range(3):
            bench.put()
        bench.worker.stop()
        assert not bench.worker._thread.is_alive()
        assert sum(bench.outcomes().values()) == 3
        assert len(bench.published) == bench.outcomes().get('published', 0)


def test_an_end_of_ros_in_the_midst_of_a_frame_is_no_failure(bench):
    def end():
        bench.ok = False
        raise RuntimeError('the context is invalid')

    bench.outputs['a'].during_publish = end
    assert bench.put_and_wait() == 'stopped'
    assert bench.errors == []
    bench.worker._thread.join(DEADLINE)
    assert not bench.worker._thread.is_alive()


@pytest.mark.parametrize('outcome', ['published', 'unwatched', 'stale', 'undecodable', 'failed'])
def test_while_idle_no_frame_is_kept(bench, outcome):
    message = bench.camera.frame()
    if outcome == 'unwatched':
        bench.outputs['a'].names = frozenset()
    elif outcome == 'stale':
        bench.now = 10**15
        bench.change(max_age=1.0)
    elif outcome == 'undecodable':
        message.step = 1
    elif outcome == 'failed':
        bench.segmenter.during = lambda: 1 / 0
    kept = weakref.ref(message)
    assert bench.put_and_wait(message) == outcome
    del message
    wait_until(lambda: kept() is None, 'the frame to be forgotten')


def test_a_frame_that_was_replaced_is_not_kept(bench):
    gate = Gate(bench)
    bench.put()
    gate.wait()
    message = bench.camera.frame()
    kept = weakref.ref(message)
    bench.put(message)
    del message
    assert kept() is not None
    bench.put()
    assert kept() is None
    gate.go_on.release(2)
    bench.wait()
