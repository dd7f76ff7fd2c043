"""What lets a flight recorder write, and what does not."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import pytest
from rclpy.serialization import serialize_message
from std_msgs.msg import String
from univseg_ros.flight_conditions import CONDITIONS, FlightConditions, MOST_ERRORS

OK, WARN, ERROR, STALE = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR,
                          DiagnosticStatus.STALE)


@pytest.fixture
def watch(own_peer):
    """Return a function that makes conditions of a node, and the list of their triggers."""
    made = []

    def make(names=(), conditions=CONDITIONS, topics=list):
        said = []
        made.append(FlightConditions(own_peer.node, conditions, topics, names, said.append))
        return made[-1], said

    yield make
    for each in made:
        each.close()


def text_message(text):
    return serialize_message(String(data=text))


def statuses(*pairs):
    return DiagnosticArray(status=[DiagnosticStatus(name=name, level=level, message='hot')
                                   for name, level in pairs])


def test_a_status_is_told_when_it_comes_to_be_in_error(watch):
    conditions, said = watch()
    for level in (OK, WARN, STALE, ERROR, ERROR, WARN, ERROR):
        conditions.note_diagnostics(statuses(('arm: motor', level), ('leg', OK)))
    assert said == 2 * ['error of arm: motor: hot']


def test_a_node_s_own_errors_are_none_of_its_business(watch, own_peer):
    conditions, said = watch()
    own = own_peer.node.get_fully_qualified_name().lstrip('/')
    conditions.note_diagnostics(statuses((f'{own}: recording', ERROR), (f'{own}2: x', ERROR)))
    assert said == [f'error of {own}2: x: hot']


def test_only_statuses_that_are_named_or_of_nodes_that_are_count(watch):
    conditions, said = watch(['/robot/arm', 'leg: motor'])
    conditions.note_diagnostics(statuses(
        ('robot/arm: motor', ERROR), ('/robot/arm: joint', ERROR), ('arm: motor', ERROR),
        ('leg: motor', ERROR), ('leg: joint', ERROR), ('robot/arm2: motor', ERROR), ('', ERROR)))
    assert said == [f'error of {name}: hot' for name in (
        'robot/arm: motor', '/robot/arm: joint', 'leg: motor')]


def test_names_without_end_take_no_memory_without_end(watch):
    conditions, said = watch()
    for number in range(MOST_ERRORS + 10):
        conditions.note_diagnostics(statuses((str(number), ERROR)))
    assert len(said) == MOST_ERRORS + 10
    assert len(conditions._errors) == MOST_ERRORS


def test_a_domain_is_told_when_it_was_one_and_is_none(watch):
    conditions, said = watch()
    for text in ('{"domain": null, "state": "undecided", "why": "not decided yet"}',
                 '{"domain": "outdoor"}', '{', '3', '{"domain": "indoor"}',
                 '{"domain": null, "state": "none", "why": "dark"}',
                 '{"domain": null, "state": "none", "why": "dark still"}'):
        conditions.note_domain('/a/domain', text_message(text))
        conditions.note_domain('/a/domain', text_message('""')[:-3] + b'\xff\xfe\0')
        conditions.note_domain('/b/domain', text_message('{"domain": "outdoor"}'))
    assert said == ['/a/domain was indoor, and is none: dark']


def test_a_node_that_starts_anew_has_lost_nothing(watch, own_peer):
    topic = f'{own_peer.node.get_namespace()}/univseg/domain'
    conditions, said = watch(topics=lambda: [topic])

    conditions.note_domain(topic, text_message('{"domain": "outdoor"}'))
    own_peer.wait_until(lambda: not conditions._domains, 'that it is forgotten')
    conditions.note_domain(topic, text_message('{"domain": null, "state": "none"}'))
    assert said == []


def test_what_is_no_condition_is_not_subscribed_to(watch, own_peer):
    before = len(list(own_peer.node.subscriptions))
    watch(conditions=['confidence'], topics=lambda: ['/never'])
    assert len(list(own_peer.node.subscriptions)) == before


def test_nothing_is_told_any_more_when_it_is_closed(watch):
    conditions, said = watch()
    conditions.close()
    conditions.note_diagnostics(statuses(('arm', ERROR)))
    assert said == []
