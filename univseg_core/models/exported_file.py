"""
NAME.onnx: a network for other runtimes than PyTorch, with all that a model file says.

It is an ONNX model like any other, which any tool may open: from `image` (H, W, 3) uint8 RGB to
`features` (1, h, w, C_F) and `logits_DOMAIN` (1, h, w, C) float32 at the model's stride. It has
three parts. The first is an ONNX model of its own, from the image to the features: what backends
run. The second adds the logits, for other tools: protobuf merges a further graph into the first.
The third, two further entries of the metadata, are the description as JSON and the arrays of
heads, embedding, label embeddings and evidence of the domains. Reading needs neither PyTorch nor
the package onnx.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save
from univseg_core.domains import Domain
from univseg_core.files import replacing
from univseg_core.files.limits import MODEL
from univseg_core.files.records import parse_json
from univseg_core.models.damage import told_of
from univseg_core.models.domain_evidence import DomainEvidence
from univseg_core.models.export_targets import PRECISIONS, TARGETS
from univseg_core.models.heads import Heads
from univseg_core.models.model_card import (
    check_version,
    CHECKSUM_KEY,
    LARGEST_SIDE,
    METADATA_KEY,
    ModelCard,
    ModelFileError,
    ModelSpec,
)
from univseg_core.models.normalisation import Normalisation
from univseg_core.models.weights import Weights

FORMAT_VERSION = 1

HEADS_KEY = 'univseg_heads'
"""Of the file's metadata: the arrays of the heads, a safetensors file in base64."""

FEATURES = 'features'
"""The output of the network that the heads are for."""

START = b'\x08'
"""The first byte of an ONNX model: of its first field, `ir_version`."""

SAFETENSORS = b'\0\0\0\0{'
"""Bytes 5 to 9 of a model file, whose first byte may be that of an ONNX model."""

MOST_FIELDS = 10_000
"""Of an ONNX model, not those inside of its graph."""

GRAPH_FIELD, METADATA_FIELD = 7, 14
"""The numbers of the fields `graph` and `metadata_props` of an ONNX model in onnx.proto."""


@dataclass(frozen=True)
class Export:
    """
    How a network was exported.

    `target` and `precision` are one of TARGETS and PRECISIONS, `size` the (height, width) in
    pixels of the only images that it takes, or None for any. `compared` is what a comparison with
    the original found, `calibration` how an int8 network came to its ranges, `made_of` the SHA-256
    of the model file that it was made of: plain JSON values.
    """

    target: str = 'onnx'
    precision: str = 'fp32'
    size: tuple[int, int] | None = None
    compared: dict = field(default_factory=dict)
    calibration: dict = field(default_factory=dict)
    made_of: str = ''

    @classmethod
    def from_dict(cls, values: dict) -> 'Export':
        """Return it from plain JSON values; TypeError or ValueError for others."""
        size = values['size']
        export = cls(**{**values, 'size': size if size is None else tuple(size)})
        if not (isinstance(export.compared, dict) and isinstance(export.calibration, dict)
                and isinstance(export.made_of, str)):
            raise ValueError('compared, calibration, made_of: expected keys and values, and a '
                             'text')
        if export.target not in TARGETS or export.precision not in PRECISIONS:
            raise ValueError(f'made for {export.target!r} in {export.precision!r}: expected one '
                             f'of {", ".join(TARGETS)} in {", ".join(PRECISIONS)}')
        if export.size is not None and not (len(export.size) == 2 and all(
                type(side) is int and 0 < side <= LARGEST_SIDE for side in export.size)):
            raise ValueError(f'size {size!r}: expected height and width, 1 to {LARGEST_SIDE}')
        return export


@dataclass(frozen=True)
class ExportedModel:
    """
    What a NAME.onnx holds: `network` is an ONNX model from the image to the features.

    `logits_graph` is the graph (onnx.proto, GraphProto) that it adds for other tools. All else is
    as a model file has it; `channels` are C_F, `sha256` is the checksum in the file. `evidence`
    is None where the model has none.
    """

    path: Path
    network: bytes = field(repr=False)
    export: Export
    spec: ModelSpec
    normalisation: Normalisation
    channels: int
    heads: Heads = field(repr=False)
    domains: dict[str, Domain]
    logits_graph: bytes = field(default=b'', repr=False)
    began_with: Weights | None = None
    sha256: str = ''
    evidence: DomainEvidence | None = field(default=None, repr=False)

    @property
    def stride(self) -> int:
        """Return the pixels from one cell of the features to the next."""
        return self.spec.stride


def is_exported(path: Path) -> bool:
    """
    Return whether a file begins as an ONNX model does, or has its suffix and is no model file.

    Raises OSError where it cannot be read.
    """
    with path.open('rb') as file:
        head = file.read(9)
    return not head.endswith(SAFETENSORS) and (head[:1] == START or path.suffix == '.onnx')


def save_exported(path: Path | str, model: ExportedModel, card: ModelCard) -> None:
    """Write NAME.onnx, whole or not at all; raise OSError, which names the file."""
    description: dict[str, Any] = {
        'export_version': FORMAT_VERSION,
        'export': asdict(model.export),
        'model': {**model.spec.to_dict(), 'channels': model.channels},
        'domains': [domain.to_dict() for domain in model.domains.values()],
        'normalisation': model.normalisation.to_dict(),
        'began_with': model.began_with.to_dict() if model.began_with else None,
        **card.to_dict(),
    }
    tensors = model.heads.tensors() | (model.evidence.tensors() if model.evidence else {})
    # safetensors writes the memory of an array as it lies, whatever its order.
    arrays = save({name: np.ascontiguousarray(values) for name, values in tensors.items()})
    logits = _field(GRAPH_FIELD, model.logits_graph) if model.logits_graph else b''
    body = model.network + logits
    description[CHECKSUM_KEY] = _checksum(body, arrays, description)
    try:
        with replacing(path) as temporary, temporary.open('wb') as file:
            file.write(body)
            for key, text in ((HEADS_KEY, base64.b64encode(arrays)),
                              (METADATA_KEY, json.dumps(description).encode())):
                file.write(_field(METADATA_FIELD, _field(1, key.encode()) + _field(2, text)))
    except OSError as error:
        raise OSError(f'{path}: cannot be written: {error.strerror or error}') from error


