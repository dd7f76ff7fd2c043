"""
The state of an unfinished training, as a safetensors file: no pickle is ever loaded.

The states of random generators are not part of it: a batch depends on the run's seed and the
step alone, and the network has no random layer.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import json
from pathlib import Path

from lightning_fabric.plugins import Precision
from safetensors import SafetensorError
import torch
from torch import nn
from univseg_core.errors import shortened, UnivsegError
from univseg_core.files.records import parse_json
from univseg_core.machine.memory import is_out_of_memory
from univseg_core.models.normalisation import Normalisation
from univseg_core.models.tensor_files import (
    read_shapes,
    read_tensors,
    save_tensors,
    TensorFileError,
)
from univseg_core.models.weights import Weights

CHECKPOINT = 'checkpoint.safetensors'
"""The name of a checkpoint in the folder of a training."""

PASSING = ('I/O', 'os error')
"""What safetensors says where a disk, and not a file, is at fault."""


class CheckpointError(UnivsegError):
    """A checkpoint that cannot be continued from."""


@dataclass(frozen=True)
class Beginning:
    """What a network has, besides its state, of the files that its training began with."""

    began_with: Weights | None
    normalisation: Normalisation

    def to_dict(self) -> dict:
        """Return it as plain JSON values."""
        return {'began_with': self.began_with.to_dict() if self.began_with else None,
                'normalisation': self.normalisation.to_dict()}

    @classmethod
    def from_dict(cls, values: dict) -> 'Beginning':
        """Return it from what to_dict gives; KeyError, TypeError or ValueError for others."""
        weights = values['began_with']
        return cls(Weights(**weights) if weights else None,
                   Normalisation.from_dict(values['normalisation']))


def save_checkpoint(path: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer,
                    scheduler: torch.optim.lr_scheduler.LRScheduler,
                    precision: Precision, teacher: nn.Module | None = None,
                    beginning: Beginning | None = None) -> None:
    """
    Write the state after `step` optimiser steps, whole or not at all.

    `precision` is the engine's, which holds the gradient scale of fp16. With the `beginning`, no
    file that the training began with is needed any more.
    """
    state = optimizer.state_dict()
    tensors = {f'model.{key}': value for key, value in model.state_dict().items()}
    tensors |= {f'optimizer.{index}.{key}': value
                for index, values in state['state'].items() for key, value in values.items()
                if value is not None}  # SGD without momentum has an empty place for it
    if teacher is not None:
        tensors |= {f'teacher.{key}': value for key, value in teacher.state_dict().items()}
    metadata = {'step': step, 'groups': state['param_groups'],
                'scheduler': scheduler.state_dict(), 'precision': precision.state_dict(),
                'beginning': beginning.to_dict() if beginning else None}
    save_tensors(path, tensors, {'checkpoint': json.dumps(metadata)})


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer,
                    scheduler: torch.optim.lr_scheduler.LRScheduler,
                    precision: Precision, teacher: nn.Module | None = None) -> int:
    """
    Put a checkpoint's state into a model and what else it is trained with; return its step.

    Raises CheckpointError where the file is damaged or of another model.
    """
    with _damage_told(path):
        tensors, texts = read_tensors(path)
        metadata = parse_json(texts['checkpoint'])
        parts: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
        for key, value in tensors.items():
            part, name = key.split('.', 1)
            parts[part][name] = value
        moments: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
        for key, value in parts['optimizer'].items():
            index, name = key.split('.')
            moments[int(index)][name] = value
        model.load_state_dict(parts['model'])
        if teacher is not None:
            teacher.load_state_dict(parts['teacher'])
        optimizer.load_state_dict({'state': moments, 'param_groups': metadata['groups']})
        _lay_out_like_parameters(optimizer)
        scheduler.load_state_dict(metadata['scheduler'])
        precision.load_state_dict(metadata['precision'])
        return metadata['step']


def read_beginning(path: Path) -> Beginning | None:
    """
    Return what a checkpoint has of the files that its training began with.

    None where there is no checkpoint, or one of an earlier version, which lacks it: then these
    files are needed again. Raises CheckpointError where it is damaged.
    """
    if not path.exists():
        return None
    with _damage_told(path):
        values = parse_json(read_shapes(path)[1]['checkpoint']).get('beginning')
        return None if values is None else Beginning.from_dict(values)


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Raise CheckpointError, with what to do, where a checkpoint cannot be read in the block."""
    try:
        yield
    except (SafetensorError, OSError, ArithmeticError, AttributeError, LookupError, TypeError,
            ValueError, RuntimeError) as error:
        if is_out_of_memory(error):  # the file may be good
            raise
        raise CheckpointError(f'{path}: cannot be continued from ({shortened(str(error), 2000)}); '
                              + what_to_do(error, 'remove it to start again')) from error


def what_to_do(error: Exception, cure: str) -> str:
    """
    Return what to do where a file of tensors could not be read, with a cure for a damaged one.

    It is not to be removed where it may be good: a disk may be away, the program another.
    """
    if isinstance(error, SafetensorError) and not any(sign in str(error) for sign in PASSING):
        return f'it is damaged: {cure}'
    if isinstance(error, TensorFileError):
        return 'the file may be good: set another limit, or name another --run folder'
    if isinstance(error, (OSError, SafetensorError)):
        return 'the file may be good: see to its disk, and try again'
    return ('the file may be good, but is of another network or version of this program: name '
            'another --run folder')


def _lay_out_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give the moments their parameters' memory format: a file has them all contiguous."""
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                values[key] = torch.empty_like(parameter).copy_(value)
