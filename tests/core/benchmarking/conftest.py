"""What the tests of benchmarking share: models in both formats."""

import numpy as np
import pytest
import torch
from two_convolutions import two_convolutions
from univseg_core.domains import Domain
from univseg_core.models.exported_file import Export, ExportedModel, save_exported
from univseg_core.models.heads import Heads, LinearMap
from univseg_core.models.model_card import ModelCard, ModelSpec
from univseg_core.models.model_file import save_model
from univseg_core.models.normalisation import IMAGENET
from univseg_core.models.universal import UniversalSegmenter

CLASSES = ('wall', 'floor', 'door', 'chair')


@pytest.fixture
def exported(tmp_path):
    """Return a function that writes an exported model, whose head is the identity."""
    def write(size=None, miou=None):
        same = LinearMap(np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
        domain = Domain.create('place', CLASSES)
        model = ExportedModel(
            tmp_path / 'one.onnx', two_convolutions(), Export(size=size),
            ModelSpec('one', embedding_dim=4), IMAGENET, 4,
            Heads({'place': same}, same, {'place': np.zeros((4, 4), np.float32)}),
            {'place': domain})
        save_exported(model.path, model, ModelCard(miou=miou or {}))
        return model.path
    return write


@pytest.fixture
def model_path(tmp_path):
    torch.manual_seed(0)
    model = UniversalSegmenter(ModelSpec('light', width=0.1, embedding_dim=4),
                               [Domain.create('place', CLASSES), Domain.create('hall', CLASSES)])
    save_model(tmp_path / 'light.univseg', model, ModelCard(64, training={'steps': 100000}))
    return tmp_path / 'light.univseg'
