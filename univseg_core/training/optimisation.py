"""The optimiser and the learning-rate schedule of a training."""

import torch
from torch import nn
from univseg_core.config import TrainingSection


def new_optimizer(settings: TrainingSection, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of a network's parameters."""
    if settings.optimizer == 'sgd':
        return torch.optim.SGD(network.parameters(), lr=settings.learning_rate,
                               momentum=settings.momentum, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(network.parameters(), lr=settings.learning_rate,
                             weight_decay=settings.weight_decay)


def new_scheduler(settings: TrainingSection, optimizer: torch.optim.Optimizer,
                  steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the schedule of a training of `steps` steps, stepped once after each."""
    if settings.schedule == 'polynomial':
        return torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, settings.power)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.learning_rate, total_steps=steps, cycle_momentum=False)
