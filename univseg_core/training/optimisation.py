"""The optimiser and the learning-rate schedule of a training."""

from typing import Any

import torch
from torch import nn
from univseg_core.settings.learning import TrainingSection


def new_optimizer(settings: TrainingSection, network: nn.Module,
                  pretrained: nn.Module | None = None) -> torch.optim.Optimizer:
    """
    Return the optimiser of a network's parameters.

    Those of its part `pretrained`, if any, are the first group, with `encoder_rate`.
    """
    groups: list[dict[str, Any]] = [{'params': list(network.parameters())}]
    if pretrained is not None and settings.encoder_rate != 1:
        theirs = list(pretrained.parameters())
        own = {id(parameter) for parameter in theirs}
        groups = [{'params': theirs, 'lr': settings.encoder_rate * settings.learning_rate},
                  {'params': [p for p in network.parameters() if id(p) not in own]}]
    if settings.optimizer == 'sgd':
        return torch.optim.SGD(groups, lr=settings.learning_rate,
                               momentum=settings.momentum, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(groups, lr=settings.learning_rate,
                             weight_decay=settings.weight_decay)


def new_scheduler(settings: TrainingSection, optimizer: torch.optim.Optimizer,
                  steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the schedule of a training of `steps` steps, stepped once after each."""
    if settings.schedule == 'polynomial':
        return torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, settings.power)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[group['lr'] for group in optimizer.param_groups], total_steps=steps,
        cycle_momentum=False)
