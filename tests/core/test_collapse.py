"""The perplexity of the mean assignment, and what is said when it falls."""

import math

import pytest
import torch
from univseg_core.method.collapse import CollapseMonitor, perplexities, perplexity, WINDOW


@pytest.mark.parametrize(('shares', 'expected'), [
    ([1, 0, 0], 1), ([0.5, 0.5, 0], 2), ([0.2] * 5, 5), ([2, 2, 2, 2], 4), ([0, 0], 0),
    ([0.75, 0.25], math.exp(math.log(4) - 0.75 * math.log(3)))])
def test_perplexity_is_how_many_are_in_use(shares, expected):
    assert perplexity(torch.tensor(shares, dtype=torch.float64)) == pytest.approx(expected)


def test_each_pair_of_domains_has_one():
    values = {'assignment/a/b': torch.ones(4), 'labels/a': torch.ones(2),
              'taught/a': torch.tensor([0.5, 0.5, 0.0])}
    assert perplexities(values) == {'perplexity/a/b': pytest.approx(4),
                                    'taught_classes/a': pytest.approx(2)}


def said_by(monitor, steps, assignment, labels=(0.25, 0.25, 0.25, 0.25), nearest=None):
    """Return what a monitor says of steps that are all alike, by step."""
    values = {'assignment/a/a': torch.tensor(assignment), 'labels/a': torch.tensor(labels),
              'nearest/a': torch.tensor(nearest or assignment)}
    return {step: message for step in steps for message in monitor.add(step, values)}


HEALTHY, COLLAPSED = (0.3, 0.3, 0.2, 0.2), (0.97, 0.01, 0.01, 0.01)


def test_a_collapse_is_told_within_a_hundred_steps_and_once():
    monitor = CollapseMonitor()
    assert not said_by(monitor, range(1, 231), HEALTHY)
    said = said_by(monitor, range(231, 1000), COLLAPSED)
    ((step, message),) = said.items()
    assert 231 < step <= 231 + 2 * WINDOW <= 331
    assert message.startswith(f'a: by step {step}, the embedding has collapsed: ')
    assert 'use 1.2 classes of its label embeddings' in message
    assert 'while its labels show 4.0' in message
    assert 'label_embeddings.basis=joint' in message


def test_a_teacher_that_takes_all_for_one_class_is_told():
    def said(steps, taught, monitor):
        values = {'taught/a': torch.tensor(taught), 'labels/a': torch.tensor((0.25,) * 4)}
        return {step: message for step in steps for message in monitor.add(step, values)}

    monitor = CollapseMonitor()
    assert not said(range(1, 231), HEALTHY, monitor)
    ((step, message),) = said(range(231, 1000), COLLAPSED, monitor).items()
    assert 231 < step <= 331
    assert message.startswith(f'a: by step {step}, the mean teacher has collapsed: it takes '
                              'unlabelled pixels for 1.2 classes, while the labels show 4.0; ')
    assert 'objective.consistency' in message


def test_another_collapse_after_a_recovery_is_told_again():
    monitor = CollapseMonitor()
    assert said_by(monitor, range(1, 101), COLLAPSED)
    assert not said_by(monitor, range(101, 301), HEALTHY)
    assert said_by(monitor, range(301, 401), COLLAPSED)


def test_one_answer_for_all_is_a_collapse_however_soft_it_is():
    """As at a high temperature: every assignment is nearly even, and every pixel's the same."""
    soft = (0.3, 0.25, 0.25, 0.2)
    monitor = CollapseMonitor()
    (message,) = said_by(monitor, range(1, 101), soft, nearest=(1.0, 0.0, 0.0, 0.0)).values()
    assert 'has one answer for all, though a soft one yet' in message
    assert 'has collapsed' in said_by(monitor, range(101, 201), COLLAPSED)[150]
    assert not said_by(CollapseMonitor(), range(1, 101), soft, nearest=(0.6, 0.4, 0.0, 0.0))


def test_the_label_embeddings_of_a_class_count_as_one():
    """All pixels use the three of one class evenly: that is one class of four."""
    shares = (1 / 3, 1 / 3, 1 / 3, *9 * (0.0,))
    assert said_by(CollapseMonitor(3), range(1, 101), shares)
    assert not said_by(CollapseMonitor(1), range(1, 101), shares)


def test_a_run_that_has_just_begun_is_not_judged_by_a_few_steps():
    assert not said_by(CollapseMonitor(), range(30, 80), COLLAPSED)
    assert said_by(CollapseMonitor(), range(30, 101), COLLAPSED)


@pytest.mark.parametrize(('assignment', 'labels'), [
    ((0.25, 0.25, 0.25, 0.25), (1.0, 0.0, 0.0, 0.0)),  # the labels show one class alone
    (COLLAPSED, (1.0, 0.0, 0.0, 0.0)),
    ((0.9, 0.1, 0.0, 0.0), (0.9, 0.1, 0.0, 0.0)),  # mostly road, as the labels say
])
def test_a_place_that_has_few_classes_is_no_collapse(assignment, labels):
    assert not said_by(CollapseMonitor(), range(1, 201), assignment, labels)


def test_a_domain_without_unlabelled_images_is_not_judged():
    monitor = CollapseMonitor()
    values = {'assignment/a/b': torch.tensor(COLLAPSED), 'labels/b': torch.tensor([0.5, 0.5])}
    assert not [message for step in range(1, 201) for message in monitor.add(step, values)]
