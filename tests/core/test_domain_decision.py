"""Which domain a camera is in: several frames decide, and what is decided stays for a while."""

import math
import random

import pytest
from univseg_core.inference import domain_decision
from univseg_core.inference.domain_decision import (
    Decision,
    DecisionRule,
    DomainDecision,
    PAUSE,
)
from univseg_core.models.domain_evidence import Recognition


def seen(outdoor, unfamiliarity=0.0):
    """Return what a frame seems to be, outdoor with this probability, else indoor."""
    return Recognition({'outdoor': outdoor, 'indoor': 1 - outdoor}, unfamiliarity)


def decided(frames, rule=None):
    """Return the domain that is decided for each of some frames."""
    decision = DomainDecision()
    return [decision.see(frame, rule or DecisionRule()).domain for frame in frames]


def test_nothing_is_decided_before_as_many_frames_as_the_rule_names():
    assert decided([seen(1.0)] * 6) == [None] * 4 + ['outdoor'] * 2
    assert decided([seen(1.0)] * 2, DecisionRule(frames=1)) == ['outdoor'] * 2


def test_a_change_of_place_shows_with_the_fourth_of_five_frames():
    # The mean of 3 in 5 is 0.6, of 4 in 5 is 0.8; switch is 0.7.
    frames = [seen(1.0)] * 5 + [seen(0.0)] * 5
    assert decided(frames)[4:] == ['outdoor'] * 4 + ['indoor'] * 2


def test_a_few_odd_frames_change_nothing():
    frames = [seen(1.0)] * 5 + ([seen(0.0)] * 2 + [seen(1.0)] * 3) * 20
    assert set(decided(frames)[4:]) == {'outdoor'}


def test_what_is_in_between_does_not_flip():
    frames = [seen(1.0)] * 5 + [seen(0.65), seen(0.35)] * 50
    assert set(decided(frames)[4:]) == {'outdoor'}


def test_a_domain_is_left_where_its_evidence_is_gone_though_there_is_no_other():
    # 0.3 outdoor is below stay, 0.6 indoor not enough to switch.
    decision = DomainDecision()
    rule = DecisionRule(frames=1, switch=0.9, stay=0.4)
    assert decision.see(seen(1.0), rule).domain == 'outdoor'
    assert decision.see(seen(0.5), rule) == Decision(
        'outdoor', 'decided', pytest.approx(0.5, abs=1e-3), 0.0, 'still 0.50 over 1 frames')
    now = decision.see(seen(0.3), rule)
    assert (now.domain, now.state) == (None, 'undecided')
    assert now.why == ('not enough for one domain over 1 frames: outdoor 0.30, indoor 0.70, '
                       'none 0.00')


def test_unlike_all_is_none_and_comes_back():
    frames = [seen(1.0)] * 5 + [seen(1.0, 3.0)] * 5 + [seen(1.0)] * 5
    assert decided(frames)[4:] == ['outdoor'] * 4 + [None] * 5 + ['outdoor'] * 2
    decision = DomainDecision()
    for frame in frames[:10]:
        now = decision.see(frame, DecisionRule())
    assert (now.state, now.unfamiliarity) == ('none', 3.0)
    assert now.why == 'unlike all that the model was trained on: 1.00 over 5 frames'


@pytest.mark.parametrize('unfamiliar', [1.0, 2.5])
@pytest.mark.parametrize(('unfamiliarity', 'none'), [
    (1.11, 0.5), (0.86, 1 / (1 + math.e ** 2)), (1e9, 1.0), (-1e9, 0.0)])
def test_what_unfamiliarity_counts(unfamiliarity, none, unfamiliar):
    decision = DomainDecision()
    decision.see(seen(1.0, unfamiliarity * unfamiliar),
                 DecisionRule(frames=1, unfamiliar=unfamiliar))
    assert decision._mean(None) == pytest.approx(none, abs=1e-12)
    assert decision._mean('outdoor') == pytest.approx(1 - none, abs=1e-12)


def test_pinned_until_it_is_released():
    decision = DomainDecision()
    decision.pin('indoor')
    assert (decision.now.domain, decision.now.state) == ('indoor', 'pinned')
    for _ in range(6):
        assert decision.see(seen(1.0), DecisionRule()).domain == 'indoor'
    decision.release()
    assert (decision.now.domain, decision.now.state) == ('indoor', 'decided')
    assert decision.see(seen(1.0), DecisionRule()).domain == 'outdoor'
    assert decision.release() is None


def test_an_image_that_is_called_familiar_is_decided_on():
    edge = DecisionRule.unfamiliar
    assert decided([seen(1.0, edge)] * 5) == [None] * 4 + ['outdoor']
    assert decided([seen(1.0)] * 5 + [seen(1.0, 1.25 * edge)] * 5)[-1] is None


def test_after_a_pause_what_was_seen_before_says_nothing(monkeypatch):
    now = 100.0
    monkeypatch.setattr(domain_decision.time, 'monotonic', lambda: now)
    decision = DomainDecision()
    for _ in range(5):
        decision.see(seen(1.0), DecisionRule())
    now += PAUSE
    assert decision.see(seen(0.0), DecisionRule()).domain == 'outdoor'
    now += PAUSE + 0.1
    now_seen = [decision.see(seen(0.0), DecisionRule()) for _ in range(5)]
    assert [each.domain for each in now_seen] == [None] * 4 + ['indoor']
    assert now_seen[0].why == '1 of 5 frames seen'


def test_a_restart_forgets_frames_and_an_end_what_is_pinned_too_and_numbers_grow():
    decision = DomainDecision()
    decided_one = decision.see(seen(1.0), DecisionRule(frames=1))
    begun = decision.restart()
    pinned = decision.pin('indoor')
    still = decision.restart()
    off = decision.end()
    assert [(each.domain, each.state) for each in (begun, still, off)] == [
        (None, 'undecided'), ('indoor', 'pinned'), (None, 'off')]
    numbers = [each.number for each in (decided_one, begun, pinned, still, off)]
    assert numbers == sorted(set(numbers))
    assert decision.see(seen(1.0), DecisionRule()).why == '1 of 5 frames seen'


def test_whatever_comes_a_domain_that_was_taken_had_its_evidence():
    chance, rule = random.Random(0), DecisionRule(frames=7, switch=0.6, stay=0.3, unfamiliar=1.0)
    decision, before, last = DomainDecision(), None, []
    for _ in range(3000):
        frame = seen(chance.random(), chance.choice([0.0, 0.9, 1.1, 2.0]))
        known = 1 / (1 + math.exp(8 * (frame.unfamiliarity - 1.11)))
        last = [*last, {'outdoor': known * frame.probabilities['outdoor'],
                        'indoor': known * frame.probabilities['indoor']}][-7:]
        now = decision.see(frame, rule)
        if now.domain is not None:
            mean = sum(belief[now.domain] for belief in last) / len(last)
            assert mean >= (rule.stay if now.domain == before else rule.switch) - 1e-12
        before = now.domain
