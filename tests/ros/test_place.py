"""A place before frames and services: what it tells, and what it keeps."""

import json
from types import SimpleNamespace

from builtin_interfaces.msg import Time
import pytest
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from univseg_core.inference.domain_decision import DecisionRule
from univseg_core.models.domain_evidence import Recognition
from univseg_ros.place import Place

RULE = DecisionRule(frames=1)
OUTDOOR = Recognition({'outdoor': 1.0, 'indoor': 0.0}, 0.0)


class Bench:
    """A place with a stand-in for its node: services to call, and what was published."""

    def __init__(self):
        self.told = []
        self.changes = 0
        self.is_auto = True
        self.services = {}
        node = SimpleNamespace(
            create_lifecycle_publisher=lambda type_, topic, qos: SimpleNamespace(
                publish=lambda message: self.told.append(json.loads(message.data)),
                get_subscription_count=lambda: 0),
            create_service=lambda type_, name, answer: self.services.update({name: answer}),
            get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=5)))
        self.place = Place(node, '~', ['outdoor', 'indoor'], None,
                           lambda: '' if self.is_auto else 'not auto', self._note)

    def _note(self):
        self.changes += 1

    def call(self, service):
        return self.services[f'~/{service}'](Trigger.Request(), Trigger.Response())

    def frame(self, during=lambda: None):
        """Take a frame into account and publish what it was decided to be."""
        decision = self.place.see(OUTDOOR, RULE)
        during()
        self.place.publish(OUTDOOR, decision, Header(stamp=Time(sec=7)))

    def last(self):
        return self.told[-1]['domain'], self.told[-1]['state']


@pytest.fixture
def bench():
    return Bench()


def test_a_frame_in_work_does_not_tell_again_what_a_pin_has_changed(bench):
    bench.frame()
    assert bench.last() == ('outdoor', 'decided')
    bench.frame(during=lambda: bench.call('indoor/pin'))
    assert bench.last() == ('indoor', 'pinned')
    assert len(bench.told) == bench.changes == 2
    bench.frame()
    assert len(bench.told) == 2


def test_a_frame_in_work_does_not_tell_what_was_before_a_new_beginning(bench):
    bench.frame(during=bench.place.begin)
    assert bench.last() == (None, 'undecided')
    assert len(bench.told) == 1


def test_what_is_pinned_outlasts_a_beginning_and_no_end(bench):
    assert bench.call('indoor/pin').success
    bench.place.begin()
    assert bench.last() == ('indoor', 'pinned')
    bench.frame()
    assert bench.place.now.domain == 'indoor'
    bench.place.end()
    assert bench.last() == (None, 'off')
    bench.place.begin()
    assert bench.last() == (None, 'undecided')
    bench.frame()
    assert bench.last() == ('outdoor', 'decided')


def test_where_domains_are_named_nothing_is_pinned_or_told(bench):
    bench.is_auto = False
    answer = bench.call('indoor/pin')
    assert (answer.success, answer.message) == (False, 'not auto')
    assert not bench.told
    assert bench.place.now.domain is None
