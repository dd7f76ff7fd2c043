"""What the recorder finds of itself."""

from collections import Counter
from types import SimpleNamespace

from diagnostic_msgs.msg import DiagnosticStatus
import pytest
from univseg_core.recording.recorder import Status
from univseg_ros.recorder_diagnostics import RecordingWatch, summary

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def status(counts=(), **changed):
    facts = {'paused': False, 'trouble': '', 'bag': 'b', 'file': 'b_0.mcap', 'bag_bytes': 1,
             'written_bytes': 2, 'queued_bytes': 3, 'free_bytes': 4, 'dropped_files': 5}
    return Status({'/front': Counter(dict(counts))} if counts else {}, **{**facts, **changed})


@pytest.fixture
def findings():
    """Return a function that says what is found of a status, as (level, text)."""
    def find(found):
        cameras = SimpleNamespace(topics=['/front'], silence=lambda timeout: {})
        watch = RecordingWatch(SimpleNamespace(status=lambda: found), cameras, None)
        return [(finding.level, finding.text) for finding in watch.look(5.0)[0]]
    return find


def test_losses_are_warnings_with_the_reason(findings):
    assert findings(status({'queue full': 3, 'failed': 2, 'rate': 9})) == [
        (WARN, '3 images of the last 10 s are not kept: the disk was too slow: the queue was '
               'full'),
        (WARN, '2 images of the last 10 s are not kept: it could not be written'),
        (OK, 'no image was kept')]


def test_an_end_and_a_pause_are_told(findings):
    assert findings(status(trouble='recording ended: full', paused=True)) == [
        (ERROR, 'recording ended: full'), (WARN, 'recording is paused')]


def test_images_that_the_model_has_no_time_for_are_no_trouble_but_none_is(findings):
    assert [level for level, _ in findings(status({'unjudged': 20, 'sure': 1}))] == [OK]
    (level, text), _ = findings(status({'unjudged': 20}))
    assert (level, text) == (WARN, 'none of 20 images was judged by the model: does the '
                                   'segmentation node get the same images?')


def test_images_that_the_model_found_familiar_were_judged(findings):
    for outcome in ('familiar', 'rate', 'kept'):
        assert [level for level, _ in findings(status({'unjudged': 20, outcome: 1}))] == [OK]


def test_what_is_in_memory_is_told_and_that_it_is_too_small(findings):
    facts = {'held_seconds': 7.5, 'triggers': 0, 'last_trigger': ''}
    assert findings(status(facts=facts)) == [(OK, 'the last 7.5 s are in memory')]
    assert findings(status({'memory full': 30}, facts=facts)) == [
        (WARN, '30 images of the last 10 s were let go before their time: flight_memory has no '
               'room for flight_before seconds'), (OK, 'the last 7.5 s are in memory')]
    assert summary('active', status(facts=facts)).items() >= facts.items()


def test_only_the_last_seconds_count(monkeypatch):
    now = [100.0]
    monkeypatch.setattr('univseg_ros.recorder_diagnostics.time.monotonic', lambda: now[0])
    told = [status()]
    cameras = SimpleNamespace(topics=['/front'], silence=lambda timeout: {})
    watch = RecordingWatch(SimpleNamespace(status=lambda: told[0]), cameras, None)
    for second in range(1, 31):
        now[0] = 100.0 + second
        told[0] = status({'kept': 10 * second, 'queue full': min(second, 3)})
        findings, values = watch.look(0.0)
    assert [finding.text for finding in findings] == ['recording 10.0 images a second']
    assert values['recording rate [Hz]'] == '10.00'
    assert values['images not kept, queue full'] == '3'


def test_the_summary_tells_each_topic_with_what_happened():
    assert summary('inactive', None) == {'state': 'inactive'}
    told = summary('active', status({'kept': 2, 'rate': 3}))
    assert told['topics'] == {'/front': {'seen': 5, 'kept': 2, 'rate': 3}}
    assert (told['state'], told['file'], told['free_bytes']) == ('active', 'b_0.mcap', 4)
