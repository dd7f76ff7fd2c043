"""Run folders of networks that were never trained, made in no time."""

from pathlib import Path

import numpy as np
from tiny_worlds import configuration, INDOOR, OUTDOOR, small_network
import torch
from univseg_core.models.model_file import ModelCard, save_model
import yaml


def write_run(folder: Path, worlds: Path, *, domains=(OUTDOOR, INDOOR), seed: int = 0,
              label_embeddings: bool = True) -> Path:
    """Write a folder with model.univseg, config.yaml and a log, as a finished run's is."""
    folder.mkdir(parents=True)
    network = small_network(*domains, seed=seed)
    if label_embeddings:
        for domain in domains:
            vectors = torch.randn(len(domain.classes), network.spec.embedding_dim)
            network.set_label_embeddings(domain.name, torch.nn.functional.normalize(vectors))
    save_model(folder / 'model.univseg', network, ModelCard(image_size=64))
    values = configuration(worlds)
    names = [domain.name for domain in domains]
    values['domains'] = {name: values['domains'][name] for name in names}
    (folder / 'config.yaml').write_text(yaml.safe_dump(values, sort_keys=False))
    write_log(folder, names, seed)
    return folder


def write_log(folder: Path, names: list[str], seed: int = 0) -> None:
    """Write log.csv and validation.csv of 40 steps."""
    generator = np.random.default_rng(seed)
    rows = [f'{step},{generator.uniform():.3f},{1 / step:.3f},0' for step in range(10, 41, 10)]
    (folder / 'log.csv').write_text('\n'.join(
        ['step,supervised,cross_entropy,within_entropy', *rows, '']))
    rows = [f'{step},{name},{generator.uniform():.3f},0.5' for step in (20, 40) for name in names]
    (folder / 'validation.csv').write_text('\n'.join(['step,domain,miou,iou', *rows, '']))
