"""The label embeddings that a run learns with: made, or taken from files."""

from collections.abc import Mapping
from functools import partial
import json
import logging
from pathlib import Path

from safetensors import SafetensorError
import torch
from univseg_core.batches.dataset import DomainData
from univseg_core.batches.splits import split_hash
from univseg_core.errors import shortened
from univseg_core.files.records import parse_json
from univseg_core.method.label_embeddings import (
    embedded_label_embeddings,
    principal_label_embeddings,
    repeated_classes,
    start_embedding,
)
from univseg_core.models.heads import absent_classes
from univseg_core.models.model_file import load_model, save_model
from univseg_core.models.tensor_files import read_tensors, save_tensors, TensorFileError
from univseg_core.models.universal import UniversalSegmenter
from univseg_core.settings.config import RunConfig
from univseg_core.settings.objective import LossWeights, ObjectiveSection
from univseg_core.training.checkpoint import what_to_do
from univseg_core.training.networks import network_with_weights, new_network, start_from
from univseg_core.training.processes import others_waiting
from univseg_core.training.run_context import RunContext
from univseg_core.training.safety import TrainingError
from univseg_core.training.trainer import fit, Task

SUPERVISED_ONLY = ObjectiveSection.model_validate(
    dict.fromkeys(LossWeights.model_fields, 0) | {'class_balance': 0})

LABEL_EMBEDDINGS = 'label_embeddings.safetensors'
"""Where a run keeps those that it learns with."""

JOINT_START = 'start.univseg'
"""What a run with label_embeddings.basis joint starts from."""

CLASSES = 'classes'
"""Where the file of label embeddings has, as JSON, the class names of each domain."""

log = logging.getLogger(__name__)


def label_embeddings_of_run(context: RunContext, data: Mapping[str, DomainData],
                            run: Path) -> dict[str, torch.Tensor]:
    """Return every domain's label embeddings (C·K, D), from a file or made now."""
    section, fabric = context.config.label_embeddings, context.fabric
    path = run / LABEL_EMBEDDINGS
    basis = context.config.basis
    made = fabric.broadcast(path.exists())  # what one process sees, all go by
    if not made and basis == 'joint':
        log.info('supervised-only network of all domains for the label embeddings')
        fit(context, Task(data, run / 'joint', SUPERVISED_ONLY, section.pretrain_steps,
                          start=context.config.model.start))
    elif not made and basis == 'per_domain' and not (section.file or section.networks):
        if context.config.model.start is not None:
            log.info('label_embeddings.basis: start would make them from %s, without a training',
                     context.config.model.start)
        for name in data:
            log.info('%s: supervised-only network for the label embeddings', name)
            fit(context, Task({name: data[name]}, run / 'supervised' / name, SUPERVISED_ONLY,
                              section.pretrain_steps))
    with others_waiting(fabric):
        if not made and fabric.is_global_zero:
            embeddings = _new_label_embeddings(context, data, run)
            _warn_of_missing_classes(embeddings, data)
            save_tensors(path, embeddings, {CLASSES: json.dumps(
                {name: d.domain.classes for name, d in data.items()})})
    return fabric.broadcast(_read_label_embeddings(path, 'remove it to make it again')[0]
                            if fabric.is_global_zero else {})


def _new_label_embeddings(context: RunContext, data: Mapping[str, DomainData],
                          run: Path) -> dict[str, torch.Tensor]:
    section, labelled = context.config.label_embeddings, context.stores.labelled
    if section.file is not None:
        return _foreign_label_embeddings(context.config, data)
    device, basis = context.fabric.device, context.config.basis
    dim, seed = context.config.model.embedding_dim, context.config.training.seed
    principal = partial(principal_label_embeddings, dim=dim,
                        embeddings_per_class=section.centroids, seed=seed)
    if basis == 'start':
        assert context.config.model.start is not None
        network = new_network(context.config, data)
        start_from(context.config.model.start, network)
        return embedded_label_embeddings(network.to(device), labelled, section.centroids, seed)
    if basis == 'pretrained':
        network = network_with_weights(context.config, data)
        return principal(network.to(device), labelled, pretrained=True)[0]
    if basis == 'joint':
        network, card = load_model(run / 'joint' / 'model.univseg')
        embeddings, projection = principal(network.to(device), labelled)
        start_embedding(network, projection)
        save_model(run / JOINT_START, network, card)
        return embeddings
    embeddings = {}
    for name, d in data.items():
        path = (section.networks[name] if section.networks is not None
                else run / 'supervised' / name / 'model.univseg')
        network = _network_of_domain(path, d, dim)
        embeddings |= principal(network.to(device), {name: labelled[name]})[0]
    return embeddings


