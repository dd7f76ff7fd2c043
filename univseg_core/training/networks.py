"""The network of a run: how it begins, and what becomes of its label embeddings."""

from collections.abc import Mapping, Sequence
import copy
from pathlib import Path

from lightning.fabric import Fabric
import torch
from univseg_core.config import RunConfig
from univseg_core.data.dataset import DomainData
from univseg_core.label_embeddings import centroid_sums, embedded_label_embeddings
from univseg_core.models.encoders import load_pretrained
from univseg_core.models.model_file import load_model, ModelCard, ModelFileError
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.training.processes import share_batch_norm, summed
from univseg_core.training.safety import TrainingError
from univseg_core.training.setup import Setup


def new_network(config: RunConfig, data: Mapping[str, DomainData]) -> UniversalSegmenter:
    """Return a network of random weights, decided by the seed, for some domains."""
    torch.manual_seed(config.training.seed)
    spec = ModelSpec(config.model.encoder, config.model.width, config.model.embedding_dim)
    return UniversalSegmenter(spec, [d.domain for d in data.values()])


def start_from(path: Path, network: UniversalSegmenter) -> tuple[UniversalSegmenter, ModelCard]:
    """
    Give a network the encoder, embedding and heads of a model file, those of equal domains.

    Returns what the file holds. Raises TrainingError where it is no model file, its network has
    another shape, or a domain other classes.
    """
    try:
        found, card = load_model(path)
    except ModelFileError as error:
        raise TrainingError(f'model.start: {error}') from error
    expected, got = network.spec.to_dict(), found.spec.to_dict()
    if differing := [key for key in expected if expected[key] != got[key]]:
        raise TrainingError(f'model.start: {path}: ' + ', '.join(
            f'its {key} is {got[key]}, but model.{key} {expected[key]}' for key in differing)
            + '; a run keeps the shape of the network that it starts from')
    network.encoder.load_state_dict(found.encoder.state_dict())
    network.embedding.load_state_dict(found.embedding.state_dict())
    for name in network.domains.keys() & found.domains.keys():
        expected, got = network.domains[name].classes, found.domains[name].classes
        if expected != got:
            raise TrainingError(f'model.start: {path}: {name}: expected the classes '
                                f'{", ".join(expected)}, got {", ".join(got)}; a domain of '
                                'another name would get a new head')
        network.head(name).load_state_dict(found.head(name).state_dict())
    return found, card


def prepared_network(config: RunConfig, data: Mapping[str, DomainData],
                     label_embeddings: Mapping[str, torch.Tensor], start: Path | None,
                     fabric: Fabric) -> UniversalSegmenter:
    """
    Return the network that a training begins with, for all its processes.

    Its weights are those of the model file `start`, where it has them, of the configuration's
    ImageNet checkpoint, or random. Without label embeddings, nothing learns the embedding.
    """
    network = new_network(config, data)
    if config.model.pretrained is not None:
        load_pretrained(network.encoder, config.model.pretrained)
    if start is not None:
        start_from(start, network)
    for name, vectors in label_embeddings.items():
        network.set_label_embeddings(name, vectors)
    if not label_embeddings:
        network.embedding.requires_grad_(False)
    if fabric.device.type == 'cuda':  # on CPUs, see MixtureDataset
        network.to(memory_format=torch.channels_last)
    return share_batch_norm(network, fabric)


def update_label_embeddings(setup: Setup, network: UniversalSegmenter,
                            names: Sequence[str]) -> None:
    """Draw a network's label embeddings towards its embeddings of the labelled images (Eq 7)."""
    fabric = setup.fabric
    for name in names:
        images = setup.stores.labelled[name]
        share = range(fabric.global_rank, len(images), fabric.world_size)
        sums = centroid_sums(network, name, (images[i] for i in share))
        totals = summed(fabric, {'sums': sums.sums, 'weights': sums.weights})
        sums.sums, sums.weights = totals['sums'], totals['weights']
        vectors = sums.updated(setup.config.label_embeddings.theta)
        network.label_embeddings(name).copy_(vectors)
    network.train()


def deployable(setup: Setup, network: UniversalSegmenter, names: Sequence[str],
               several: bool) -> UniversalSegmenter:
    """
    Return a copy of a network whose label embeddings are the class-wise centroids of E(F(x)).

    Those that it trains with need not be what its embedding has come to: E learns from entropies
    alone. So these are made anew from the labelled images, for whoever uses the model. `several`
    of each class, as the configuration says, or one.
    """
    copied = copy.deepcopy(network)
    section = setup.config.label_embeddings
    images = {name: setup.stores.labelled[name] for name in names}
    vectors = embedded_label_embeddings(copied, images, section.centroids if several else 1,
                                        setup.config.training.seed)
    for name, rows in vectors.items():
        copied.set_label_embeddings(name, rows)
    return copied
