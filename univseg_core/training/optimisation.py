"""The optimiser and the learning-rate schedule of a training."""

import torch
from univseg_core.config import TrainingSection
from univseg_core.models.encoders import pretrained_part
from univseg_core.models.universal import UniversalSegmenter


def new_optimizer(settings: TrainingSection,
                  network: UniversalSegmenter) -> torch.optim.Optimizer:
    """
    Return the optimiser of a network's parameters.

    Where encoder_rate is not 1, the pretrained part of the encoder is a group of its own.
    """
    groups = [{'params': list(network.parameters())}]
    if settings.encoder_rate != 1:
        pretrained = list(pretrained_part(network.encoder).parameters())
        own = {id(parameter) for parameter in pretrained}
        groups = [{'params': pretrained, 'lr': settings.encoder_rate * settings.learning_rate},
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
