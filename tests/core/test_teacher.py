"""The mean teacher, the mixed crops that its pupil sees, and class weights."""

from lightning.fabric import Fabric
import numpy as np
import pytest
from tiny_worlds import small_network
import torch
from univseg_core.config import ObjectiveSection
from univseg_core.data.mixture import Batch
from univseg_core.objectives import consistency_loss, masked_cross_entropy, valid_cells
from univseg_core.training.class_balance import balanced
from univseg_core.training.cut_mix import CutMix, random_cut_mix
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


def test_it_answers_as_the_head_does(batch):
    network = small_network()
    probabilities = MeanTeacher(network).probabilities(batch.images, 'indoor')
    with torch.no_grad():
        expected = network.logits(network.features(batch.images), 'indoor').softmax(1)
    assert torch.equal(probabilities, expected)
    assert probabilities.shape == (7, 2, 3, 5)


def test_crops_are_mixed_as_their_labels_are():
    """A cell that says where it comes from, and an image that says it in each pixel."""
    mix = random_cut_mix(3, (24, 36), np.random.default_rng(3))
    assert mix.inside.shape == (3, 3, 5)
    assert mix.inside.flatten(1).any(1).all()
    assert not mix.inside.flatten(1).all(1).any()
    cells = mix.of_cells(torch.arange(3)[:, None, None].expand(3, 3, 5))
    assert torch.equal(cells, torch.where(mix.inside, torch.tensor([2, 0, 1])[:, None, None],
                                          torch.arange(3)[:, None, None]))
    channels = torch.stack([cells, 10 * cells], 1)
    values = torch.arange(3)[:, None, None].expand(3, 3, 5)
    assert torch.equal(mix.of_cells(torch.stack([values, 10 * values], 1)), channels)
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


def test_the_consistency_is_the_cross_entropy_of_what_is_there():
    generator = torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 2, generator=generator)
    probabilities = torch.rand(2, 3, 2, 2, generator=generator).softmax(1)
    valid = torch.tensor([[[1, 0], [1, 1]], [[0, 1], [0, 0]]]).bool()
    expected = 0.0
    for b, y, x in valid.nonzero().tolist():
        scores = logits[b, :, y, x].double()
        shares = probabilities[b, :, y, x].double()
        expected -= (shares * (scores - scores.exp().sum().log())).sum().item()
    assert consistency_loss(logits, probabilities, valid).item() == pytest.approx(expected / 4)
    assert consistency_loss(logits, probabilities, valid,
                            torch.tensor(20)).item() == pytest.approx(expected / 20)


def test_a_lesson_leaves_labelled_crops_as_they_are(batch):
    teacher = MeanTeacher(small_network())
    images, lessons = taught(teacher, batch, np.random.default_rng(0))
    assert torch.equal(images[:2], batch.images[:2])
    assert not torch.equal(images[2:], batch.images[2:])
    generator = np.random.default_rng(0)
    for name, rows in UNLABELLED.items():
        mix = random_cut_mix(rows.stop - rows.start, (24, 40), generator)
        assert torch.equal(images[rows], mix.of_images(batch.images[rows]))
        probabilities, valid = lessons[name]
        assert torch.equal(probabilities, mix.of_cells(teacher.probabilities(
            batch.images[rows], name)))
        assert torch.equal(valid, mix.of_cells(valid_cells(batch.targets[rows])))
        assert not valid[:, 2].any()


@pytest.mark.parametrize(('warmup', 'rise'), [(0, 1), (10, 0.5)])
def test_a_step_with_a_teacher(batch, warmup, rise):
    network = small_network()
    supervision = Supervision(teacher=MeanTeacher(network))
    objective = ObjectiveSection(alpha=0, beta=0, consistency=0.8, warmup_steps=warmup)
    counts = step_counts(FABRIC, [batch], objective)
    losses, values = batch_losses(network, batch, counts, objective, 5, supervision,
                                  np.random.default_rng(7))
    images, lessons = taught(supervision.teacher, batch, np.random.default_rng(7))
    expected = sum(consistency_loss(network.logits(network.features(images)[rows], name),
                                    *lessons[name]) for name, rows in UNLABELLED.items())
    torch.testing.assert_close(losses.consistency, expected)
    torch.testing.assert_close(losses.total, losses.supervised + rise * 0.8 * expected)
    torch.testing.assert_close(values['consistency'], expected.detach())


def test_each_step_mixes_in_its_own_way_and_always_the_same(batch):
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


def test_no_cell_comes_from_elsewhere_without_a_box():
    mix = CutMix(torch.zeros(2, 1, 1, dtype=torch.bool))
    values = torch.tensor([[[4]], [[5]]])
    assert torch.equal(mix.of_cells(values), values)
