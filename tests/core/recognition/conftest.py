"""Images of two tiny domains and of none, and a model that knows them."""

import numpy as np
import pytest
from tiny_worlds import COLOURS, draw, small_network
from univseg_core.cli import main
from univseg_core.models.model_card import ModelCard
from univseg_core.models.model_file import save_model
from univseg_core.pictures.images import write_png

CARD = ModelCard(image_size=64)


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """Let networks compute in float32: bf16 is for features that a training has made."""
    monkeypatch.setattr('univseg_core.inference.torch_backend.is_good_at_bf16', lambda: False)


@pytest.fixture(scope='session')
def images(tmp_path_factory):
    """Return folders of thirty images of each tiny domain, and one of noise."""
    folder, generator = tmp_path_factory.mktemp('images'), np.random.default_rng(5)
    for i in range(30):
        for name, colours in COLOURS.items():
            write_png(folder / name / f'{i:02}.png', draw(colours, generator)[0])
        write_png(folder / 'noise' / f'{i:02}.png',
                  generator.integers(0, 256, (48, 64, 3), np.uint8))
    return folder


@pytest.fixture(scope='session')
def recognising(images, tmp_path_factory):
    """Return a model file with evidence, which the command has added to an older one."""
    folder = tmp_path_factory.mktemp('models')
    save_model(folder / 'old.univseg', small_network(encoder='light'), CARD)
    with pytest.MonkeyPatch.context() as patch:
        # Random weights, which have learned nothing, see hardly a likeness across scales.
        patch.setattr('univseg_core.method.domain_evidence_fit.SCALES', (1.0,))
        assert main(['recognise', str(folder / 'old.univseg'), '--out',
                     str(folder / 'new.univseg'),
                     *(f'--images={name}={images / name}' for name in COLOURS)]) == 0
    return folder / 'new.univseg'
