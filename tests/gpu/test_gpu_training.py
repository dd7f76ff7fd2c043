"""Training on a CUDA device learns, goes on, agrees with the CPU and leaves no memory behind."""

import gc
import json
import shutil

from lightning_fabric import Fabric
import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_worlds import small_network
import torch
from torch import nn
from univseg_core.batches.curriculum import Curriculum
from univseg_core.batches.dataset import load_data, load_validation
from univseg_core.batches.mixture import MixtureDataset
from univseg_core.batches.stores import prepare_stores
from univseg_core.batches.transforms import Augmentation
from univseg_core.inference.segmenter import Segmenter
from univseg_core.method.losses import MEAN
from univseg_core.pictures.images import read_image
from univseg_core.reporting.run_tables import read_losses
from univseg_core.training import step as training_step
from univseg_core.training import trainer
from univseg_core.training.checkpoint import save_checkpoint
from univseg_core.training.run import train
from univseg_core.training.step import batch_losses, forward_and_backward, Supervision
from univseg_core.training.teacher import MeanTeacher

DEVICE = 'cuda'

ENTROPIES = ()
"""What the tiny configuration learns unlabelled images by."""

TEACHER = ('objective.alpha=0', 'objective.beta=0', 'objective.consistency=1',
           'objective.class_balance=0.5', 'objective.warmup_steps=0',
           'data.unlabelled_per_domain=2')
"""The terms that a configuration has by default, from the first step on."""


@pytest.mark.parametrize('settings', [ENTROPIES, TEACHER], ids=['entropies', 'teacher'])
@pytest.mark.parametrize('precision', ['32-true', 'bf16-mixed', '16-mixed'])
def test_a_whole_training_learns_and_stays_finite(configure, tmp_path, precision, settings):
    results = train(configure(f'training.precision={precision}', 'training.steps=20', *settings),
                    tmp_path / 'run')
    assert list(results) == ['outdoor', 'indoor']
    losses = read_losses(tmp_path / 'run')
    assert list(losses['step']) == [10, 20]
    assert all(torch.isfinite(torch.from_numpy(column)).all() for column in losses.values())
    assert losses['supervised'][1] < losses['supervised'][0]
    assert losses['loss'][1] < losses['loss'][0]
    weights = load_file(tmp_path / 'run' / 'model.univseg')
    assert all(value.isfinite().all() and value.dtype != torch.float16
               for value in weights.values())


def state(folder):
    with safe_open(folder / 'checkpoint.safetensors', framework='pt') as file:
        return json.loads(file.metadata()['checkpoint'])


@pytest.mark.parametrize('settings', [ENTROPIES, TEACHER], ids=['entropies', 'teacher'])
@pytest.mark.parametrize('precision', ['32-true', 'bf16-mixed', '16-mixed'])
def test_a_training_goes_on_as_if_nothing_had_happened(configure, tmp_path, monkeypatch,
                                                       precision, settings):
    """Sums on CUDA are not always of the same order: equal but for rounding, after two steps."""
    config = configure(f'training.precision={precision}', 'training.steps=7',
                       'training.optimizer=sgd', 'training.learning_rate=0.003',
                       'label_embeddings.pretrain_steps=1', *settings)

    def save_and_keep(path, step, *rest):
        save_checkpoint(path, step, *rest)
        if step == 5:
            shutil.copytree(path.parent, tmp_path / 'run', dirs_exist_ok=True)

    monkeypatch.setattr(trainer, 'save_checkpoint', save_and_keep)
    train(config, tmp_path / 'undisturbed')
    assert state(tmp_path / 'run')['step'] == 5
    train(config, tmp_path / 'run')
    assert state(tmp_path / 'run') == state(tmp_path / 'undisturbed')
    tensors, others = (load_file(tmp_path / name / 'checkpoint.safetensors')
                       for name in ('run', 'undisturbed'))
    assert tensors.keys() == others.keys()
    assert any(key.startswith('optimizer.') for key in tensors)
    for key, value in tensors.items():
        # Momenta are sums of gradients; weights move by 0.003 of them.
        tolerance = 1e-2 if key.startswith('optimizer.') else 1e-4
        torch.testing.assert_close(value, others[key], rtol=tolerance, atol=tolerance,
                                   msg=lambda text, key=key: f'{key}: {text}')