def load_exported(path: Path | str) -> tuple[ExportedModel, ModelCard]:
    """
    Return what NAME.onnx holds, and its model's card.

    Raises ModelFileError, which names the file and what is wrong with it: larger than
    limits.MODEL, truncated, damaged, an ONNX model of another tool, of a newer version.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MODEL():
            raise ModelFileError(f'{path}: {path.stat().st_size} bytes, more than {MODEL}')
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f'{path}: cannot be read: {error.strerror or error}') from error
    try:
        network_end, end, logits_graph, entries = _parts(content)
    except ValueError as error:
        raise ModelFileError(f'{path}: truncated, damaged or not an ONNX model ({error})'
                             ) from error
    for key in (METADATA_KEY, HEADS_KEY):
        if key not in entries:
            raise ModelFileError(f'{path}: an ONNX model, but not one that `univseg export` has '
                                 f'made: it has no {key!r} entry in its metadata')
    with told_of(path):
        description = parse_json(entries[METADATA_KEY].decode())
        check_version(path, description['export_version'], FORMAT_VERSION)
        arrays = base64.b64decode(entries[HEADS_KEY], validate=True)
        told = description.pop(CHECKSUM_KEY)
        if told != _checksum(memoryview(content)[:end], arrays, description):
            raise ModelFileError(f'{path}: damaged: its content is not what was written (its '
                                 'checksum differs); copy it again from where it was made')
        network = content[:network_end]
        del content
        return _built(path, network, logits_graph, arrays, description, told)


def _built(path: Path, network: bytes, logits_graph: bytes, arrays: bytes, description: dict,
           sha256: str) -> tuple[ExportedModel, ModelCard]:
    shape, began_with = dict(description['model']), description['began_with']
    channels, spec = int(shape.pop('channels')), ModelSpec(**shape)
    domains = [Domain.from_dict(values) for values in description['domains']]
    if not domains or type(spec.stride) is not int or not 1 <= spec.stride <= LARGEST_SIDE:
        raise ValueError(f'{len(domains)} domains at stride {spec.stride!r}')
    if not (isinstance(spec.encoder, str) and isinstance(spec.width, int | float)
            and type(spec.embedding_dim) is int):
        raise ValueError(f'{spec}: expected a name, a number and an integer')
    try:
        tensors = load(arrays)
        heads = Heads.from_tensors(tensors, domains, channels)
        evidence = DomainEvidence.from_tensors(tensors, [each.name for each in domains], channels)
    except SafetensorError as error:
        raise ValueError(f'its heads: {error}') from error
    return (ExportedModel(path, network, Export.from_dict(description['export']), spec,
                          Normalisation.from_dict(description['normalisation']), channels, heads,
                          {domain.name: domain for domain in domains}, logits_graph,
                          Weights(**began_with) if began_with else None, sha256, evidence),
            ModelCard.from_dict(description))


def _checksum(body: bytes | memoryview, arrays: bytes, description: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(description).encode())
    digest.update(arrays)
    digest.update(body)
    return digest.hexdigest()


def _parts(content: bytes) -> tuple[int, int, bytes, dict[str, bytes]]:
    """
    Return the ends of network and ONNX model, the graph of logits, and our entries by key.

    Raises ValueError for what is no sequence of protobuf's fields.
    """
    network_end = end = len(content)
    graphs: list[memoryview] = []
    entries: dict[str, bytes] = {}
    for number, start, value in _fields(memoryview(content)):
        if number == GRAPH_FIELD:
            graphs.append(value)
            network_end = start if len(graphs) == 2 else network_end
        if number != METADATA_FIELD:
            continue
        entry = {inner: bytes(text) for inner, _, text in _fields(value)}
        key = entry.get(1, b'').decode(errors='replace')
        if key in (METADATA_KEY, HEADS_KEY):
            end = min(end, start)
            entries[key] = entry.get(2, b'')
    return min(network_end, end), end, b''.join(map(bytes, graphs[1:])), entries


def _fields(content: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield the number, the start and the value of each field of a protobuf message."""
    place = 0
    for _ in range(MOST_FIELDS):
        if place >= len(content):
            return
        start = place
        tag, place = _varint(content, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _, end = _varint(content, place)
        elif kind == 2:
            length, place = _varint(content, place)
            end = place + length
        else:
            raise ValueError(f'at byte {start}: a field of kind {kind}')
        if end > len(content):
            raise ValueError(f'its field at byte {start} ends beyond it')
        yield number, start, content[place:end]
        place = end
    raise ValueError(f'more than {MOST_FIELDS} fields')


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    """Return a number at a place, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise ValueError('it ends in the midst of a number')
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError(f'a number of more than ten bytes at byte {place - 10}')


def _field(number: int, value: bytes) -> bytes:
    """Return a field of a protobuf message that holds bytes."""
    return _as_varint(number << 3 | 2) + _as_varint(len(value)) + value


def _as_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
