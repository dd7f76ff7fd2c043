"""Checkpoints: going on is as if nothing had happened, and a damaged one is told."""

import json

from lightning_fabric.plugins import MixedPrecision, Precision
import pytest
from safetensors import safe_open, SafetensorError
from safetensors.torch import save_file
from tiny_worlds import small_network
import torch
from univseg_core.errors import UnivsegError
from univseg_core.models.normalisation import IMAGENET, Normalisation
from univseg_core.models.weights import Weights
from univseg_core.training import checkpoint as checkpoint_module
from univseg_core.training.checkpoint import (
    Beginning,
    CheckpointError,
    load_checkpoint,
    read_beginning,
    save_checkpoint,
)

STEPS = 12
ROWS = {'outdoor': slice(0, 2), 'indoor': slice(2, 4)}


class Run:
    """A network in training on random images, with what a checkpoint holds of it."""

    def __init__(self, seed=0):
        self.network = small_network(seed=seed).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=0.01, total_steps=STEPS, cycle_momentum=False)
        self.precision = Precision()

    def train(self, first, stop):
        for step in range(first, stop):
            images = torch.rand(4, 3, 16, 24, generator=torch.manual_seed(step)) * 255
            logits, *_ = self.network(images, ROWS, {})
            self.optimizer.zero_grad()
            sum(scores.square().mean() for scores in logits.values()).backward()
            self.optimizer.step()
            self.scheduler.step()
        return self

    def save(self, path, step):
        save_checkpoint(path, step, self.network, self.optimizer, self.scheduler,
                        self.precision)
        return path

    def load(self, path):
        return load_checkpoint(path, self.network, self.optimizer, self.scheduler,
                               self.precision)

    def state(self):
        """Return everything that decides how it goes on."""
        tensors = dict(self.network.state_dict())
        for i, moments in self.optimizer.state_dict()['state'].items():
            tensors |= {f'{i}.{key}': value for key, value in moments.items()}
        return tensors, self.scheduler.get_last_lr(), self.optimizer.param_groups[0]['lr']


@pytest.fixture
def saved(tmp_path):
    """Return a sound checkpoint after 5 steps."""
    return Run().train(0, 5).save(tmp_path / 'checkpoint.safetensors', 5)


def change(path, by):
    """Write a checkpoint anew with what `by` makes of its tensors and metadata, in place."""
    with safe_open(path, framework='pt') as file:
        metadata = json.loads(file.metadata()['checkpoint'])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    by(tensors, metadata)
    save_file(tensors, path, metadata={'checkpoint': json.dumps(metadata)})


def assert_equal(run, other):
    (tensors, *rates), (other_tensors, *other_rates) = run.state(), other.state()
    assert tensors.keys() == other_tensors.keys()
    assert [key for key in tensors if not torch.equal(tensors[key], other_tensors[key])] == []
    assert rates == other_rates


@pytest.mark.parametrize('stop', [1, 5, STEPS - 1])
def test_going_on_gives_bit_equal_weights(tmp_path, stop):
    path = Run().train(0, stop).save(tmp_path / 'checkpoint.safetensors', stop)
    continued = Run(seed=1)  # other weights, which the checkpoint replaces
    assert continued.load(path) == stop
    assert_equal(continued, Run().train(0, stop))
    assert_equal(continued.train(stop, STEPS), Run().train(0, STEPS))


def test_a_checkpoint_before_the_first_step_is_one(tmp_path):
    path = Run().save(tmp_path / 'checkpoint.safetensors', 0)
    continued = Run(seed=1)
    assert continued.load(path) == 0
    assert_equal(continued.train(0, 2), Run().train(0, 2))


def test_the_gradient_scale_of_fp16_goes_on(tmp_path):
    run, continued = Run(), Run(seed=1)
    scaler, fresh = torch.amp.GradScaler('cpu'), torch.amp.GradScaler('cpu')
    run.precision = MixedPrecision('16-mixed', 'cpu', scaler)
    continued.precision = MixedPrecision('16-mixed', 'cpu', fresh)
    scaler.scale(torch.ones(()))
    scaler.update(1024.0)
    continued.load(run.save(tmp_path / 'checkpoint.safetensors', 0))
    assert continued.precision.state_dict() == scaler.state_dict()
    assert fresh.get_scale() == 1024


