"""The mean teacher, its lessons, the disturbances of its pupil's crops, and class weights."""

from lightning.fabric import Fabric
import numpy as np
import pytest
from tiny_worlds import INDOOR, OUTDOOR, small_network
import torch
from univseg_core.config import ObjectiveSection
from univseg_core.data.mixture import Batch
from univseg_core.objectives import consistency_loss, masked_cross_entropy, valid_cells
from univseg_core.training.class_balance import balanced
from univseg_core.training.disturbance import CutMix, disturbed, random_cut_mix
from univseg_core.training.step import (
    batch_losses,
    forward_and_backward,
    step_counts,
    Supervision,
    taught,
)
from univseg_core.training.teacher import MeanTeacher, MOMENTUM

FABRIC = Fabric(accelerator='cpu', devices=1)
LABELLED = {'outdoor': slice(0, 1), 'indoor': slice(1, 2)}
UNLABELLED = {'outdoor': slice(2, 5), 'indoor': slice(5, 7)}


@pytest.fixture
def batch():
    generator = torch.manual_seed(0)
    images = torch.randint(0, 256, (7, 3, 24, 40), generator=generator).to(torch.uint8)
    targets = torch.randint(0, 2, (7, 24, 40), generator=generator).to(torch.uint8)
    targets[:, 16:], targets[2:, :16] = 255, 0
    return Batch(images, targets, LABELLED, UNLABELLED)


def test_the_teacher_is_the_running_mean_of_the_network():
    network, other = small_network(seed=0), small_network(seed=1)
    teacher = MeanTeacher(network)
    key = 'head_outdoor.weight'
    old, new = network.state_dict()[key].clone(), other.state_dict()[key]
    teacher.update(other, step=10_000)
    torch.testing.assert_close(teacher.network.state_dict()[key],
                               MOMENTUM * old + (1 - MOMENTUM) * new)
    # At first, the mean of as many steps as there were.
    teacher = MeanTeacher(network)
    teacher.update(other, step=1)
    torch.testing.assert_close(teacher.network.state_dict()[key], (old + new) / 2)
    assert not any(p.requires_grad for p in teacher.network.parameters())
    assert not teacher.network.training


def test_its_labels_are_those_of_the_head(batch):
    network = small_network()
    labels, probability = MeanTeacher(network).labels(batch.images, 'indoor')
    with torch.no_grad():
        shares = network.logits(network.features(batch.images), 'indoor').softmax(1)
    assert torch.equal(labels, shares.argmax(1))
    assert torch.equal(probability, shares.amax(1))
    assert labels.shape == (7, 3, 5)


def test_a_label_counts_where_it_is_as_sure_as_usual_or_nearly_certain():
    teacher = MeanTeacher(small_network())
    teacher.confidence['outdoor'] = torch.tensor([0.5, 0.99, 0.0])
    labels = torch.tensor([[[0, 0, 1, 1, 2]]])
    probability = torch.tensor([[[0.49, 0.5, 0.94, 0.95, 0.1]]])
    assert teacher.counts(labels, probability, 'outdoor').tolist() == [
        [[False, True, False, True, True]]]


def test_how_sure_it_usually_is_is_a_running_mean_by_class():
    teacher = MeanTeacher(small_network())
    sums, given = torch.tensor([1.2, 0.0, 0.8]), torch.tensor([2.0, 0.0, 1.0])
    teacher.update_confidence({'outdoor': sums}, {'outdoor': given})
    torch.testing.assert_close(teacher.confidence['outdoor'], torch.tensor([0.6, 0.0, 0.8]))
    teacher.update_confidence({'outdoor': torch.tensor([0.9, 0.7, 0.0])},
                              {'outdoor': torch.tensor([1.0, 1.0, 0.0])})
    torch.testing.assert_close(teacher.confidence['outdoor'],
                               torch.tensor([0.99 * 0.6 + 0.01 * 0.9, 0.7, 0.8]))
    assert not teacher.confidence['indoor'].any()


def test_its_state_goes_into_another_one():
    one, other = MeanTeacher(small_network(seed=0)), MeanTeacher(small_network(seed=1))
    one.confidence['indoor'] += 0.3
    other.load_state({key: value.clone() for key, value in one.state().items()})
    for key, value in one.state().items():
        assert torch.equal(value, other.state()[key]), key


def test_crops_are_mixed_as_their_labels_are():
    """A cell that says where it comes from, and an image that says it in each pixel."""
    mix = random_cut_mix(3, (24, 36), np.random.default_rng(3))
    assert mix.inside.shape == (3, 3, 5)
    assert mix.inside.flatten(1).any(1).all()
    assert not mix.inside.flatten(1).all(1).any()
    cells = mix.of_cells(torch.arange(3)[:, None, None].expand(3, 3, 5))
    assert torch.equal(cells, torch.where(mix.inside, torch.tensor([2, 0, 1])[:, None, None],
                                          torch.arange(3)[:, None, None]))
    images = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 3, 24, 36)
    mixed = mix.of_images(images)
    assert mixed.dtype == torch.uint8
    for y in range(24):
        for x in range(36):
            assert torch.equal(mixed[:, 0, y, x].long(), cells[:, y // 8, x // 8])


@pytest.mark.parametrize('count', [0, 1])
def test_one_crop_alone_is_mixed_with_none(count):
    mix = random_cut_mix(count, (16, 16), np.random.default_rng(0))
    assert mix.inside.shape == (count, 2, 2)
    assert not mix.inside.any()


def test_disturbances_are_those_of_the_generator(batch):
    first, again, other = (disturbed(batch.images, np.random.default_rng(seed))
                           for seed in (1, 1, 2))
    assert first.dtype == torch.uint8
    assert first.shape == batch.images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], batch.images[0])
    assert len(disturbed(batch.images[:0], np.random.default_rng(0))) == 0


