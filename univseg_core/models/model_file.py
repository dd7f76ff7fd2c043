"""
NAME.univseg: the one file that a robot needs.

It is a safetensors file: tensors of the encoder, heads, embedding and label embeddings, and one
JSON text with all else. Nothing in it can run code.
"""

from dataclasses import dataclass, field
import json
from pathlib import Path

from safetensors import safe_open, SafetensorError
import torch
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.models.normalisation import Normalisation
from univseg_core.models.tensor_files import save_tensors
from univseg_core.models.timm_encoder import EncoderError, is_of_timm
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.models.weights import Weights

FORMAT_VERSION = 3
"""
1 had no stride, no other normalisation than ImageNet's, and other networks by timm's names; of 2,
these networks had another neck.
"""

METADATA_KEY = 'univseg'


class ModelFileError(UnivsegError):
    """A file that is not a model which this version can load."""


@dataclass(frozen=True)
class ModelCard:
    """
    What a model file says of its model, beside its weights.

    `image_size` is the longest side in pixels of the images it learned from (None: as they
    came); `miou` the validation mIoU (0..1) of each domain; `training` how it was made.
    """

    image_size: int | None = None
    miou: dict[str, float] = field(default_factory=dict)
    training: dict = field(default_factory=dict)


def save_model(path: Path | str, model: UniversalSegmenter, card: ModelCard) -> None:
    """Write a model file, whole or not at all."""
    metadata = {
        'format_version': FORMAT_VERSION,
        'model': model.spec.to_dict(),
        'domains': [domain.to_dict() for domain in model.domains.values()],
        'normalisation': model.normalisation.to_dict(),
        'image_size': card.image_size,
        'miou': card.miou,
        'began_with': model.began_with.to_dict() if model.began_with else None,
        'training': card.training,
    }
    save_tensors(path, model.state_dict(), {METADATA_KEY: json.dumps(metadata)})


def load_model(path: Path | str) -> tuple[UniversalSegmenter, ModelCard]:
    """
    Return the model (float32, on the CPU, in evaluation mode) and its card.

    Raises ModelFileError, which names the file and what is wrong with it: missing, truncated,
    not a model file, of a newer format, or with tensors that do not fit its own description.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f'{path}: no such model file')
    try:
        with safe_open(path, framework='pt') as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f'{path}: truncated, damaged or not a model file ({error})') from error
    if text is None:
        raise ModelFileError(
            f'{path}: a safetensors file, but not a univseg model (no {METADATA_KEY!r} entry in '
            'its metadata)')
    model, card = _build(path, text)
    _fill(path, model, tensors)
    return model.eval(), card


def _build(path: Path, text: str) -> tuple[UniversalSegmenter, ModelCard]:
    try:
        metadata = json.loads(text)
        version = metadata['format_version']
        if not isinstance(version, int) or version < 1:
            raise ModelFileError(f'{path}: format version {version!r}: expected an integer')
        if version > FORMAT_VERSION:
            raise ModelFileError(
                f'{path}: format version {version} is newer than {FORMAT_VERSION}, the newest '
                'that this univseg reads; update univseg')
        spec = ModelSpec(**metadata['model'])
        if version < 3 and is_of_timm(spec.encoder):
            raise ModelFileError(
                f'{path}: was made by a univseg in which {spec.encoder} was another network: '
                'train again, or run it by the version that it was made with')
        domains = [Domain.from_dict(values) for values in metadata['domains']]
        model = UniversalSegmenter(spec, domains, Normalisation.from_dict(
            metadata['normalisation']))
        if metadata.get('began_with'):
            model.began_with = Weights(**metadata['began_with'])
        card = ModelCard(metadata['image_size'], metadata['miou'], metadata['training'])
        if card.image_size is not None and not (
                type(card.image_size) is int and card.image_size > 0):
            raise ValueError(f'image_size {card.image_size!r}: expected pixels, or null')
        if not isinstance(card.miou, dict) or not isinstance(card.training, dict):
            raise ValueError('miou and training: expected keys and values')
    except ModelFileError:
        raise
    except EncoderError as error:
        raise ModelFileError(f'{path}: {error}') from error
    except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelFileError(f'{path}: its description is damaged: {error!r}') from error
    return model, card


def _fill(path: Path, model: UniversalSegmenter, tensors: dict[str, torch.Tensor]) -> None:
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
