"""The network of a run: how it begins, and what becomes of its label embeddings."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning_fabric import Fabric
import torch
from univseg_core.batches.dataset import DomainData
from univseg_core.method.label_embeddings import embedded_label_embeddings, label_embedding_sums
from univseg_core.models.encoders import encoder_stride
from univseg_core.models.model_file import load_model, ModelCard, ModelFileError, save_model
from univseg_core.models.pretrained import load_imagenet, load_weights
from univseg_core.models.timm_encoder import is_of_timm, TimmEncoder
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.settings.config import RunConfig
from univseg_core.training.checkpoint import Beginning
from univseg_core.training.processes import share_batch_norm, summed
from univseg_core.training.run_context import RunContext
from univseg_core.training.safety import TrainingError


def new_network(config: RunConfig, data: Mapping[str, DomainData]) -> UniversalSegmenter:
    """Return a network of random weights, decided by the seed, for some domains."""
    torch.manual_seed(config.training.seed)
    model = config.model
    spec = ModelSpec(model.encoder, model.width, model.embedding_dim,
                     encoder_stride(model.encoder, model.stride))
    return UniversalSegmenter(spec, [d.domain for d in data.values()])


def network_with_weights(config: RunConfig,
                         data: Mapping[str, DomainData]) -> UniversalSegmenter:
    """
    Return a network whose encoder has the ImageNet weights of the configuration, if it names any.

    Raises EncoderError where they are not to be had, or do not fit.
    """
    network, name, weights = new_network(config, data), config.model.encoder, config.model.weights
    if weights == 'imagenet':
        network.began_with = load_imagenet(network.encoder, name)
    elif weights != 'none':
        network.began_with = load_weights(network.encoder, name, weights)
    return network


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
    own, its = network.spec.to_dict(), found.spec.to_dict()
    if differing := [key for key in own if own[key] != its[key]]:
        raise TrainingError(f'model.start: {path}: ' + ', '.join(
            f'its {key} is {its[key]}, but model.{key} {own[key]}' for key in differing)
            + '; a run keeps the shape of the network that it starts from')
    network.normalise_as(found.normalisation)
    network.began_with = found.began_with
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
                     fabric: Fabric, beginning: Beginning | None = None) -> UniversalSegmenter:
    """
    Return the network that a training begins with, for all its processes.

    Its weights are those of the model file `start`, where it has them, or without it ImageNet's
    as the configuration says, or random. A training that goes on has a `beginning`, needs none of
    these, and gets random ones, to be replaced by its checkpoint's. Without label embeddings,
    nothing learns the embedding.
    """
    if beginning is not None:
        network = new_network(config, data)
        network.normalise_as(beginning.normalisation)
        network.began_with = beginning.began_with
    elif start is None:
        network = network_with_weights(config, data)
    else:
        network = new_network(config, data)
        start_from(start, network)
    if config.training.encoder_statistics == 'frozen':
        assert isinstance(network.encoder, TimmEncoder)  # the configuration was checked for it
        network.encoder.frozen_statistics = True
    for name, vectors in label_embeddings.items():
        network.set_label_embeddings(name, vectors)
    if not label_embeddings:
        network.embedding.requires_grad_(False)
    # On CPUs, only where it was measured to gain and compared with planes; see as_planes.
    if fabric.device.type == 'cuda' or is_of_timm(config.model.encoder):
        network.to(memory_format=torch.channels_last)
    return share_batch_norm(network, fabric)


def update_label_embeddings(context: RunContext, network: UniversalSegmenter,
                            names: Sequence[str]) -> None:
    """Draw a network's label embeddings towards its embeddings of the labelled images (Eq 7)."""
    fabric = context.fabric
    for name in names:
        images = context.stores.labelled[name]
        share = range(fabric.global_rank, len(images), fabric.world_size)
        sums = label_embedding_sums(network, name, (images[i] for i in share))
        totals = summed(fabric, {'sums': sums.sums, 'weights': sums.weights})
        sums.sums, sums.weights = totals['sums'], totals['weights']
        vectors = sums.updated(context.config.label_embeddings.theta)
        network.label_embeddings(name).copy_(vectors)
    network.train()


@contextmanager
def renewed_label_embeddings(context: RunContext, network: UniversalSegmenter,
                             names: Sequence[str]) -> Iterator[None]:
    """Have the label embeddings of a network in training made anew, for the block alone."""
    learned_with = {name: network.label_embeddings(name) for name in names}
    try:
        renew_label_embeddings(context, network, names, several=True)
        yield
    finally:
        for name, vectors in learned_with.items():
            network.set_label_embeddings(name, vectors)
        network.train()


def renew_label_embeddings(context: RunContext, network: UniversalSegmenter, names: Sequence[str],
                           several: bool) -> None:
    """
    Make a network's label embeddings anew, of its E(F(x)), in place.

    Those that it trains with need not be what its embedding has come to: E learns from entropies
    alone. So these are made from the labelled images, for whoever uses the model. `several`
    of each class, as the configuration says, or one. It is left in evaluation mode.
    """
    section = context.config.label_embeddings
    images = {name: context.stores.labelled[name] for name in names}
    vectors = embedded_label_embeddings(network, images, section.centroids if several else 1,
                                        context.config.training.seed)
    for name, rows in vectors.items():
        network.set_label_embeddings(name, rows)


def complete_label_embeddings(context: RunContext, path: Path, names: Sequence[str]) -> None:
    """Give a model file label embeddings where it has none: those that training did without."""
    network, card = load_model(path)
    if all(network.label_embeddings(name).any() for name in names):
        return
    network.to(context.fabric.device)
    renew_label_embeddings(context, network, names, several=False)
    save_model(path, network, card)