def test_the_consistency_is_the_cross_entropy_of_what_counts():
    logits = torch.randn(2, 3, 2, 2, generator=torch.manual_seed(0))
    labels = torch.tensor([[[0, 1], [2, 0]], [[1, 1], [2, 2]]])
    counts = torch.tensor([[[1, 0], [1, 1]], [[0, 1], [0, 0]]]).bool()
    expected = 0.0
    for b, y, x in counts.nonzero().tolist():
        scores = logits[b, :, y, x].double()
        expected -= (scores[labels[b, y, x]] - scores.exp().sum().log()).item()
    assert consistency_loss(logits, labels, counts).item() == pytest.approx(expected / 8)
    assert consistency_loss(logits, labels, counts, torch.tensor(20)).item() == pytest.approx(
        expected / 20)


def test_a_lesson_leaves_padding_out_and_labelled_crops_as_they_are(batch):
    teacher = MeanTeacher(small_network())
    images, lessons = taught(teacher, batch, np.random.default_rng(0))
    assert torch.equal(images[:2], batch.images[:2])
    assert not torch.equal(images[2:], batch.images[2:])
    assert set(lessons) == {'outdoor', 'indoor'}
    for name, rows in UNLABELLED.items():
        labels, probability = teacher.labels(batch.images[rows], name)
        valid = valid_cells(batch.targets[rows])
        classes = len(teacher.confidence[name])
        lesson = lessons[name]
        assert lesson.given.sum() == valid.sum()
        assert lesson.counts.sum() == valid.sum()  # nothing is known of its classes yet
        assert not lesson.counts[:, 2].any()
        for c in range(classes):
            mine = valid & (labels == c)
            assert lesson.given[c] == mine.sum()
            torch.testing.assert_close(lesson.confidence[c], probability[mine].sum())


@pytest.mark.parametrize(('warmup', 'rise'), [(0, 1), (10, 0.5)])
def test_a_step_with_a_teacher(batch, warmup, rise):
    network = small_network()
    supervision = Supervision(teacher=MeanTeacher(network))
    objective = ObjectiveSection(alpha=0, beta=0, consistency=0.8, warmup_steps=warmup)
    counts = step_counts(FABRIC, [batch], objective)
    losses, values = batch_losses(network, batch, counts, objective, 5, supervision,
                                  np.random.default_rng(7))
    images, lessons = taught(supervision.teacher, batch, np.random.default_rng(7))
    expected = 0
    for name, rows in UNLABELLED.items():
        logits = network.logits(network.features(images)[rows], name)
        lesson = lessons[name]
        expected += consistency_loss(logits, lesson.labels, lesson.counts,
                                     valid_cells(batch.targets[rows]).sum())
        assert values[f'taught/{name}'] == 1
        assert torch.equal(values[f'given/{name}'], lesson.given)
    torch.testing.assert_close(losses.consistency, expected)
    torch.testing.assert_close(losses.total, losses.supervised + rise * 0.8 * expected)
    torch.testing.assert_close(values['consistency'], expected.detach())


def test_each_step_disturbs_in_its_own_way_and_always_the_same(batch):
    objective = ObjectiveSection(alpha=0, beta=0, consistency=1)

    def consistency(step, seed):
        network = small_network()
        optimizer = torch.optim.SGD(network.parameters())
        model, _ = FABRIC.setup(network, optimizer)
        return forward_and_backward(FABRIC, model, [batch], objective, step, Supervision(
            teacher=MeanTeacher(network), seed=seed))['consistency'].item()

    assert consistency(3, 0) == consistency(3, 0)
    assert len({consistency(3, 0), consistency(4, 0), consistency(3, 1)}) == 3


def test_class_weights_balance():
    pixels = np.array([900, 90, 10, 0])
    assert balanced(pixels, 1).tolist() == pytest.approx([1 / 2.7, 1 / 0.27, 1 / 0.03, 0])
    weights = balanced(pixels, 0.5).numpy()
    assert (weights * pixels).sum() / pixels.sum() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(10 ** 0.5)
    assert weights[3] == 0


def test_class_weights_multiply_each_pixels_loss():
    logits = torch.zeros(1, 3, 1, 4)
    target = torch.tensor([[[0, 1, 1, 255]]], dtype=torch.uint8)
    loss = masked_cross_entropy(logits, target, class_weights=torch.tensor([3.0, 0.5, 9.0]))
    assert loss.item() == pytest.approx((3 + 0.5 + 0.5) / 3 * np.log(3))


def test_domains_keep_their_own_classes():
    assert {name: len(values) for name, values in MeanTeacher(
        small_network()).confidence.items()} == {
            'outdoor': len(OUTDOOR.classes), 'indoor': len(INDOOR.classes)}


def test_no_cell_comes_from_elsewhere_without_a_box():
    mix = CutMix(torch.zeros(2, 1, 1, dtype=torch.bool))
    values = torch.tensor([[[4]], [[5]]])
    assert torch.equal(mix.of_cells(values), values)
