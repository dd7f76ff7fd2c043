"""What ends a training before it does harm, and says what to do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import math
from pathlib import Path

import torch
from torch import nn
from univseg_core.errors import UnivsegError
from univseg_core.machine.memory import is_out_of_memory
from univseg_core.settings.config import RunConfig

EXPLODED = 1000.0
"""Nats: a loss beyond it has left all reason; guessing among 256 classes costs 5.5 a domain."""

SMALLEST_SCALE = 2.0 ** -14
"""Of fp16's gradients: with a smaller one no step has been taken for long."""

WORKER = 'DataLoader worker'
"""What PyTorch's errors name of a process that prepares batches and has ended."""

PINNING = 'Pin memory thread exited'
"""What they say where the thread that reads from it met its end first."""

ANOTHER_FOLDER = ('Other settings need another --run folder; label_embeddings.file='
                  'RUN/label_embeddings.safetensors spares it the first part.')


class TrainingError(UnivsegError):
    """A training that cannot start or go on."""


def check_loss(loss: float, gradient: float, where: str, files: Sequence[Path]) -> None:
    """
    Raise TrainingError, with the batch's files, where a step's loss or gradient is of no use.

    `loss` is in nats, `gradient` the norm of its gradient; `where` names the run and step.
    """
    if -math.inf < loss <= EXPLODED:
        if math.isfinite(gradient):
            return
        fault = f'the norm of the gradient is {gradient:.4g}'
    else:
        fault = f'the loss is {loss:.4g}'
    names = '\n  '.join(map(str, files))
    raise TrainingError(
        f'{where}: {fault}. The last checkpoint before it is kept, and the step was not taken. '
        'Lower training.learning_rate, objective.class_balance or the weights of the objective, '
        f'or look at the images of its batch. {ANOTHER_FOLDER}\n  {names}')


def gradient_norm(network: nn.Module, scale: float | None) -> float:
    """
    Return the norm of all gradients, which are left as they are.

    Under fp16, which has a gradient `scale`, gradients that are not finite are expected now and
    then: the step is skipped and the scale lowered. There, the norm is given as 0, and as
    infinite where the scale has been lowered to nothing.
    """
    if scale is not None:
        return math.inf if scale < SMALLEST_SCALE else 0.0
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients).item()


@contextmanager
def advice(config: RunConfig, where: str) -> Iterator[None]:
    """Turn running out of memory, or the loss of a worker, into a TrainingError that advises."""
    try:
        yield
    except Exception as error:
        reason = str(error).partition('\n')[0] or type(error).__name__
        if isinstance(error, RuntimeError) and reason.startswith((WORKER, PINNING)):
            if str(error.__cause__).startswith(WORKER):  # which knows more
                reason = str(error.__cause__).partition('\n')[0]
            raise TrainingError(_lost_worker(where, reason)) from error
        if not is_out_of_memory(error):
            raise
        data, training = config.data, config.training
        raise TrainingError(
            f'{where}: out of memory ({reason}). Lower data.crop_size '
            f'({data.crop_size}), data.labelled_per_domain ({data.labelled_per_domain}), '
            f'data.unlabelled_per_domain ({data.unlabelled_per_domain}) or model.width '
            f'({config.model.width:g}), or take a smaller model.encoder ({config.model.encoder}); '
            f'raise training.accumulate ({training.accumulate}), which cuts the batch into '
            'pieces; set training.precision=bf16-mixed '
            f'({training.precision}) or fewer training.workers. {ANOTHER_FOLDER}') from error


def _lost_worker(where: str, reason: str) -> str:
    """Return what is known of a worker's end, and no more."""
    if 'signal: Killed' in reason:
        advice = ('Who killed it is not known: mostly the system, when memory ran out. Fewer '
                  'training.workers need less of it')
    elif 'Bus error' in reason:
        advice = ('Shared memory or a disk has failed under it: docker run --shm-size=1g gives a '
                  'container more of the one, training.workers=0 needs none')
    else:
        advice = 'What it wrote above may say why'
    return (f'{where}: a process that prepares batches has ended ({reason}). {advice}. The same '
            'command goes on from the last checkpoint.')
