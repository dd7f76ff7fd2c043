"""Images that the middleware lost: counted, and told."""

from types import SimpleNamespace

from fakes import Clock
import pytest
from univseg_ros import losses
from univseg_ros.losses import Losses, total


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
    def subscribe(callbacks):
        if callbacks.message_lost:
            raise RuntimeError('event type is not supported')
        return 'subscription'

    lost = Losses()
    assert lost.watch(subscribe) == 'subscription'
    assert lost.total is None
    assert total([Losses(), lost]) == 'unknown'
    assert total([]) == '0'


def test_what_raises_in_any_case_is_not_hidden():
    def subscribe(callbacks):
        raise RuntimeError('no such topic')

    with pytest.raises(RuntimeError, match='no such topic'):
        Losses().watch(subscribe)
