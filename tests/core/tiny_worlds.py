"""Two tiny domains of coloured shapes, their folders and configuration, and small networks."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from univseg_core.domains import Domain
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.pictures.images import write_png

OUTDOOR = Domain.create('outdoor', ['ground', 'box', 'ball'])
INDOOR = Domain.create('indoor', ['wall', 'lamp'])
COLOURS = {
    'outdoor': ((90, 140, 60), (200, 50, 40), (40, 70, 210)),
    'indoor': ((150, 150, 150), (240, 220, 60)),
}
HEIGHT, WIDTH = 48, 64
TRAIN, VALIDATION, LABELLED = 8, 4, 6
TRAINED = {'encoder': 'light', 'width': 1 / 8, 'embedding_dim': 8}


def draw(colours: tuple, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (48, 64, 3) and label (48, 64) of boxes; the label's top rows are void."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    for index in range(1, len(colours)):
        top, left = generator.integers(4, 22), generator.integers(0, 36)
        label[top:top + 22, left:left + 26] = index
    noise = generator.integers(-20, 21, (HEIGHT, WIDTH, 3))
    image = np.clip(np.array(colours)[label] + noise, 0, 255).astype(np.uint8)
    label[:3] = 255
    return image, label


def write_worlds(root: Path) -> Path:
    """Write both domains below `root`, as DOMAIN/{train,validation}/{image,label}/NN.png."""
    for seed, (name, colours) in enumerate(COLOURS.items()):
        generator = np.random.default_rng(seed)
        for part, count in (('train', TRAIN), ('validation', VALIDATION)):
            for i in range(count):
                image, label = draw(colours, generator)
                write_png(root / name / part / 'image' / f'{i:02}.png', image)
                write_png(root / name / part / 'label' / f'{i:02}.png', label)
    return root


def configuration(root: Path) -> dict:
    """Return the plain values of a run of a few seconds on the worlds below `root`."""
    def folders(name: str, part: str) -> dict:
        return {kind: str(root / name / part / kind[:-1]) for kind in ('images', 'labels')}

    return {
        'domains': {
            domain.name: {
                'classes': list(domain.classes),
                'train': folders(domain.name, 'train'),
                'validation': folders(domain.name, 'validation'),
                'labelled': LABELLED,
            } for domain in (OUTDOOR, INDOOR)},
        'model': dict(TRAINED),
        'data': {'image_size': 64, 'crop_size': 48, 'labelled_per_domain': 4,
                 'unlabelled_per_domain': 1},
        'objective': {'alpha': 0.1, 'beta': 0.1, 'warmup_steps': 5, 'consistency': 0,
                      'class_balance': 0},
        'label_embeddings': {'pretrain_steps': 3},
        'training': {'steps': 30, 'learning_rate': 0.01, 'accelerator': 'cpu',
                     'validate_every': 10, 'checkpoint_every': 5},
    }


def small_network(*domains: Domain, seed: int = 0, encoder: str = 'drn_d_22',
                  width: float = 1 / 16, embedding_dim: int = 8) -> UniversalSegmenter:
    """Return a random network in evaluation mode, with running statistics as after training."""
    torch.manual_seed(seed)
    network = UniversalSegmenter(ModelSpec(encoder, width, embedding_dim),
                                 domains or (OUTDOOR, INDOOR))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return an image (height, width, 3) uint8 of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
