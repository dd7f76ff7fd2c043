"""Frames of several cameras that wait are encoded at once, and none of them touches another."""

import itertools
import threading
from types import SimpleNamespace
import weakref

from fakes import DEADLINE, wait_until
from frame_bench import Camera, Gate, Outputs
import pytest
from sensor_msgs.msg import Image
import torch
from univseg_core.inference.domain_decision import Decision
from univseg_core.models.domain_evidence import Recognition
from univseg_ros.camera_stream import CameraStream, FrameSettings

OUT_OF_MEMORY = torch.OutOfMemoryError('CUDA out of memory')


class Eye:
    """A camera at a bench's worker; what it publishes goes into the bench's list, as `name`/…."""

    def __init__(self, bench, name):
        self.camera, self._worker = Camera(), bench.worker
        self.settings = FrameSettings(['a'], 0.0, 0.0, 0.0)
        self.outputs = {domain: Outputs(f'{name}/{domain}', bench.published, ['mask'])
                        for domain in 'ab'}
        self.stream = CameraStream(self.outputs, lambda: self.settings)

    def change(self, **values):
        self.settings = FrameSettings(**{**vars(self.settings), **values})

    def put(self, message=None):
        self._worker.put(self.stream, self.camera.frame() if message is None else message)

    @property
    def outcomes(self):
        totals = self.stream.statistics.totals()
        del totals['received']
        return {name: count for name, count in totals.items() if count}

    @property
    def is_done(self):
        return sum(self.outcomes.values()) == self.stream.statistics.totals()['received']


class Eyes(dict):
    """The cameras x, y, z … of a bench, whose own camera keeps the worker busy before."""

    def __init__(self, bench, names='xyz', largest_batch=3):
        super().__init__({name: Eye(bench, name) for name in names})
        self.bench, self.gate = bench, Gate(bench)
        bench.worker.largest_batch = largest_batch

    def hold(self, **messages):
        """Let a frame of each camera wait; return when the first of these are in work."""
        self.bench.put()
        self.gate.wait()
        for name, eye in self.items():
            eye.put(messages.get(name))
        self.gate.go_on.release()
        self.gate.wait()

    def end(self):
        """Let everything go on to its end."""
        self.gate.go_on.release(100)
        wait_until(lambda: all(eye.is_done for eye in self.values()), self.outcomes)
        self.bench.wait()
        for semaphore in (self.gate.go_on, self.gate.entered):
            while semaphore.acquire(blocking=False):
                pass

    def serve(self, **messages):
        """Segment a frame of each camera, or a message that is given."""
        self.hold(**messages)
        self.end()

    @property
    def outcomes(self):
        return {name: eye.outcomes for name, eye in self.items()}

    @property
    def published(self):
        """Return number, camera/domain and value of what they published, in that order."""
        return [(number, name, value) for number, name, _, value in self.bench.published
                if '/' in name]


@pytest.fixture
def eyes(bench):
    return Eyes(bench)


def test_frames_that_wait_are_encoded_at_once_and_published_in_the_order_of_turns(bench, eyes):
    eyes['y'].change(active_domains=['b', 'a'])
    eyes.serve()
    assert bench.segmenter.batches == [3]
    assert eyes.published == [(1, 'x/a', 0), (1, 'y/b', 1), (1, 'y/a', 0), (1, 'z/a', 0)]
    assert eyes.outcomes == {key: {'published': 1} for key in 'xyz'}
    eyes['z'].put()
    eyes.end()
    assert bench.segmenter.batches == [3]
    assert bench.errors == []


def test_where_a_batch_is_not_faster_each_frame_goes_alone(bench):
    eyes = Eyes(bench, largest_batch=1)
    eyes.serve()
    assert bench.segmenter.batches == []
    assert [name for _, name, _ in eyes.published] == ['x/a', 'y/a', 'z/a']


def test_no_camera_starves_however_many_frames_the_others_send(bench):
    eyes = Eyes(bench, 'vwxyz', largest_batch=2)
    for _ in range(4):
        bench.put()
        eyes.gate.wait()
        for _ in range(3):
            for name in 'vwxyz':
                eyes[name].put()
        eyes.gate.go_on.release()
        eyes.gate.wait()
        eyes['v'].put()  # while it is in work, so that it waits again
        eyes.gate.go_on.release()
        eyes.gate.wait()
        eyes['v'].put()
        eyes.end()
    order = [name[0] for _, name, _ in eyes.published]
    assert order[:6] == list('vwxyzv')
    for name in 'wxyz':
        assert eyes[name].outcomes == {'published': 4, 'replaced': 8}
        places = [i for i, other in enumerate(order) if other == name]
        assert max(b - a for a, b in itertools.pairwise(places)) <= 7


