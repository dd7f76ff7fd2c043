"""Which images are kept, and what is said of the others."""

import json
import struct

from bag_files import header, serialised
import numpy as np
import pytest
from recorded import BACK, back, FRONT, front, IMAGE, picture, SECOND
from univseg_core.bags.topics import Topic
from univseg_core.recording import judged
from univseg_core.recording.flight import Flight
from univseg_core.recording.judged import Uncertain, Unfamiliar
from univseg_core.recording.policies import KeepAll, Novel, POLICIES, RateLimit
from univseg_core.recording.serialized_image import SerializedImage

CONFIDENCE = Topic('/univseg/outdoor/confidence', IMAGE)


def outcomes(policy, frames):
    return [outcome for frame in frames for _, outcome in policy.judge(frame)]


def at(seconds, topic=FRONT, stamp=None):
    """Return an image that came at some time, with a stamp of that time or another."""
    stamp = round((seconds if stamp is None else stamp) * SECOND)
    data = b'\0\1\0\0' + struct.pack('<iIIx', *divmod(stamp, SECOND), 1)
    return SerializedImage(topic, round(seconds * SECOND), round(seconds * SECOND), data)


def test_a_header_is_read_without_the_rest():
    for frame in (front(7, 4), back(7)):
        assert frame.header() == (100 * SECOND + 7 * SECOND // 10 + 5, b'camera')
    big_endian = SerializedImage(FRONT, 0, 0, b'\0\0\0\0' + (5).to_bytes(4, 'big')
                                 + (6).to_bytes(4, 'big') + (2).to_bytes(4, 'big') + b'c\0')
    assert big_endian.header() == (5 * SECOND + 6, b'c')
    for data in (b'', b'\0', b'\0\1\0\0' + bytes(11)):
        with pytest.raises(ValueError, match=f'a message of {len(data)} bytes has no header'):
            SerializedImage(FRONT, 0, 0, data).header()


def test_all_are_kept():
    assert outcomes(KeepAll(), [front(0), back(0), front(0)]) == ['kept'] * 3


@pytest.mark.parametrize('camera', [5.0, 12.5, 30.0, 60.0])
@pytest.mark.parametrize('rate', [0.5, 1.0, 4.0])
def test_the_rate_is_kept_on_average_at_any_camera_s(camera, rate):
    random = np.random.default_rng(0)
    times = 1000 + np.arange(0, 60, 1 / camera) + random.uniform(0, 0.01, round(60 * camera))
    kept = outcomes(RateLimit(rate), map(at, times)).count('kept')
    assert rate * 60 - 1 <= kept <= rate * 60 + 1


def test_a_slower_camera_is_kept_whole_and_a_pause_gives_no_credit():
    policy = RateLimit(1.0)
    assert outcomes(policy, map(at, (10, 11.5, 13))) == ['kept'] * 3
    assert outcomes(policy, map(at, (60, 60.1, 60.2, 60.9))) == ['kept', *['rate'] * 3]


def test_each_topic_has_its_own_turn():
    policy = RateLimit(1.0)
    assert outcomes(policy, [at(10), at(10.1, BACK), at(10.2), at(10.3, BACK)]) == [
        'kept', 'kept', 'rate', 'rate']


def test_the_rate_counts_stamps_and_where_there_are_none_arrivals():
    policy = RateLimit(1.0)
    assert outcomes(policy, [at(10, stamp=1), at(10.1, stamp=2), at(10.2, stamp=2.5)]) == [
        'kept', 'kept', 'rate']
    assert outcomes(RateLimit(1.0), [at(10, stamp=0), at(10.1, stamp=0), at(11.2, stamp=0)]) == [
        'kept', 'rate', 'kept']
    short = SerializedImage(FRONT, 10 * SECOND, 0, b'\0\1')
    assert outcomes(RateLimit(1.0), [short, short]) == ['kept', 'rate']


def test_a_clock_that_was_set_back_does_not_end_the_recording():
    policy = RateLimit(1.0)
    assert outcomes(policy, map(at, (1000, 1, 1.5, 2))) == ['kept', 'kept', 'rate', 'kept']


def test_each_entry_makes_its_policy_of_its_parameters():
    made = {name: entry.build({key: each.default for key, each in entry.parameters.items()}, 99)
            for name, entry in POLICIES.items()}
    assert {name: type(policy) for name, policy in made.items()} == {
        'all': KeepAll, 'rate': RateLimit, 'novel': Novel, 'uncertain': Uncertain,
        'unfamiliar': Unfamiliar, 'flight': Flight}
    assert outcomes(made['rate'], map(at, (10, 10.5, 11))) == ['kept', 'rate', 'kept']
    assert outcomes(made['uncertain'], [front(0)]) == ['unjudged']  # it may hold 99 bytes
    for entry in POLICIES.values():
        for each in entry.parameters.values():
            assert each.bounds[0] <= each.default <= each.bounds[1]


def raw_frame(image, topic=FRONT):
    data = serialised('Image', header(0), *image.shape[:2], 'rgb8', 0, image[0].nbytes,
                      image.ravel())
    return SerializedImage(topic, 0, 0, data)


def test_only_what_differs_is_new():
    noise = np.random.default_rng(0)
    scene = np.kron(picture(0, 9), np.ones((20, 20, 1), np.uint8))
    again = np.clip(scene + noise.normal(0, 4, scene.shape), 0, 255).astype(np.uint8)
    other = np.kron(picture(1, 9), np.ones((20, 20, 1), np.uint8))
    policy = Novel(4)
    frames = [raw_frame(each) for each in (scene, again, other, again, scene)]
    assert outcomes(policy, frames) == ['kept', 'similar', 'kept', 'kept', 'similar']
    assert outcomes(policy, [raw_frame(scene, Topic('/side', IMAGE))]) == ['kept']


def test_bits_say_how_much_is_new():
    scene = np.kron(picture(0, 9), np.ones((20, 20, 1), np.uint8))
    other = np.kron(picture(1, 9), np.ones((20, 20, 1), np.uint8))
    assert outcomes(Novel(63), [raw_frame(scene), raw_frame(other)]) == ['kept', 'similar']


def test_compressed_images_are_compared_as_well():
    assert outcomes(Novel(4), [back(0), back(0), back(1)]) == ['kept', 'similar', 'kept']


@pytest.mark.parametrize('data', [
    b'', b'\0\1\0\0', front(0).data[:200],
    serialised('Image', header(0), 0, 0, 'rgb8', 0, 0, np.zeros(0, np.uint8)),
    serialised('Image', header(0), 1, 2, '32FC1', 0, 8, np.zeros(8, np.uint8))],
    ids=['empty', 'head', 'truncated', 'zero size', 'distances'])
def test_what_cannot_be_compared_is_kept(data):
    policy = Novel(4)
    frame = SerializedImage(FRONT, 0, 0, data)
    assert outcomes(policy, [frame, frame]) == ['kept', 'kept']
    assert outcomes(policy, [front(0), front(0)]) == ['kept', 'similar']


def confidence(frame, mean):
    """Return the model's confidence of an image, 0..1, with a spread around its mean."""
    values = np.full((4, 6), round(255 * mean), np.uint8) + np.tile([-5, 5], 12).reshape(
        4, 6).astype(np.int8).astype(np.uint8)
    stamp, _ = frame.header()
    time = header(0).stamp.__class__(*divmod(stamp, SECOND))
    head = header(0).__class__(time, 'camera')
    return SerializedImage(CONFIDENCE, 0, 0, serialised('Image', head, 4, 6, 'mono8', 0, 6,
                                                        values.ravel()))


@pytest.fixture
def now(monkeypatch):
    """Return a list with the time of the policies' clock."""
    now = [0.0]
    monkeypatch.setattr(judged.time, 'monotonic', lambda: now[0])
    return now


def test_an_image_waits_for_its_confidence_and_is_kept_if_that_is_low(now):
    policy = Uncertain(0.7, 2.0, 10**9)
    frames = [front(number) for number in range(3)]
    assert outcomes(policy, frames) == []
    assert policy.held_bytes == sum(len(frame.data) for frame in frames)
    assert list(policy.learn(confidence(frames[1], 0.6))) == [(frames[1], 'kept')]
    assert list(policy.learn(confidence(frames[0], 0.8))) == []
    now[0] = 2.1
    assert list(policy.overdue()) == [(frames[0], 'sure'), (frames[2], 'unjudged')]
    assert policy.held_bytes == 0
    assert list(policy.overdue()) == []


def test_all_topics_of_a_camera_are_kept_and_the_lowest_confidence_counts(now):
    policy = Uncertain(0.7, 2.0, 10**9)
    pair = [front(3), back(3)]
    assert outcomes(policy, pair) == []
    assert list(policy.learn(confidence(pair[0], 0.9))) == []
    assert list(policy.learn(confidence(pair[0], 0.2))) == [(frame, 'kept') for frame in pair]


def test_a_confidence_may_come_before_its_image(now, monkeypatch):
    monkeypatch.setattr(judged, 'JUDGEMENTS_KEPT', 2)
    policy = Uncertain(0.7, 2.0, 10**9)
    frames = [front(number) for number in range(4)]
    for frame, mean in zip(frames, (0.1, 0.2, 0.9), strict=False):
        assert list(policy.learn(confidence(frame, mean))) == []
    assert outcomes(policy, frames) == ['kept']  # of the second; the first was forgotten
    assert list(policy.overdue(at_once=True)) == [
        (frames[0], 'unjudged'), (frames[2], 'sure'), (frames[3], 'unjudged')]


def test_only_so_many_bytes_wait(now):
    frames = [front(number) for number in range(4)]
    policy = Uncertain(0.7, 2.0, 2 * len(frames[0].data))
    assert outcomes(policy, frames) == ['unjudged', 'unjudged']
    assert list(policy.overdue(at_once=True)) == [(frame, 'unjudged') for frame in frames[2:]]


def test_what_is_no_image_is_never_judged(now):
    policy = Uncertain(0.7, 2.0, 10**9)
    assert outcomes(policy, [SerializedImage(FRONT, 0, 0, b'')]) == ['unjudged']
    assert list(policy.learn(SerializedImage(CONFIDENCE, 0, 0, b''))) == []
    assert list(policy.learn(SerializedImage(CONFIDENCE, 0, 0, front(0).data[:40]))) == []


RECOGNITION = Topic('/univseg/recognition', 'std_msgs/msg/String')


def text_message(text, order='<'):
    """Return a std_msgs/String as it comes."""
    data = text.encode() + b'\0'
    return SerializedImage(RECOGNITION, 0, 0, b'\0' + bytes([order == '<']) + b'\0\0'
                           + struct.pack(f'{order}I', len(data)) + data)


def recognition(frame, unfamiliarity):
    """Return what the node says of an image."""
    stamp, frame_id = frame.header()
    return text_message(json.dumps({
        'stamp': stamp, 'frame_id': frame_id.decode(), 'domain': None,
        'probabilities': {'outdoor': 1.0}, 'unfamiliarity': unfamiliarity}))


def test_a_text_is_read_from_its_message():
    for order in '<>':
        assert text_message('Küche', order).text() == 'Küche'
    assert text_message('').text() == ''
    whole = text_message('Küche').data
    for data in (b'', b'\0', whole[:7], whole[:-1], b'\0\1\0\0\2\0\0\0\xff\0'):
        with pytest.raises(ValueError):
            SerializedImage(RECOGNITION, 0, 0, data).text()


def test_an_image_that_is_unfamiliar_is_kept(now):
    policy = Unfamiliar(1.0, KeepAll(), 2.0, 10**9)
    frames = [front(number) for number in range(4)]
    assert outcomes(policy, frames[:3]) == []
    assert list(policy.learn(recognition(frames[0], 0.999))) == []
    assert list(policy.learn(recognition(frames[1], 1.0))) == [(frames[1], 'kept')]
    assert list(policy.learn(recognition(frames[3], 7))) == []
    assert list(policy.judge(frames[3])) == [(frames[3], 'kept')]
    now[0] = 2.1
    assert list(policy.overdue()) == [(frames[0], 'familiar'), (frames[2], 'unjudged')]


def test_of_an_unfamiliar_place_some_images_a_second_are_kept(now):
    policy = POLICIES['unfamiliar'].build(
        {'unfamiliarity': 1.0, 'rate': 2.0, 'patience': 2.0}, 10**9)
    frames = [front(number) for number in range(12)]  # at 10 Hz
    assert outcomes(policy, frames) == []
    found = [outcome for frame in frames for _, outcome in policy.learn(recognition(frame, 3))]
    assert [number for number, outcome in enumerate(found) if outcome == 'kept'] == [0, 5, 10]
    assert found.count('rate') == 9
    assert policy.held_bytes == 0


@pytest.mark.parametrize('text', ['', 'outdoor', '[]', '{"stamp": 1, "unfamiliarity": 9}'])
def test_what_is_no_recognition_says_nothing_of_an_image(now, text):
    policy = Unfamiliar(0.0, KeepAll(), 2.0, 10**9)
    assert outcomes(policy, [front(0)]) == []
    assert list(policy.learn(text_message(text))) == []
    assert list(policy.learn(SerializedImage(RECOGNITION, 0, 0, b'\0\1'))) == []
    assert list(policy.learn(front(0))) == []  # of another type
    assert list(policy.overdue(at_once=True)) == [(front(0), 'unjudged')]


def test_an_image_that_was_lost_is_no_measure_of_the_next():
    policy = Novel(4)
    assert outcomes(policy, [back(0)]) == ['kept']
    policy.lost(back(0))
    assert outcomes(policy, [back(0), back(0)]) == ['kept', 'similar']


def test_images_of_a_topic_that_changes_are_decided_first(now):
    policy = Uncertain(0.7, 2.0, 10**9)
    changed = SerializedImage(Topic('/front', IMAGE), 0, 0, front(2).data)
    assert list(policy.judge(front(0))) == list(policy.judge(back(1))) == []
    assert list(policy.judge(changed)) == [(front(0), 'unjudged')]
    assert policy.held_bytes == len(back(1).data) + len(changed.data)


def test_a_consumer_that_fails_leaves_nothing_held_twice(now):
    policy = Uncertain(0.7, 2.0, 10**9)
    frame = front(0)
    assert outcomes(policy, [frame]) == []
    next(policy.learn(confidence(frame, 0.2)))
    assert policy.held_bytes == 0
    assert list(policy.overdue(at_once=True)) == []


@pytest.mark.parametrize('table', ['parameters', 'outcomes'])
def test_a_parameter_or_outcome_of_two_policies_is_the_same_for_both(table):
    """The recorder has one table of each, by name: the later would replace the earlier."""
    pairs = [pair for entry in POLICIES.values() for pair in getattr(entry, table).items()]
    assert len(set(pairs)) == len(dict(pairs))
    assert len(pairs) > len(set(pairs))
