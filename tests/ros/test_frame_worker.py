"""The thread in which frames become masks, with stand-ins for what lies around it."""

import io
import threading
import weakref

from fakes import DEADLINE, wait_until
from frame_bench import Gate
from PIL import Image as Picture
import pytest
from sensor_msgs.msg import CompressedImage, Image
from univseg_ros import frame_worker


def test_a_frame_is_published_once_with_its_own_stamp(bench):
    assert [bench.put_and_wait() for _ in range(3)] == ['published'] * 3
    assert bench.published == [(1, 'a', 'mask', 0), (2, 'a', 'mask', 0), (3, 'a', 'mask', 0)]
    assert bench.errors == []


@pytest.mark.parametrize('orientation', [1, 6])
def test_pictures_stay_as_they_are_sent_and_an_orientation_is_told_once(bench, orientation):
    exif = Picture.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Picture.new('RGB', (6, 4)).save(file, 'JPEG', exif=exif)
    message = CompressedImage(format='jpeg', data=file.getvalue())
    message.header.stamp.sec = 7
    assert [bench.put_and_wait(message) for _ in range(2)] == ['published'] * 2
    assert [call.size for call in bench.segmenter.calls] == [6, 6]
    assert [text[:60] for text in bench.warnings] == (
        [] if orientation == 1 else
        ['the pictures have an orientation in their EXIF data (6), whic'[:60]])


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


def test_traversable_classes_are_those_of_the_frames_start(bench):
    bench.change(traversable=['road'])
    gate = Gate(bench)
    bench.put()
    gate.wait()
    bench.change(traversable=['sky'])
    bench.put()
    gate.go_on.release(2)
    assert bench.wait() == {'published': 2}
    assert bench.outputs['a'].traversable == [['road'], ['sky']]


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
              bench.stream.statistics.recent().times.items()}
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
    times = bench.stream.statistics.recent().times
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
