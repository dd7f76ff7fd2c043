"""What the tests of labelling share: a model, frames, and label maps that come back."""


from label_maps import YARD
import numpy as np
from PIL import Image
import pytest
from tiny_worlds import random_image, small_network
import torch
from univseg_core.annotations.mask_folder import full_palette
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.pictures.images import write_png
from univseg_core.pictures.palette_png import write_palette_png


@pytest.fixture
def model(tmp_path):
    path = tmp_path / 'tiny.univseg'
    save_model(path, small_network(), ModelCard(image_size=64))
    return path


@pytest.fixture
def frames(tmp_path):
    for i, name in enumerate(('a.png', 'b.c.jpg', 'd.png')):
        path = tmp_path / 'frames' / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random_image(24, 32, i)).save(path)
    return tmp_path / 'frames'


@pytest.fixture
def labels(tmp_path, frames):
    """Return a folder of label maps of YARD, of three kinds, for the frames."""
    generator = np.random.default_rng(0)
    folder = tmp_path / 'labels'
    masks = {stem: generator.choice(np.array([0, 1, 2, 255], np.uint8), (24, 32))
             for stem in ('a', 'b.c', 'd')}
    write_png(folder / 'a.png', masks['a'])
    write_palette_png(folder / 'b.c.png', masks['b.c'], full_palette(YARD))
    write_png(folder / 'd.png', YARD.colourise(masks['d']))
    return folder, masks


@pytest.fixture
def network():
    """Return a random network with label embeddings of `outdoor` alone."""
    network = small_network()
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(3, 8, generator=generator)
    network.set_label_embeddings('outdoor', vectors / vectors.norm(dim=1, keepdim=True))
    return network


@pytest.fixture
def segmenter(network):
    return Segmenter(network, ModelCard(), device='cpu')
