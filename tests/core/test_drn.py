"""DRN: the published features and names, and its widths."""

from pathlib import Path

from formula_weights import formula_image, formula_state
import numpy as np
import pytest
import torch
from univseg_core.models.drn import DRN, DRN_SPECS

GOLDEN = Path(__file__).parent / 'golden' / 'drn_features.npz'


@pytest.mark.parametrize('name', ['drn_d_22', 'drn_c_26'])
def test_features_equal_those_of_the_published_definition(name):
    network = DRN(name).eval()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()
              if not key.endswith('num_batches_tracked')}
    network.load_state_dict(formula_state(shapes), strict=False)
    with torch.no_grad():
        features = network(formula_image(37, 50)).numpy()
    expected = np.load(GOLDEN)[name]
    assert features.shape == expected.shape == (1, 512, 5, 7)
    assert np.linalg.norm(features - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize('width', [1 / 16, 0.25, 0.3, 1])
def test_width_multiplies_the_channels(width):
    network = DRN('drn_d_22', width)
    assert network.out_channels == int(512 * width)
    assert network.layer0[0].out_channels == int(16 * width)


@pytest.mark.parametrize('name', DRN_SPECS)
def test_parameters_have_the_published_names(name):
    keys = list(DRN(name, 1 / 16).state_dict())
    stems = list(dict.fromkeys(key.split('.')[0] for key in keys))
    levels = [f'layer{i}' for i in range(1, 9)]
    if name.startswith('drn_d'):
        assert stems == ['layer0', *levels]
        assert {'layer0.0.weight', 'layer0.1.running_var', 'layer1.0.weight', 'layer2.1.bias',
                'layer3.0.downsample.0.weight', 'layer8.0.weight', 'layer8.1.bias'} <= set(keys)
    else:
        assert stems == ['conv1', 'bn1', *levels]
        assert {'conv1.weight', 'bn1.running_var', 'layer1.0.conv1.weight',
                'layer3.0.downsample.0.weight', 'layer8.0.bn2.bias'} <= set(keys)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'resnet_50'.*drn_c_26.*drn_d_22"):
        DRN('resnet_50')


@pytest.mark.parametrize('width', [0.05, 0, -1])
def test_a_width_that_leaves_no_channel_is_refused(width):
    with pytest.raises(ValueError, match=rf'width {width}: expected at least 0\.0625'):
        DRN('drn_d_22', width)
