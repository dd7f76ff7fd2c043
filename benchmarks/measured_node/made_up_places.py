"""Two places that are made up, and a tiny model that knows them apart."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import load_network, Segmenter
from univseg_core.method.domain_evidence_fit import make_evidence
from univseg_core.models.exported_file import ExportedModel, save_exported
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.pictures.images import write_png

CLASSES = {'outdoor': ['road', 'sky', 'tree'], 'indoor': ['floor', 'wall']}
"""The domains of the model, and their classes."""

HEIGHT, WIDTH = 48, 64
"""Pixels of all pictures, and the model's own size."""

IMAGES = 40
"""Images of each place from which it is known."""


def view(domain: str, number: int) -> np.ndarray:
    """Return a picture (48, 64, 3) uint8: bright sky over grey outdoors, else brown stripes."""
    generator = np.random.default_rng([number, len(domain)])
    picture = generator.normal(0, 6, (HEIGHT, WIDTH, 3))
    if domain == 'outdoor':
        horizon = int(generator.integers(18, 30))
        picture[:horizon] += (120, 170, 240)
        picture[horizon:] += 110
        cv2.rectangle(picture, (int(generator.integers(40)), horizon - 8),
                      (60, horizon + 6), (40, 110, 50), -1)
    else:
        picture += (90, 60, 40)
        for left in range(int(generator.integers(8)), 64, 8):
            picture[:, left:left + 3] += (60, 40, 20)
        cv2.circle(picture, (32, int(generator.integers(10, 40))), 9, (200, 180, 120), -1)
    return picture.clip(0, 255).astype(np.uint8)


def noise(number: int) -> np.ndarray:
    """Return a picture (48, 64, 3) uint8 of neither place."""
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def write_model(path: Path) -> None:
    """Write a random model with the domains of CLASSES."""
    torch.manual_seed(0)
    save_model(path, UniversalSegmenter(
        ModelSpec(width=1 / 16, embedding_dim=8),
        [Domain.create(name, classes) for name, classes in CLASSES.items()]), ModelCard())


def write_knowing_model(model: Path, folder: Path) -> Path:
    """Return the path of a copy, in a folder, of a model with these domains that knows them."""
    images = {}
    for domain in CLASSES:
        images[domain] = [folder / f'{domain}{i}.png' for i in range(IMAGES)]
        for i, path in enumerate(images[domain]):
            write_png(path, view(domain, i))
    network, card = load_network(model)
    card = replace(card, image_size=WIDTH)
    evidence = make_evidence(
        Segmenter(network, card, device='cpu', precision='fp32', backend=(
            'onnxruntime' if isinstance(network, ExportedModel) else 'torch')),
        images, progress=False).evidence
    knowing = folder / f'knowing{model.suffix}'
    if isinstance(network, ExportedModel):
        save_exported(knowing, replace(network, evidence=evidence), card)
    else:
        network.evidence = evidence
        save_model(knowing, network, card)
    return knowing
