"""Images that the middleware lost: counted, and told."""

from types import SimpleNamespace

from fakes import Clock
import pytest
from rclpy.subscription import Subscription
from std_msgs.msg import String
from univseg_ros import losses
from univseg_ros.losses import Losses, NUMBER, total, with_info


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(losses, 'time', clock)
    return clock


def test_losses_are_counted_in_all_and_of_late(clock):
    lost = Losses()
    assert (lost.total, lost.recent(), lost.told('images')) == (0, 0, '')
    lost.add(3)
    clock.advance(6)
    lost.add(1)
    assert (lost.total, lost.recent()) == (4, 4)
    clock.advance(4)  # the first ones are ten seconds ago
    assert (lost.total, lost.recent()) == (4, 1)
    assert lost.told('images of /front').startswith(
        '1 images of /front of the last 10 s were lost by the middleware: they are too large')
    clock.advance(6)
    assert (lost.total, lost.told('images')) == (4, '')


def test_the_middlewares_events_are_added_over_subscriptions(clock):
    lost, warn = Losses(), object()
    for counts in ([1, 2], [3]):
        callbacks = lost.watch(lambda callbacks: callbacks, warn)
        assert callbacks.incompatible_qos is warn
        for count in counts:
            callbacks.message_lost(SimpleNamespace(total_count=99, total_count_change=count))
    assert lost.total == 6


def test_a_middleware_that_does_not_tell_is_no_obstacle():
    lost = by_gaps()
    assert lost.total is None
    assert total([Losses(), lost]) == 'unknown'
    assert total([]) == '0'
    lost.see(Camera([1]), '/image', {NUMBER: None})  # nor does it number messages
    assert lost.total is None


class Camera:
    """A node that knows the publishers of a topic, as many as it is given numbers."""

    def __init__(self, gids):
        self.gids = gids

    def get_publishers_info_by_topic(self, topic):
        return [SimpleNamespace(endpoint_gid=[gid] * 16) for gid in self.gids]


def by_gaps():
    """Return the losses of a middleware that numbers messages, but has no event."""
    lost = Losses()
    assert lost.watch(without_event) == 'subscription'
    return lost


def without_event(callbacks):
    if callbacks.message_lost:
        raise RuntimeError('event type is not supported')
    return 'subscription'


@pytest.mark.parametrize(('seen', 'count'), [
    # (number, publishers) of each message
    ([(7, [1])], None),  # what came before is not known
    ([(7, [1]), (8, [1]), (9, [1])], 0),
    ([(7, [1]), (8, [1]), (11, [1]), (12, [1]), (14, [1])], 3),
    ([(7, [1]), (11, [1])], 3),
    ([(7, [1]), (1, [2]), (2, [2]), (4, [2])], 1),  # a camera that was started anew
    ([(7, [1]), (8, [1]), (7, [1]), (8, [1])], 0),  # a message out of order
    ([(7, [1, 2]), (30, [1, 2]), (8, [1, 2]), (31, [1, 2])], None),  # mixed
    ([(7, [1, 2]), (30, [2]), (31, [2]), (33, [2])], 1),  # one of two has gone
    ([(7, [1]), (30, [1, 2]), (8, [1, 2]), (31, [1, 2])], None),  # one has joined
])
def test_gaps_in_the_sequence_of_one_publisher_are_losses(clock, seen, count):
    lost = by_gaps()
    for number, gids in seen:
        lost.see(Camera(gids), '/image', {NUMBER: number})
    assert lost.total == count
    assert lost.told('images').startswith(
        f'{count} images of the last 10 s were lost by the middleware, or gave way in its queue'
        if count else '')


def test_what_came_between_two_subscriptions_is_not_lost(clock):
    lost, camera = by_gaps(), Camera([1])
    for number in (1, 2, 4):
        lost.see(camera, '/image', {NUMBER: number})
    lost.watch(without_event)
    for number in (50, 51):
        lost.see(camera, '/image', {NUMBER: number})
    assert lost.total == 1


def test_numbers_do_not_count_where_the_middleware_does():
    lost = Losses()
    lost.watch(lambda callbacks: None)
    for number in (1, 5):
        lost.see(Camera([1]), '/image', {NUMBER: number})
    assert lost.total == 0


def test_real_messages_have_numbers_by_which_gaps_are_seen(own_peer):
    topic, lost, came = f'{own_peer.node.get_namespace()}/numbered', by_gaps(), []

    def receive(message, info):
        lost.see(own_peer.node, topic, info)
        came.append(message.data)

    own_peer.node.create_subscription(String, topic, with_info(receive), 1)
    for texts in ('a', 'b', 'cdef'):  # of which the last one alone stays in a queue of one
        for text in texts:
            own_peer.publish(String(data=text), topic, 10)
        own_peer.wait_until_acknowledged(topic)
        own_peer.wait_until(lambda text=text: came[-1:] == [text], 'the last text')
    assert came == ['a', 'b', 'f']
    assert lost.total == 3


def test_humble_hands_messages_on_without_numbers(monkeypatch):
    monkeypatch.delattr(Subscription, 'CallbackType')
    came = []
    with_info(lambda message, info: came.append((message, info[NUMBER])))('image')
    assert came == [('image', None)]


def test_what_raises_in_any_case_is_not_hidden():
    def subscribe(callbacks):
        raise RuntimeError('no such topic')

    with pytest.raises(RuntimeError, match='no such topic'):
        Losses().watch(subscribe)
