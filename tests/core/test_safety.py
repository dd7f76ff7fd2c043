"""A training ends before it does harm, and says what to do."""

import math
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from univseg_core.settings.config import RunConfig
from univseg_core.settings.domains import DomainSection
from univseg_core.training.safety import (
    advice,
    check_loss,
    EXPLODED,
    gradient_norm,
    SMALLEST_SCALE,
    TrainingError,
)

FILES = [Path('outdoor/1.png'), Path('indoor/2.png')]


@pytest.mark.parametrize(('loss', 'gradient'), [
    (1.5, 0.1), (0.0, 0.0), (-0.1, 1.0), (EXPLODED, 1e30)])
def test_a_sound_step_passes(loss, gradient):
    check_loss(loss, gradient, 'runs/a, step 7', FILES)


@pytest.mark.parametrize(('loss', 'gradient', 'fault'), [
    (math.nan, 1.0, 'the loss is nan'),
    (math.inf, 1.0, 'the loss is inf'),
    (-math.inf, 1.0, 'the loss is -inf'),
    (1000.5, 1.0, 'the loss is 1000'),
    (1.5, math.inf, 'the norm of the gradient is inf'),
    (1.5, math.nan, 'the norm of the gradient is nan'),
    (math.nan, math.nan, 'the loss is nan'),
])
def test_a_step_that_is_of_no_use_is_told_with_its_files(loss, gradient, fault):
    with pytest.raises(TrainingError) as error:
        check_loss(loss, gradient, 'runs/a, step 7', FILES)
    first, *names = str(error.value).splitlines()
    assert first.startswith(f'runs/a, step 7: {fault}. ')
    assert 'training.learning_rate' in first
    assert [Path(name.strip()) for name in names] == FILES


def network_with(*gradients):
    """Return a network of one weight for each gradient."""
    network = nn.ParameterList(torch.zeros(1) for _ in gradients)
    for weight, gradient in zip(network, gradients, strict=True):
        weight.grad = None if gradient is None else torch.tensor([gradient])
    return network


@pytest.mark.parametrize(('gradients', 'norm'), [
    ((3.0, None, -4.0), 5.0), ((1e4, 0.0), 1e4), ((0.0,), 0.0), ((None,), 0.0),
    ((1.0, math.inf), math.inf)])
def test_the_norm_of_a_gradient(gradients, norm):
    network = network_with(*gradients)
    assert gradient_norm(network, None) == pytest.approx(norm)
    assert [None if weight.grad is None else weight.grad.item() for weight in network] == [
        *gradients]


def test_a_gradient_that_is_not_a_number_has_no_norm_either():
    assert math.isnan(gradient_norm(network_with(1.0, math.nan), None))


@pytest.mark.parametrize(('scale', 'norm'), [
    (65536.0, 0.0), (SMALLEST_SCALE, 0.0), (SMALLEST_SCALE / 2, math.inf)])
def test_under_fp16_the_scale_tells_whether_steps_are_taken(scale, norm):
    network = network_with(3.0, math.inf)
    assert gradient_norm(network, scale) == norm
    assert [weight.grad.item() for weight in network] == [3.0, math.inf]


@pytest.fixture
def config(tmp_path):
    """Return a configuration, with settings of its own for what takes memory."""
    folders = {'images': tmp_path, 'labels': tmp_path}
    domain = DomainSection(classes=['a'], train=folders, validation=folders)
    return RunConfig(domains={'yard': domain},
                     model={'encoder': 'light', 'width': 0.5, 'embedding_dim': 8},
                     data={'crop_size': 321, 'labelled_per_domain': 3,
                           'unlabelled_per_domain': 2},
                     training={'accumulate': 7})


def out_of_cuda_memory():
    raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.\nmore')


def out_of_memory_without_a_word():
    raise MemoryError


def out_of_memory_in_cublas():
    raise RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`')


def too_large_a_tensor():
    torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize(('exhaust', 'reason'), [
    (out_of_cuda_memory, r'CUDA out of memory\. Tried to allocate 2 GiB\.'),
    (out_of_memory_in_cublas, '[^\n]*CUBLAS_STATUS_ALLOC_FAILED[^\n]*'),
    (out_of_memory_without_a_word, 'MemoryError'),
    (too_large_a_tensor, "[^\n]*can't allocate memory[^\n]*"),
])
def test_out_of_memory_says_which_settings_to_lower(config, exhaust, reason):
    with pytest.raises(TrainingError, match=rf'^runs/a: out of memory \({reason}\)\. Lower ') \
            as error, advice(config, 'runs/a'):
        exhaust()
    for setting in ('data.crop_size (321)', 'data.labelled_per_domain (3)',
                    'data.unlabelled_per_domain (2)', 'model.width (0.5)',
                    'training.accumulate (7)', 'training.precision=bf16-mixed (32-true)'):
        assert setting in str(error.value)
    assert error.value.__cause__ is not None


@pytest.mark.parametrize('fault', [
    RuntimeError('mat1 and mat2 shapes cannot be multiplied'), ValueError("can't allocate memory"),
    KeyboardInterrupt(), NotImplementedError('not yet'),
    distributed.DistNetworkError('Connection closed by peer')], ids=lambda e: type(e).__name__)
def test_other_faults_pass_as_they_are(config, fault):
    """Some of which are RuntimeErrors, too."""
    with pytest.raises(type(fault)) as error, advice(config, 'runs/a'):
        raise fault
    assert error.value is fault


@pytest.mark.parametrize(('reason', 'said'), [
    ('DataLoader worker (pid 7) is killed by signal: Killed. ', 'Who killed it is not known'),
    ('DataLoader worker (pid 7) is killed by signal: Bus error. It is possible',
     r'--shm-size=1g.*training\.workers=0'),
    ('DataLoader worker (pid 7) exited unexpectedly with exit code 3.', 'What it wrote above')])
def test_of_a_worker_that_is_lost_no_more_is_told_than_is_known(config, reason, said):
    with pytest.raises(TrainingError, match=rf'^runs/a: a process that prepares batches has '
                                            rf'ended \(DataLoader .*{said}.* goes on') as error, \
            advice(config, 'runs/a'):
        try:
            raise RuntimeError(f'{reason}\nmore')
        except RuntimeError as cause:  # PyTorch chains them where it was waiting
            raise RuntimeError('DataLoader worker (pid(s) 7) exited unexpectedly') from cause
    assert 'out of memory' not in str(error.value)


def test_a_worker_may_take_the_thread_with_it_that_reads_from_it(config):
    with pytest.raises(TrainingError, match=r'^runs/a: a process that prepares batches has ended '
                                            r'\(Pin memory thread .*above may say why'), \
            advice(config, 'runs/a'):
        raise RuntimeError('Pin memory thread exited unexpectedly')
