"""What a run needs at least is told before it takes any of it."""

from contextlib import nullcontext

import pytest
from tiny_worlds import small_network
import torch
from torch import nn
from univseg_core.batches.dataset import load_data
from univseg_core.models.light import LightEncoder
from univseg_core.models.timm_encoder import TimmEncoder
from univseg_core.settings.config import load_config
from univseg_core.training import memory_need
from univseg_core.training.memory_need import (
    check_memory,
    fewest_cells,
    fewest_crops,
    layer_values,
)
from univseg_core.training.networks import new_network
from univseg_core.training.processes import new_fabric
from univseg_core.training.safety import TrainingError


def test_the_values_of_layers_are_counted():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                           nn.Conv2d(4, 2, 1)).to('meta')
    # 4 × 5 × 8 of the convolution and its norm, 2 × 5 × 8 of the last; the first takes 3 × 160.
    assert layer_values(layers, 10, 16) == (2 * 4 * 40 + 2 * 40, 3 * 160 + 4 * 40)


def test_the_norms_of_timm_are_counted_with_their_activation():
    with torch.device('meta'):
        encoder = TimmEncoder('efficientnet_lite0', 8)
    kept, _ = layer_values(encoder, 64, 64)
    stem = 2 * 32 * 32 * 32
    assert kept > 10 * stem
    assert 3.9 < layer_values(encoder, 128, 128)[0] / kept < 4.1


@pytest.mark.parametrize(('setting', 'value', 'words'), [
    ('crop_size', 20000, ['a step needs at least', 'data.crop_size (20000)']),
    ('image_size', 8192, ['outdoor: a validation image of 8192×6144 needs at least',
                          'data.image_size (8192)'])])
def test_sizes_beyond_memory_are_refused_by_their_names(values, write_config, setting, value,
                                                        words, monkeypatch):
    monkeypatch.setattr(memory_need, 'available_memory', lambda: 10 ** 8)
    values['data'][setting] = value
    config = load_config(write_config(values))
    with pytest.raises(TrainingError) as error:
        check_memory(config, load_data(config), new_fabric(config.training, 1, 1))
    for word in words:
        assert word in str(error.value)


def test_what_fits_passes_and_one_byte_less_does_not(values, write_config, monkeypatch):
    config = load_config(write_config(values))
    data, fabric = load_data(config), new_fabric(config.training, 1, 1)
    with torch.device('meta'):
        kept, _ = layer_values(new_network(config, data).encoder, 48, 48)
    # 4 labelled and 1 unlabelled crop of two domains, and logits of 3 and 2 classes.
    need = 4 * (10 * kept + 4 * 48 * 48 * 5)
    monkeypatch.setattr(memory_need, 'available_memory', lambda: need)
    check_memory(config, data, fabric)
    monkeypatch.setattr(memory_need, 'available_memory', lambda: need - 1)
    with pytest.raises(TrainingError, match=r'data\.crop_size \(48\)'):
        check_memory(config, data, fabric)


@pytest.mark.parametrize(('labelled', 'answered'), [(False, 2), (True, 10)])
def test_a_large_model_that_teaches_must_fit_too(values, write_config, monkeypatch, labelled,
                                                 answered):
    """Its weights, and what it takes to answer, where that is more than the step itself takes."""
    with torch.device('meta'):
        teacher = small_network(width=2)
    _, largest = layer_values(teacher.encoder, 48, 48)
    values['objective'] |= {'alpha': 0, 'beta': 0, 'distillation': {
        'teacher': __file__, 'labelled': labelled}}
    config = load_config(write_config(values))
    data, fabric = load_data(config), new_fabric(config.training, 1, 1)
    weights = sum(each.numel() for each in teacher.parameters())
    need = 4 * (weights + answered * largest)
    monkeypatch.setattr(memory_need, 'available_memory', lambda: need)
    check_memory(config, data, fabric, teacher)
    monkeypatch.setattr(memory_need, 'available_memory', lambda: need - 1)
    with pytest.raises(TrainingError, match=r'a step needs at least'):
        check_memory(config, data, fabric, teacher)