def one_step(config, device):
    """Return the values of a first training step on a device, and the norm of its gradients."""
    data, options = load_data(config), config.data
    held = prepare_stores(data, options.image_size, progress=False)
    mixture = MixtureDataset(
        held.labelled, held.unlabelled,
        Curriculum((Augmentation(options.crop_size, options.scale, options.flip,
                                 options.colour),)),
        options.labelled_per_domain, options.unlabelled_per_domain, 0,
        mix_at=8 if config.objective.consistency else None)
    network = small_network(width=1 / 4).train()
    for seed, name in enumerate(data):
        vectors = torch.randn(len(data[name].domain.classes), 8,
                              generator=torch.manual_seed(seed))
        network.set_label_embeddings(name, nn.functional.normalize(vectors))
    fabric = Fabric(accelerator=device, devices=1)
    model, _ = fabric.setup(network, torch.optim.SGD(network.parameters()))
    teachers = {MEAN: MeanTeacher(network)} if config.objective.consistency else {}
    values = forward_and_backward(fabric, model, mixture[0], config.objective, 5,
                                  Supervision(teachers=teachers))
    norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters()
                                          if p.grad is not None])
    return {key: value.cpu() for key, value in values.items()} | {'gradient': norm.cpu()}


@pytest.mark.parametrize('settings', [ENTROPIES, TEACHER], ids=['entropies', 'teacher'])
def test_a_steps_losses_are_those_of_the_cpu(configure, settings):
    config = configure(*settings)
    values, expected = one_step(config, DEVICE), one_step(config, 'cpu')
    assert values.keys() == expected.keys()
    gradient, expected_gradient = values.pop('gradient'), expected.pop('gradient')
    for key, value in values.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-4,
                                   msg=lambda text, key=key: f'{key}: {text}')
    # Where rounding turns a ReLU on or off, the gradient changes by more than rounding.
    assert gradient.item() == pytest.approx(expected_gradient.item(), rel=1e-2)


def test_masks_are_those_of_the_cpu(configure, tmp_path):
    config = configure()
    train(config, tmp_path / 'run')
    first, second = (Segmenter.load(tmp_path / 'run' / 'model.univseg', device=device,
                                    precision='fp32') for device in (DEVICE, 'cpu'))
    equal = total = 0
    for samples in load_validation(config, first.domains).values():
        for sample in samples:
            image = read_image(sample.image)
            masks, others = first(image), second(image)
            for name, result in masks.items():
                equal += (result.mask == others[name].mask).sum()
                total += result.mask.size
    assert equal >= 0.999 * total
    assert total == 2 * 2 * 4 * 48 * 64  # two masks of each of four images a domain


def test_a_training_leaves_no_memory_behind(configure, tmp_path):
    def use(folder):
        train(configure('training.steps=2', 'label_embeddings.pretrain_steps=1'), folder)
        segmenter = Segmenter.load(folder / 'model.univseg', device=DEVICE)
        segmenter(read_image(next((folder.parent / 'images').iterdir())))

    (tmp_path / 'images').mkdir()
    source = configure().domains['indoor'].validation.images / '00.png'
    shutil.copy(source, tmp_path / 'images')
    allocated = []
    for name in ('first', 'second', 'third'):  # libraries keep the workspaces of the first
        use(tmp_path / name)
        gc.collect()
        torch.cuda.synchronize()
        allocated.append(torch.cuda.memory_allocated())
    assert allocated[2] <= allocated[1] <= allocated[0]


def test_convolutions_see_channels_last_while_training(configure, tmp_path, monkeypatch):
    seen = []

    def spied(model, *arguments):
        # Of one channel, or of one pixel, both layouts are the same.
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)
                  and layer.kernel_size != (1, 1) and layer.in_channels > 1]
        handles = [layer.register_forward_hook(note) for layer in layers]
        result = batch_losses(model, *arguments)
        for handle in handles:
            handle.remove()
        return result

    def note(layer, inputs, output):
        seen.extend(tensor.is_contiguous(memory_format=torch.channels_last)
                    and not tensor.is_contiguous() for tensor in (layer.weight, output))

    monkeypatch.setattr(training_step, 'batch_losses', spied)
    train(configure('training.steps=1', 'model.width=0.25', 'objective.alpha=0',
                    'objective.beta=0'), tmp_path / 'run')
    assert len(seen) > 20
    assert all(seen)
