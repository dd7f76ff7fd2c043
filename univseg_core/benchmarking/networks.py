"""Files of networks with random weights, which take the time of trained ones."""

from collections.abc import Iterator, Sequence
from itertools import product
import logging
from pathlib import Path

import numpy as np
from univseg_core.benchmarking.peers import PEERS
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.exporting.network import encoder_to_onnx, to_onnx
from univseg_core.models.encoders import ENCODERS
from univseg_core.models.exported_file import Export, ExportedModel, save_exported
from univseg_core.models.heads import Heads, LinearMap
from univseg_core.models.model_card import ModelCard, ModelSpec
from univseg_core.models.model_file import save_model
from univseg_core.models.normalisation import IMAGENET
from univseg_core.models.universal import UniversalSegmenter

CLASSES = 13
"""Of each domain."""

log = logging.getLogger(__name__)


def new_models(encoders: Sequence[str], domains: int, folder: Path) -> Iterator[Path]:
    """
    Write models of some encoders with so many domains to a folder; yield NAME.univseg, NAME.onnx.

    Where one cannot be exported, for want of a package, there is a warning in the place of the
    second.
    """
    for name in encoders:
        model = UniversalSegmenter(
            ModelSpec(name, stride=ENCODERS[name].strides[0]),
            [Domain.create(f'place{i}', [f'class {c}' for c in range(CLASSES)])
             for i in range(domains)]).eval()
        path = folder / f'{name}.univseg'
        save_model(path, model, ModelCard())
        yield path
        log.info('%s: it becomes an ONNX network', name)
        try:
            network = encoder_to_onnx(model, None)
        except UnivsegError as error:
            log.warning('%s: measured in PyTorch alone: %s', name, error)
            continue
        exported = ExportedModel(
            path.with_suffix('.onnx'), network, Export(), model.spec, model.normalisation,
            model.encoder.out_channels, model.as_arrays(), model.domains)
        save_exported(exported.path, exported, ModelCard())
        yield exported.path


def peer_file(name: str, size: tuple[int, int], folder: Path) -> Path:
    """
    Write a network of PEERS for a size (height, width) to a folder, exported; return its file.

    The `features` of that file are its logits already, of CLASSES. Raises PeerError where its
    package is missing, ExportError where it cannot be exported.
    """
    network = PEERS[name].build(CLASSES).eval()
    domain = Domain.create('place', [f'class {c}' for c in range(CLASSES)])
    nothing = LinearMap(np.zeros((CLASSES, CLASSES), np.float32), np.zeros(CLASSES, np.float32))
    log.info('%s: it becomes an ONNX network', name)
    exported = ExportedModel(
        folder / f'{name}_{size[1]}x{size[0]}.onnx', to_onnx(network, name, IMAGENET, size),
        Export(size=size), ModelSpec(name, stride=network.stride), IMAGENET, CLASSES,
        Heads({domain.name: nothing}, nothing,
              {domain.name: np.zeros((CLASSES, CLASSES), np.float32)}), {domain.name: domain})
    save_exported(exported.path, exported, ModelCard())
    return exported.path


def peer_files(sizes: Sequence[tuple[int, int]], folder: Path
               ) -> Iterator[tuple[Path, str, tuple[int, int]]]:
    """Yield the files of all PEERS that can be had, as `peer_file` writes them; warn of others."""
    for name, size in product(PEERS, sizes):
        try:
            yield peer_file(name, size, folder), name, size
        except UnivsegError as error:
            log.warning('%s is left out: %s', name, error)
