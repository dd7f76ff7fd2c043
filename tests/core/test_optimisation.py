"""The learning rate of each step, and what the optimisers do with it, by hand."""

import pytest
import torch
from torch import nn
from univseg_core.settings.learning import TrainingSection
from univseg_core.training.optimisation import new_optimizer, new_scheduler


def one_weight(value=1.0):
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def rates(settings, steps):
    """Return the learning rate of each step of a training."""
    optimizer = new_optimizer(settings, one_weight())
    scheduler = new_scheduler(settings, optimizer, steps)
    taken = []
    for _ in range(steps):
        taken.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return taken


def step(settings, layer, gradients):
    """Take a step for each gradient, the learning rate as it is at first."""
    optimizer = new_optimizer(settings, layer)
    for gradient in gradients:
        layer.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
    return layer.weight.item()


@pytest.mark.parametrize('power', [0.9, 1.0, 2.0])
@pytest.mark.parametrize('steps', [1, 4, 50])
def test_the_polynomial_schedule_is_the_papers(power, steps):
    settings = TrainingSection(optimizer='sgd', schedule='polynomial', power=power,
                               learning_rate=0.5)
    assert rates(settings, steps) == pytest.approx(
        [0.5 * (1 - i / steps) ** power for i in range(steps)], rel=1e-12)


@pytest.mark.parametrize('optimizer', ['sgd', 'adamw'])
def test_one_cycle_rises_to_its_peak_and_falls_to_nothing(optimizer):
    taken = rates(TrainingSection(optimizer=optimizer, learning_rate=0.5), 101)
    peak = taken.index(max(taken))
    assert peak == pytest.approx(0.3 * 100, abs=1)
    assert taken[peak] == pytest.approx(0.5, rel=0.01)
    assert taken[0] == pytest.approx(0.5 / 25)
    assert taken[-1] == pytest.approx(0.5 / 25 / 1e4)
    assert taken[:peak + 1] == sorted(taken[:peak + 1])
    assert taken[peak:] == sorted(taken[peak:], reverse=True)


@pytest.mark.parametrize('optimizer', ['sgd', 'adamw'])
@pytest.mark.parametrize('schedule', ['one_cycle', 'polynomial'])
def test_a_training_of_one_step_has_a_rate(optimizer, schedule):
    (rate,) = rates(TrainingSection(optimizer=optimizer, schedule=schedule), 1)
    assert 0 < rate <= 3e-3


def test_one_cycle_leaves_the_momentum_as_it_is_set():
    settings = TrainingSection(optimizer='sgd', momentum=0.7)
    optimizer = new_optimizer(settings, one_weight())
    scheduler = new_scheduler(settings, optimizer, 10)
    for _ in range(10):
        assert optimizer.param_groups[0]['momentum'] == 0.7
        optimizer.step()
        scheduler.step()


def test_sgd_has_momentum_and_weight_decay():
    settings = TrainingSection(optimizer='sgd', learning_rate=0.1, momentum=0.5,
                               weight_decay=0.2)
    # v = g + 0.2·w: 3 + 0.2 = 3.2, w = 1 − 0.32 = 0.68;
    # v = 0.5·3.2 + 1 + 0.2·0.68 = 2.736, w = 0.68 − 0.2736.
    assert step(settings, one_weight(), [3.0, 1.0]) == pytest.approx(0.4064)


def test_adamw_has_decoupled_weight_decay():
    settings = TrainingSection(learning_rate=0.1, weight_decay=0.2)
    # The decay does not pass through the moments: 1·(1 − 0.1·0.2), then AdamW's first step, ±lr.
    assert step(settings, one_weight(), [3.0]) == pytest.approx(0.98 - 0.1)
    assert step(settings, one_weight(), [0.0]) == pytest.approx(0.98)


@pytest.mark.parametrize('optimizer', ['sgd', 'adamw'])
def test_all_of_a_networks_parameters_are_optimised(optimizer):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    groups = new_optimizer(TrainingSection(optimizer=optimizer), network).param_groups
    assert [id(p) for group in groups for p in group['params']] == [
        id(p) for p in network.parameters()]
