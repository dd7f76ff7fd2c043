"""Tests of training and inference on a CUDA device; all are skipped where there is none."""

from pathlib import Path
import sys

import pytest
import yaml

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / 'core'))  # for tiny_worlds


def pytest_collection_modifyitems(items):
    import torch
    if not torch.cuda.is_available():
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason='no CUDA device'))


@pytest.fixture(scope='session')
def values(tmp_path_factory):
    """Return the plain values of the tiny configuration, on CUDA; not to be changed."""
    import tiny_worlds
    values = tiny_worlds.configuration(tiny_worlds.write_worlds(tmp_path_factory.mktemp('gpu')))
    values['training']['accelerator'] = 'cuda'
    return values


@pytest.fixture
def configure(values, tmp_path):
    """Return a function that reads the tiny configuration with some settings changed."""
    from univseg_core.settings.config import load_config

    def configure(*overrides):
        path = tmp_path / 'tiny.yaml'
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return load_config(path, overrides)
    return configure


@pytest.fixture(autouse=True)
def full_float32():
    """Switch TF32 off, which rounds factors to 10 bits; in matrix products it is off anyway."""
    import torch
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
