"""
Write drn_features.npz: features of the published DRN definition under formula-made weights.

Run once, by hand, with the published definition (drn.py of https://github.com/fyu/drn) at hand:

    python tests/core/golden/make_drn_features.py FOLDER_OF_DRN_PY

It also checks that every network of the family has the published parameter names and shapes.
"""

import importlib
from pathlib import Path
import sys

import numpy as np
import torch
from univseg_core.models.drn import DRN, DRN_SPECS

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), sys.argv[1]]
published = importlib.import_module('drn')
formulas = importlib.import_module('formula_weights')


def published_shapes(name: str) -> tuple[torch.nn.Module, dict]:
    """Return the published network and the shapes of its encoder's state."""
    network = getattr(published, name)(pretrained=False)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()
              if not key.startswith('fc.') and not key.endswith('num_batches_tracked')}
    return network, shapes


if __name__ == '__main__':
    features = {}
    for name in DRN_SPECS:
        network, shapes = published_shapes(name)
        ours = {key: tuple(value.shape) for key, value in DRN(name).state_dict().items()
                if not key.endswith('num_batches_tracked')}
        assert ours == shapes, f'{name}: {set(ours.items()) ^ set(shapes.items())}'
        if name in ('drn_d_22', 'drn_c_26'):
            network.load_state_dict(formulas.formula_state(shapes), strict=False)
            network.out_middle = True
            network.avgpool = torch.nn.Identity()
            with torch.no_grad():
                _, levels = network.eval()(formulas.formula_image(37, 50))
            features[name] = levels[-1].numpy()
            print(name, features[name].shape, features[name].mean(), features[name].std())
    np.savez_compressed(HERE / 'drn_features.npz', **features)
