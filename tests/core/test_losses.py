"""The terms of the loss, and their weighted sum, beside loops from the paper's equations."""

from formula_losses import close, entropy_loop, random_batch, supervised_loop
import pytest
import torch
from univseg_core.method.losses import Counts, Loss, LOSSES, StepTensors, total_loss
from univseg_core.method.objectives import counted_images
from univseg_core.settings.file import checked, ConfigError
from univseg_core.settings.objective import ObjectiveSection


def tensors_of(logits, targets, embeddings, labels, valid, *, unlabelled=None):
    """Return what a step would have, at a stride of 1, of the domains that are `unlabelled`."""
    unlabelled = list(embeddings) if unlabelled is None else unlabelled
    padding = {d: torch.where(valid[d], 0, 255).to(torch.uint8) for d in unlabelled}
    counts = Counts({d: counted_images(each) for d, each in targets.items()},
                    {d: valid[d].sum() for d in unlabelled}, {}, {}, torch.tensor(1))
    return StepTensors(logits, {}, targets, {}, padding, {},
                       {d: embeddings[d] for d in unlabelled}, {}, labels, {}, counts,
                       ObjectiveSection(), 1)


@pytest.mark.parametrize('domains', ['a', 'ab', 'abc'])
def test_total_is_that_of_eq_5(domains):
    logits, targets, embeddings, labels, valid = random_batch(domains)
    objective = ObjectiveSection(alpha=0.3, beta=0.7, warmup_steps=0)
    total, terms = total_loss(tensors_of(logits, targets, embeddings, labels, valid), objective, 1)

    supervised = sum(supervised_loop(logits[d], targets[d]) for d in domains)
    within = sum(entropy_loop(embeddings[i], labels[i], valid[i]) for i in domains)
    cross = sum(entropy_loop(embeddings[i], labels[j], valid[i]) / (len(domains) - 1)
                for i in domains for j in domains if i != j)
    assert {name: value.item() for name, value in terms.items()} == {
        'supervised': close(supervised), 'cross_entropy': close(cross),
        'within_entropy': close(within)}
    assert total.item() == close(supervised + 0.3 * cross + 0.7 * within)


def test_total_without_unsupervised_terms_is_the_supervised_loss():
    logits, targets, embeddings, _, valid = random_batch('ab')
    tensors = tensors_of(logits, targets, embeddings, {}, valid, unlabelled=())
    total, terms = total_loss(tensors, ObjectiveSection(alpha=1, beta=1), 1)
    assert total == terms['supervised']
    assert terms['cross_entropy'] == terms['within_entropy'] == 0
    assert len(terms) == 3


def test_cross_term_is_the_mean_over_others_that_have_no_unlabelled_images_themselves():
    logits, targets, embeddings, labels, valid = random_batch('abc')
    tensors = tensors_of(logits, targets, embeddings, labels, valid, unlabelled=['a'])
    _, terms = total_loss(tensors, ObjectiveSection(alpha=1), 1)
    others = [entropy_loop(embeddings['a'], labels[j], valid['a']) for j in 'bc']
    assert terms['cross_entropy'].item() == close(sum(others) / 2)


@pytest.mark.parametrize(('step', 'rise'), [(None, 1), (0, 0), (5, 0.5), (10, 1), (99, 1)])
def test_weights_rise_where_they_are_to(step, rise):
    objective = ObjectiveSection(alpha=0.5, beta=2, anchor=3, consistency=4, warmup_steps=10)
    assert {loss.name: loss.weight(objective, step) for loss in LOSSES} == {
        'supervised': 1, 'cross_entropy': 0.5 * rise, 'within_entropy': 2 * rise, 'anchor': 3,
        'consistency': 4 * rise, 'distillation': 0}


def test_what_a_run_needs_follows_from_its_terms():
    def needs(**weights):
        section = ObjectiveSection(**({'consistency': 0} | weights))
        return section.needs_unlabelled, section.needs_label_embeddings, section.mixes

    assert needs() == (False, False, False)
    assert needs(alpha=1) == needs(beta=1) == (True, True, False)
    assert needs(anchor=1) == (False, True, False)
    assert needs(consistency=1) == (True, False, True)
    assert needs(distillation={'teacher': __file__}) == (True, False, False)
    assert needs(distillation={'teacher': __file__, 'weight': 0}) == (False, False, False)


def test_each_term_has_a_name_of_its_own_and_says_what_its_weight_means():
    assert len({loss.name for loss in LOSSES}) == len({loss.setting for loss in LOSSES}) == len(
        LOSSES)
    assert all(loss.meaning for loss in LOSSES if loss.setting)
    with pytest.raises(ConfigError, match='anchor: '):
        checked(ObjectiveSection, {'anchor': -1}, 'my.yaml')


def test_one_entry_is_all_that_a_further_term_needs(monkeypatch):
    """Here the confidence of the labelled crops' masks, which is summed and weighed."""
    def confidence(step):
        return sum(logits.softmax(1).amax(1).mean() for logits in step.logits.values())

    further = Loss(confidence, 'confidence', 'Confidence', 'confidence', 'sureness', rises=True)
    monkeypatch.setattr('univseg_core.method.losses.LOSSES', (*LOSSES, further))
    logits, targets, embeddings, _, valid = random_batch('ab')
    tensors = tensors_of(logits, targets, embeddings, {}, valid, unlabelled=())

    class Section(ObjectiveSection):
        sureness: float = 0.5

    total, terms = total_loss(tensors, Section(warmup_steps=10), 5)
    expected = sum(each.softmax(1).amax(1).mean() for each in logits.values())
    assert terms['confidence'] == expected
    assert total.item() == close((terms['supervised'] + 0.25 * expected).item())