def test_the_network_sees_frames_of_a_batch_at_one_size(bench):
    eyes = Eyes(bench, 'wxyz', largest_batch=4)
    eyes['x'].change(inference_size=32)
    eyes['z'].change(inference_size=64)
    eyes.serve(w=eyes['w'].camera.frame((24, 32)), y=eyes['y'].camera.frame((48, 64)),
               z=eyes['z'].camera.frame((90, 120)), x=eyes['x'].camera.frame((90, 120)))
    assert bench.segmenter.batches == [2, 2]
    assert [name for _, name, _ in eyes.published] == ['w/a', 'x/a', 'y/a', 'z/a']
    eyes['w'].change(inference_size=20)
    eyes.serve(w=eyes['w'].camera.frame((24, 32)), y=eyes['y'].camera.frame((48, 64)),
               z=eyes['z'].camera.frame((90, 120)), x=eyes['x'].camera.frame((90, 120)))
    assert bench.segmenter.batches == [2, 2, 2]
    assert [call.size for call in bench.segmenter.calls] == [8, 8, 20, 32]
    assert eyes.outcomes == {key: {'published': 2} for key in 'wxyz'}


@pytest.mark.parametrize('outcome', ['unwatched', 'stale', 'undecodable', 'failed'])
def test_a_frame_that_comes_to_nothing_leaves_the_others_theirs(bench, eyes, outcome):
    bad, messages = eyes['y'], {}
    if outcome == 'unwatched':
        bad.outputs['a'].names = frozenset()
    elif outcome == 'stale':
        bad.change(max_age=1.0)
        bench.now = 10**15
    elif outcome == 'undecodable':
        messages['y'] = Image(encoding='none')
    else:
        bad.outputs['a'].watched = lambda: 1 / 0
    eyes.serve(**messages)
    assert eyes.outcomes == {**{key: {'published': 1} for key in 'xz'}, 'y': {outcome: 1}}
    assert bench.segmenter.batches == [2]
    assert len(bench.errors) == (outcome in ('undecodable', 'failed'))


@pytest.mark.parametrize('part', ['during_messages', 'during_publish'])
def test_what_fails_after_the_encoder_is_of_that_frame_alone(bench, eyes, part):
    setattr(eyes['x'].outputs['a'], part, lambda: 1 / 0)
    eyes.serve()
    assert eyes.outcomes == {'x': {'failed': 1}, 'y': {'published': 1}, 'z': {'published': 1}}
    assert [name for _, name, _ in eyes.published] == ['y/a', 'z/a']
    assert len(bench.segmenter.calls) == 1  # of the bench's own camera


def test_where_a_batch_fails_each_frame_is_tried_alone(bench, eyes):
    bench.segmenter.batch_error = ValueError('one of them is bad')
    eyes['z'].change(inference_size=8)
    bench.segmenter.memory = 8
    eyes.serve()
    assert eyes.outcomes == {key: {'published': 1} for key in 'xyz'}
    assert bench.segmenter.batches == [3]
    assert len(bench.segmenter.calls) == 4
    assert bench.errors == []
    eyes.serve()
    assert bench.segmenter.batches == [3, 3]


def test_where_memory_runs_out_for_a_batch_frames_go_alone_from_then_on(bench, eyes):
    bench.segmenter.batch_error = OUT_OF_MEMORY
    frames = {name: eyes[name].camera.frame((48, 64)) for name in 'xyz'}
    eyes['y'].change(inference_size=64)
    bench.segmenter.memory = 50
    eyes.serve(**frames)
    assert eyes.outcomes == {key: {'published': 1} for key in 'xyz'}
    assert [call.size for call in bench.segmenter.calls] == [8, 64, 48, 64, 48, 64, 48]
    assert [eyes[name].stream.lowered for name in 'xyz'] == [(None, 48), (64, 48), (None, 48)]
    assert bench.worker.largest_batch == 1
    assert bench.errors[0] == ('out of memory with 3 frames at once; from now on there are 1 at '
                               'most')
    eyes.serve()
    assert bench.segmenter.batches == [3]
    assert eyes.outcomes == {key: {'published': 2} for key in 'xyz'}


def test_where_memory_runs_out_for_masks_that_frame_is_encoded_anew(bench, eyes):
    bench.segmenter.masks_error = OUT_OF_MEMORY
    eyes.serve()
    assert eyes.outcomes == {key: {'published': 1} for key in 'xyz'}
    assert len(bench.segmenter.calls) == 2
    assert bench.worker.largest_batch == 3
    bench.segmenter.masks_error = RuntimeError('the device is gone')
    eyes.serve()
    assert sorted(str(eye.outcomes) for eye in eyes.values()) == [
        "{'published': 1, 'failed': 1}", "{'published': 2}", "{'published': 2}"]