def test_sgd_without_momentum_has_no_state_to_keep(tmp_path):
    run, continued = Run(), Run(seed=1)
    for each in (run, continued):
        each.optimizer = torch.optim.SGD(each.network.parameters(), lr=0.01)
        each.scheduler = torch.optim.lr_scheduler.PolynomialLR(each.optimizer, STEPS)
    continued.load(run.train(0, 2).save(tmp_path / 'checkpoint.safetensors', 2))
    assert_equal(continued.train(2, 4), run.train(2, 4))


def test_a_checkpoint_says_what_a_training_began_with(tmp_path):
    run, path = Run(), tmp_path / 'checkpoint.safetensors'
    assert read_beginning(path) is None
    beginning = Beginning(Weights('a package', 'abc'), Normalisation((0, 0.5, 1), (1, 0.5, 1)))
    for each in (beginning, Beginning(None, IMAGENET)):
        save_checkpoint(path, 0, run.network, run.optimizer, run.scheduler, run.precision,
                        beginning=each)
        assert read_beginning(path) == each


def test_a_checkpoint_of_an_earlier_version_says_nothing_of_it(saved):
    change(saved, lambda tensors, metadata: metadata.pop('beginning'))
    assert read_beginning(saved) is None
    assert Run().load(saved) == 5
    change(saved, lambda tensors, metadata: metadata.update(beginning={'began_with': {}}))
    with pytest.raises(CheckpointError, match=r'normalisation.*may be good'):
        read_beginning(saved)


@pytest.mark.parametrize('share', [0, 0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_told(saved, share):
    data = saved.read_bytes()
    saved.write_bytes(data[:int(share * len(data))])
    message = r'checkpoint\.safetensors: cannot be continued from .*remove it to start again'
    with pytest.raises(CheckpointError, match=message):
        Run().load(saved)
    with pytest.raises(CheckpointError, match=message):
        read_beginning(saved)


@pytest.mark.parametrize(('error', 'advice'), [
    (OSError(5, 'Input/output error'), 'may be good: see to its disk'),
    (SafetensorError('Input/output error (os error 5)'), 'may be good: see to its disk'),
    (SafetensorError('Error while deserializing header: header too small'), 'damaged: remove it'),
    (RuntimeError('size mismatch for head_indoor.bias'), 'may be good, but is of another')])
def test_a_file_that_may_be_good_is_not_to_be_removed(saved, monkeypatch, error, advice):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(checkpoint_module, 'read_tensors', fail)
    with pytest.raises(CheckpointError, match=f'cannot be continued from .*{advice}') as told:
        Run().load(saved)
    assert ('remove it' in str(told.value)) == ('remove it' in advice)


def test_a_gpu_without_memory_for_a_checkpoint_is_no_fault_of_the_file(saved, monkeypatch):
    def fail(*arguments, **options):
        raise torch.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(checkpoint_module, 'read_tensors', fail)
    with pytest.raises(torch.OutOfMemoryError):
        Run().load(saved)


def test_a_missing_checkpoint_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r'none\.safetensors: cannot be continued from'):
        Run().load(tmp_path / 'none.safetensors')


@pytest.mark.parametrize('damage', [
    lambda t, m: t.pop('model.head_indoor.bias'),
    lambda t, m: t.update({'model.head_indoor.bias': torch.zeros(3)}),
    lambda t, m: t.update({'model.head_attic.bias': torch.zeros(3)}),
    lambda t, m: t.update({'nothing': torch.zeros(3)}),
    lambda t, m: m.pop('groups'),
    lambda t, m: m.pop('scheduler'),
    lambda t, m: m.pop('precision'),
    lambda t, m: m.pop('step'),
    lambda t, m: m['groups'][0]['params'].pop(),
])
def test_a_checkpoint_of_something_else_is_told(saved, damage):
    change(saved, damage)
    with pytest.raises(CheckpointError, match=r'checkpoint\.safetensors: cannot be continued'):
        Run().load(saved)


@pytest.mark.parametrize('metadata', [None, {'other': '{}'}, {'checkpoint': '{"step": '},
                                      {'checkpoint': '[]'}])
def test_another_safetensors_file_is_told(tmp_path, metadata):
    save_file({'model.a': torch.zeros(1)}, tmp_path / 'other.safetensors', metadata=metadata)
    with pytest.raises(CheckpointError, match=r'other\.safetensors: cannot be continued'):
        Run().load(tmp_path / 'other.safetensors')


def test_a_full_disk_keeps_the_older_checkpoint(saved, full_disk):
    before = saved.read_bytes()
    run = Run(seed=1).train(0, 1)
    with full_disk(), pytest.raises((UnivsegError, OSError)):
        run.save(saved, 6)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