def test_what_workers_prepare_must_fit_too(values, write_config, monkeypatch):
    values['training']['workers'] = 100
    config = load_config(write_config(values))
    data, fabric = load_data(config), new_fabric(config.training, 1, 1)
    # 10 crops of 48 × 48 pixels of 4 bytes, of a step, and of four more for each worker.
    need = 401 * 10 * 48 * 48 * 4
    monkeypatch.setattr(memory_need, 'WORKER', 0)
    monkeypatch.setattr(memory_need, 'available_memory', lambda: need)
    check_memory(config, data, fabric)
    monkeypatch.setattr(memory_need, 'available_memory', lambda: need - 1)
    with pytest.raises(TrainingError, match=r'what is prepared of batches needs at least .* lower '
                                            r'training\.workers \(100\)'):
        check_memory(config, data, fabric)


def test_processes_must_fit_too(values, write_config, monkeypatch):
    values['training']['workers'] = 10
    values['data']['labelled_per_domain'] = 20
    config = load_config(write_config(values))
    data, fabric = load_data(config), new_fabric(config.training, 20, 1)
    need = 19 * memory_need.PROCESS + 199 * memory_need.WORKER
    monkeypatch.setattr(memory_need, 'available_memory', lambda: need)
    check_memory(config, data, fabric)
    monkeypatch.setattr(memory_need, 'available_memory', lambda: need - 1)
    with pytest.raises(TrainingError, match=r'the processes need at least 7\.78 GB .* lower '
                                            r'--devices \(20\) or training\.workers \(10\)'):
        check_memory(config, data, fabric)


@pytest.mark.parametrize(('objective', 'accumulate', 'processes', 'crops'), [
    ({}, 1, 1, 8), ({}, 3, 1, 2), ({}, 8, 1, 1), ({}, 4, 2, 2), ({}, 1, 2, 8),
    # 8 labelled crops and two pairs, in turn: pieces of 2, 2, 3, 3, 1 and 1, or of 6 and 6.
    ({'consistency': 1}, 6, 1, 1), ({'consistency': 1}, 2, 1, 6),
    ({'alpha': 0.1}, 1, 1, 4)])  # of the network of one domain
def test_the_crops_of_the_smallest_piece_are_counted(values, write_config, objective, accumulate,
                                                     processes, crops):
    values['objective'] = {'alpha': 0, 'beta': 0, 'consistency': 0} | objective
    values['data']['unlabelled_per_domain'] = 2
    values['training']['accumulate'] = accumulate
    config = load_config(write_config(values))
    assert fewest_crops(config, load_data(config), processes) == crops


def test_the_cells_of_the_smallest_batch_norm_are_counted():
    with torch.device('meta'):
        network = LightEncoder(0.5)
    assert [fewest_cells(network, side) for side in (32, 33, 64, 96)] == [1, 4, 4, 9]


@pytest.mark.parametrize(('settings', 'fits'), [
    ({'crop_size': 32}, False), ({'crop_size': 32, 'curriculum': [(0.5, 0.5)]}, False),
    ({'crop_size': 64}, True),
    ({'crop_size': 32, 'labelled_per_domain': 2}, True)])
def test_one_value_for_a_batch_norm_is_refused_by_its_settings(values, write_config, settings,
                                                               fits):
    del values['domains']['indoor']
    values['model'] = {'encoder': 'light', 'width': 0.5, 'embedding_dim': 8}
    values['objective'] = {'consistency': 0}
    values['data'] |= {'labelled_per_domain': 1} | settings
    config = load_config(write_config(values))
    refused = nullcontext() if fits else pytest.raises(
        TrainingError, match=r'of a crop of 32 pixels, light comes down to one cell.*raise '
                             r'data\.crop_size \(\d+\) or data\.labelled_per_domain \(1\), or '
                             r'lower training\.accumulate \(1\)')
    with refused:
        check_memory(config, load_data(config), new_fabric(config.training, 1, 1))