def test_settings_are_those_of_the_start_of_the_batch(bench, eyes):
    eyes['x'].change(traversable=['road'])
    eyes.hold()
    for eye in eyes.values():
        eye.change(active_domains=['b'], traversable=['sky'], max_age=1e-9)
    bench.now = 10**15
    eyes.end()
    assert eyes.published == [(1, 'x/a', 0), (1, 'y/a', 0), (1, 'z/a', 0)]
    assert eyes['x'].outputs['a'].traversable == [['road']]
    for eye in eyes.values():
        eye.change(max_age=0.0)
    eyes.serve()
    assert eyes.published[3:] == [(2, 'x/b', 1), (2, 'y/b', 1), (2, 'z/b', 1)]


def test_each_camera_decides_on_its_own_place(bench, eyes):
    told = []

    def place(domain):
        return SimpleNamespace(
            now=Decision(domain), is_watched=lambda: False,
            see=lambda recognition, rule: Decision(domain),
            publish=lambda recognition, decision, header: told.append(decision.domain))

    bench.segmenter.recognition = Recognition({'a': 0.5, 'b': 0.5}, 0.0)
    for eye, domain in zip(eyes.values(), ('b', None, 'a'), strict=True):
        eye.stream.place = place(domain)
        eye.change(active_domains=['auto'])
    eyes.serve()
    assert bench.segmenter.batches == [3]
    assert eyes.published == [(1, 'x/b', 1), (1, 'z/a', 0)]
    assert eyes.outcomes['y'] == {'undecided': 1}
    assert told == ['b', None, 'a']


def test_stopping_waits_for_the_batch_in_work_and_drops_what_waits(bench, eyes):
    eyes.hold()
    eyes['x'].put()
    stop = threading.Thread(target=bench.worker.stop)
    stop.start()
    wait_until(lambda: 'stopped' in eyes['x'].outcomes, 'the drop of the frame that waits')
    assert stop.is_alive()
    assert eyes.published == []
    eyes.gate.go_on.release(2)
    stop.join(DEADLINE)
    assert not stop.is_alive()
    assert eyes.outcomes == {'x': {'published': 1, 'stopped': 1}, 'y': {'published': 1},
                             'z': {'published': 1}}
    assert len(eyes.published) == 3


def test_an_end_of_ros_in_the_midst_of_a_batch_is_no_failure(bench, eyes):
    def end():
        bench.ok = False
        raise RuntimeError('the context is invalid')

    for eye in eyes.values():
        eye.outputs['a'].during_publish = end
    eyes.serve()
    assert eyes.outcomes == {key: {'stopped': 1} for key in 'xyz'}
    assert bench.errors == []
    bench.worker._thread.join(DEADLINE)
    assert not bench.worker._thread.is_alive()


def test_the_time_of_a_batch_is_shared_and_waiting_for_others_is_waiting(bench, eyes, clock):
    for eye in eyes.values():
        eye.outputs['a'].during_messages = lambda: clock.advance(0.1)
    eyes.hold()
    clock.advance(0.6)
    assert all(eye.stream.statistics.recent().in_work == pytest.approx(0.6)
               for eye in eyes.values())
    eyes.end()
    for name, latency in (('x', 0.7), ('y', 0.8), ('z', 0.9)):
        summary = eyes[name].stream.statistics.recent()
        values = {part: median for part, (median, _) in summary.times.items()}
        assert values.pop('latency') == pytest.approx(latency)
        assert values['inference'] == pytest.approx(0.2)
        assert values['own_cost'] == pytest.approx(0.1)
        assert summary.in_work == 0


def test_while_idle_no_frame_of_a_batch_is_kept(bench, eyes):
    messages = {name: eyes[name].camera.frame() for name in 'xyz'}
    eyes['y'].outputs['a'].during_messages = lambda: 1 / 0
    kept = [weakref.ref(message) for message in messages.values()]
    eyes.serve(**messages)
    assert eyes.outcomes['y'] == {'failed': 1}
    messages.clear()
    wait_until(lambda: not any(each() for each in kept), 'the frames to be forgotten')


def test_a_stop_at_any_moment_leaves_no_frame_of_a_batch_uncounted(make_bench):
    for _ in range(20):
        bench = make_bench(a=['mask'])
        bench.worker.largest_batch = 3
        eyes = {name: Eye(bench, name) for name in 'xyz'}
        for _ in range(3):
            for eye in eyes.values():
                eye.put()
        bench.worker.stop()
        assert all(eye.is_done for eye in eyes.values())
        assert len(bench.published) == sum(eye.outcomes.get('published', 0)
                                           for eye in eyes.values())