def _network_of_domain(path: Path, data: DomainData, dim: int) -> UniversalSegmenter:
    """Return the network of a model file that label embeddings (C·K, dim) can be made from."""
    network, card = load_model(path)
    domain, channels = data.domain, network.encoder.out_channels
    where = f'label_embeddings.networks.{domain.name}: {path}'
    found = {name: other.classes for name, other in network.domains.items()}
    if found.get(domain.name) != domain.classes:
        raise TrainingError(f'{where}: expected a model of {domain.name} with the classes '
                            f'{", ".join(domain.classes)}, got ' + '; '.join(
                                f'{name}: {", ".join(classes)}'
                                for name, classes in found.items()))
    if channels < dim:
        raise TrainingError(f'{where}: its encoder has {channels} channels; expected at least '
                            f'model.embedding_dim, {dim}')
    learned_from = card.training.get('labelled', {}).get(domain.name)
    if learned_from not in (None, split_hash(data.labelled)):
        log.warning('%s: has learned from other labelled images than those of this run', where)
    return network


def _warn_of_missing_classes(embeddings: Mapping[str, torch.Tensor],
                             data: Mapping[str, DomainData]) -> None:
    """Log the classes that have no label embeddings, or not K different ones."""
    for name, d in data.items():
        for absent in absent_classes(embeddings[name].cpu().numpy(), d.domain):
            log.warning('%s: no labelled image shows %s: it has no label embedding and is left '
                        'out of the similarity', name, absent)
        for repeated in repeated_classes(embeddings[name], d.domain):
            log.warning('%s: the labelled images show too little of %s for K-means: its mean is '
                        'repeated', name, repeated)


def check_label_embeddings(config: RunConfig, data: Mapping[str, DomainData]) -> None:
    """Raise TrainingError where the label embeddings or networks that are named do not fit."""
    section = config.label_embeddings
    if section.file is not None:
        _foreign_label_embeddings(config, data)
    if section.networks is not None:
        if section.networks.keys() != data.keys():
            raise TrainingError('label_embeddings.networks: expected a model file for each of '
                                f'{", ".join(data)}, got {", ".join(section.networks)}')
        for name, d in data.items():
            _network_of_domain(section.networks[name], d, config.model.embedding_dim)


def _foreign_label_embeddings(config: RunConfig,
                              data: Mapping[str, DomainData]) -> dict[str, torch.Tensor]:
    path, per_class = config.label_embeddings.file, config.label_embeddings.centroids
    assert path is not None
    where = f'label_embeddings.file: {path}'
    embeddings, texts = _read_label_embeddings(
        path, 'name another in label_embeddings.file, or none')
    dim = config.model.embedding_dim
    expected = {name: (len(d.domain.classes) * per_class, dim) for name, d in data.items()}
    found = {name: tuple(value.shape) for name, value in embeddings.items()}
    if found != expected:
        raise TrainingError(f'{where}: expected (classes × label_embeddings.centroids, '
                            f'dimensions) {expected}, got {found}')
    classes = _classes_of(texts, where)
    for name, d in data.items():
        if classes.get(name, list(d.domain.classes)) != list(d.domain.classes):
            raise TrainingError(f'{where}: {name}: expected those of the classes '
                                f'{", ".join(d.domain.classes)}, got those of '
                                f'{shortened(", ".join(map(str, classes[name])))}')
        norms = embeddings[name].float().norm(dim=1)
        if not norms.any() or not torch.all((norms == 0) | ((norms - 1).abs() < 1e-3)):
            raise TrainingError(f'{where}: {name}: expected rows of norm 1, or 0 for classes '
                                'that no labelled image showed, and not all 0; got norms from '
                                f'{norms.min():.3g} to {norms.max():.3g}')
    return embeddings


def _read_label_embeddings(path: Path, cure: str) -> tuple[dict[str, torch.Tensor],
                                                          dict[str, str]]:
    """
    Return a file's tensors and metadata.

    Raises TrainingError, with the cure for a damaged one, where it cannot be read.
    """
    try:
        return read_tensors(path)
    except (SafetensorError, OSError, TensorFileError) as error:
        raise TrainingError(f'{path}: cannot be read ({error}); '
                            + what_to_do(error, cure)) from None


def _classes_of(texts: Mapping[str, str], where: str) -> dict[str, list[str]]:
    """Return the class names that a file's metadata has of each domain, if it has any."""
    try:
        return {name: list(classes)
                for name, classes in parse_json(texts.get(CLASSES, '{}')).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise TrainingError(f'{where}: expected class names of each domain, '
                            f'got {shortened(repr(error))}') from None
