"""What tests read in the folder of a run, and how they keep a training short."""

from contextlib import contextmanager
import csv
import json
from unittest.mock import patch

import pytest
from safetensors import safe_open
from safetensors.torch import load_file
import torch
from univseg_core.reporting.run_log import RunLog
from univseg_core.settings.config import load_config
from univseg_core.training import run, trainer, validation
from univseg_core.training.safety import check_loss, TrainingError


def rows(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def checkpoint(folder):
    """Return what a checkpoint holds besides its tensors."""
    with safe_open(folder / 'checkpoint.safetensors', framework='pt') as file:
        return json.loads(file.metadata()['checkpoint'])


def checkpoint_step(folder):
    return checkpoint(folder)['step']


def differing(file, other):
    """Return the names of the tensors that are not bit-equal in two files."""
    tensors, others = load_file(file), load_file(other)
    return sorted(tensors.keys() ^ others.keys()) + [
        key for key, tensor in tensors.items()
        if key in others and not torch.equal(tensor, others[key])]


def short(values, write_config, *overrides):
    """Return the tiny configuration with as few steps as give one row of the log."""
    return load_config(write_config(values), ['training.steps=10', *overrides])


def leave_out_pictures(monkeypatch):
    """Leave out what takes as long as a tiny training: its pictures, and what memory it needs."""
    monkeypatch.setattr(validation, 'draw_curves', lambda folder: (folder / 'curves.png').touch())
    monkeypatch.setattr(RunLog, 'pictures', lambda *_: None)
    monkeypatch.setattr(run, 'check_memory', lambda *_: None)


def leave_out_training(monkeypatch):
    """Have runs do all that comes before their first step alone."""
    monkeypatch.setattr(run, 'label_embeddings_of_run', lambda *_: {})
    monkeypatch.setattr(run, 'fit', lambda *_: {})


SUPERVISED = ('objective.alpha=0', 'objective.beta=0')


@contextmanager
def broken_off_at_step(step):
    """Have the training within the block break off at a step, and see that it does."""
    def fail(loss, gradient, where, files):
        if where.endswith(f'step {step}'):
            raise TrainingError('enough')
        check_loss(loss, gradient, where, files)

    with patch.object(trainer, 'check_loss', fail), pytest.raises(TrainingError, match='enough'):
        yield
