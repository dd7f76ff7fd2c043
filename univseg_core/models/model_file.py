"""
NAME.univseg: the one file that a robot needs.

It is a safetensors file: tensors of the encoder, heads, embedding, label embeddings and evidence
of the domains, and one JSON text with all else. Nothing in it can run code.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import json
import logging
from pathlib import Path
from threading import get_ident

from safetensors import SafetensorError
import torch
from torch.nn.modules.module import register_module_parameter_registration_hook
from univseg_core.domains import Domain
from univseg_core.files.records import parse_json
from univseg_core.models.damage import told_of
from univseg_core.models.domain_evidence import DomainEvidence, PREFIX
from univseg_core.models.exported_file import is_exported
from univseg_core.models.model_card import (
    check_version,
    CHECKSUM_KEY,
    METADATA_KEY,
    ModelCard,
    ModelFileError,
    ModelSpec,
)
from univseg_core.models.normalisation import Normalisation
from univseg_core.models.tensor_files import (
    checksum,
    read_tensors,
    save_tensors,
    TensorFileError,
)
from univseg_core.models.timm_encoder import EncoderError, is_of_timm
from univseg_core.models.universal import UniversalSegmenter
from univseg_core.models.weights import Weights

FORMAT_VERSION, WITHOUT_HALVES, WITHOUT_EVIDENCE = 5, 4, 3
"""
The format's versions: 5 has values in float16, 4 has not, 3 has no evidence of the domains either.
A file gets the lowest that fits, so that older readers take it. 1 had no stride, no other
normalisation than ImageNet's, and other networks by timm's names; in 2, these networks had another
neck.
"""

MOST_VALUES = 2**24
"""
A network that is built for a file may have so many values, and 32 for each value in the file,
before the file's tensors are held against it: timm builds classifiers, too, and then leaves them
out.
"""

log = logging.getLogger(__name__)


def save_model(path: Path | str, model: UniversalSegmenter, card: ModelCard, *,
               in_half: bool = False) -> None:
    """
    Write a model file, whole or not at all.

    In half, its values are rounded to float16, which takes half of the bytes; ValueError where one
    is too large for that.
    """
    metadata = {
        'format_version': (FORMAT_VERSION if in_half else WITHOUT_HALVES if model.evidence
                           else WITHOUT_EVIDENCE),
        'model': model.spec.to_dict(),
        'domains': [domain.to_dict() for domain in model.domains.values()],
        'normalisation': model.normalisation.to_dict(),
        'began_with': model.began_with.to_dict() if model.began_with else None,
        **card.to_dict(),
    }
    tensors = model.state_dict()
    if model.evidence:
        tensors |= {key: torch.from_numpy(values)
                    for key, values in model.evidence.tensors().items()}
    if in_half:
        tensors = {key: _rounded(key, tensor) for key, tensor in tensors.items()}
    metadata[CHECKSUM_KEY] = checksum(tensors, json.dumps(metadata))
    save_tensors(path, tensors, {METADATA_KEY: json.dumps(metadata)})


def _rounded(key: str, tensor: torch.Tensor) -> torch.Tensor:
    half = tensor.half() if tensor.is_floating_point() else tensor
    if not half.isfinite().all():
        raise ValueError(f'{key} has values that float16 cannot hold')
    return half


def load_model(path: Path | str) -> tuple[UniversalSegmenter, ModelCard]:
    """
    Return the model (float32, on the CPU, in evaluation mode) and its card.

    Raises ModelFileError, which names the file and what is wrong with it: missing, truncated,
    damaged, not a model file, of a newer format, or with tensors that do not fit its own
    description. A network much larger than the file is never built. The log warns of a file
    without a checksum, as older versions wrote them.
    """
    path = Path(path)
    if path.is_dir():
        raise ModelFileError(f'{path}: a folder; expected a model file, as a finished run has '
                             f'{path / "model.univseg"}')
    if not path.is_file():
        raise ModelFileError(f'{path}: no such model file')
    try:
        tensors, metadata = read_tensors(path)
    except TensorFileError as error:
        raise ModelFileError(f'{path}: {error}') from error
    except OSError as error:
        raise ModelFileError(f'{path}: cannot be read: {error.strerror or error}') from error
    except SafetensorError as error:
        if is_exported(path):
            raise ModelFileError(f'{path}: an exported model, which has no weights to go on with: '
                                 'expected the model file that it was made of (NAME.univseg)'
                                 ) from error
        raise ModelFileError(
            f'{path}: truncated, damaged or not a model file, which is NAME.univseg, or NAME.onnx '
            f'of `univseg export` ({error})') from error
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise ModelFileError(
            f'{path}: a safetensors file, but not a univseg model (no {METADATA_KEY!r} entry in '
            'its metadata)')
    with told_of(path):
        description = parse_json(text)
        check_version(path, description['format_version'], FORMAT_VERSION)
        _check(path, description, tensors)
        try:
            return _built(path, description, tensors)
        except EncoderError as error:
            raise ModelFileError(f'{path}: {error}') from error


def _check(path: Path, description: dict, tensors: Mapping[str, torch.Tensor]) -> None:
    told = description.pop(CHECKSUM_KEY, None)
    if told is None:
        log.warning('%s: made before model files had a checksum: whether it is damaged cannot be '
                    'told', path)
    elif told != checksum(tensors, json.dumps(description)):
        raise ModelFileError(f'{path}: damaged: its content is not what was written (its checksum '
                             'differs); copy it again from where it was made')


def _built(path: Path, metadata: dict, tensors: Mapping[str, torch.Tensor]
           ) -> tuple[UniversalSegmenter, ModelCard]:
    if metadata['format_version'] > WITHOUT_HALVES:
        tensors = {key: tensor.float() if tensor.dtype == torch.float16 else tensor
                   for key, tensor in tensors.items()}
    spec = ModelSpec(**metadata['model'])
    if metadata['format_version'] < 3 and is_of_timm(spec.encoder):
        raise ModelFileError(
            f'{path}: was made by a univseg in which {spec.encoder} was another network: '
            'train again, or run it by the version that it was made with')
    domains = [Domain.from_dict(values) for values in metadata['domains']]
    normalisation = Normalisation.from_dict(metadata['normalisation'])
    card = ModelCard.from_dict(metadata)
    began_with = Weights(**metadata['began_with']) if metadata.get('began_with') else None
    if foreign := [domain.name for domain in domains
                   if f'head_{domain.name}.weight' not in tensors]:
        raise ModelFileError(f'{path}: its tensors do not fit its description: it has none of '
                             f'{", ".join(foreign[:5])}')
    with _bounded(tensors):
        model = UniversalSegmenter(spec, domains, normalisation)
    model.began_with = began_with
    evidence = {key: tensor.numpy() for key, tensor in tensors.items() if key.startswith(PREFIX)}
    _fill(path, model, {key: tensor for key, tensor in tensors.items() if key not in evidence})
    try:
        model.evidence = DomainEvidence.from_tensors(evidence, list(model.domains),
                                                     model.encoder.out_channels)
    except ValueError as error:
        raise ModelFileError(f'{path}: {error}') from error
    return model.eval(), card


@contextmanager
def _bounded(tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Raise ValueError, in the block, before a network far larger than the tensors is built."""
    most = MOST_VALUES + 32 * sum(tensor.numel() for tensor in tensors.values())
    counts: Counter[str] = Counter()  # by device: timm tries networks without memory first
    thread = get_ident()

    def count(_: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        if parameter is not None and get_ident() == thread:
            counts[parameter.device.type] += parameter.numel()
            if max(counts.values()) > most:
                raise ValueError('it tells of a network larger than its tensors')

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _fill(path: Path, model: UniversalSegmenter, tensors: Mapping[str, torch.Tensor]) -> None:
    expected = model.state_dict()
    missing, foreign = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or foreign:
        raise ModelFileError(
            f'{path}: its tensors do not fit its description: missing {sorted(missing)[:5]}, '
            f'unexpected {sorted(foreign)[:5]}')
    for name in model.domains:
        try:
            # Their number of rows, C·K, is the file's to say.
            model.set_label_embeddings(name, tensors[f'label_embeddings_{name}'])
        except ValueError as error:
            raise ModelFileError(f'{path}: {error}') from error
    expected = model.state_dict()
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape or tensor.dtype != expected[key].dtype:
            raise ModelFileError(
                f'{path}: tensor {key}: expected {tuple(expected[key].shape)} of '
                f'{expected[key].dtype}, got {tuple(tensor.shape)} of {tensor.dtype}')
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ModelFileError(f'{path}: tensor {key} holds values that are not finite')
    model.load_state_dict(tensors)
