"""Tensors in safetensors files, which cannot run code."""

from collections.abc import Mapping
import hashlib
from pathlib import Path

from safetensors import safe_open, SafetensorError
from safetensors.torch import save_file
import torch
from univseg_core.errors import shortened, UnivsegError
from univseg_core.files import replacing
from univseg_core.files.limits import MODEL, TEXT

Shapes = dict[str, tuple[int, ...]]
"""Of tensors, by name."""

MOST_TENSORS = 20_000


class TensorFileError(UnivsegError):
    """A file of tensors that is larger than what should be read of it; it may be good."""


def save_tensors(path: Path | str, tensors: Mapping[str, torch.Tensor],
                 metadata: Mapping[str, str] | None = None) -> None:
    """
    Write a safetensors file whole or not at all.

    Raises OSError, which names the file, where the disk does not take it.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:
            raise OSError(f'{path}: cannot be written: {error}') from error


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """
    Return a safetensors file's tensors, on the CPU, and its metadata.

    Raises as `read_shapes` does.
    """
    _check_size(path)
    try:
        with safe_open(path, framework='pt') as file:
            keys = _few(file.keys())
            return {key: file.get_tensor(key) for key in keys}, file.metadata() or {}
    except SafetensorError as error:
        raise SafetensorError(shortened(str(error))) from error


def read_shapes(path: Path) -> tuple[Shapes, dict[str, str]]:
    """
    Return the shapes of a safetensors file's tensors, which are not read, and its metadata.

    Raises SafetensorError for what is no such file, TensorFileError for one of more than
    limits.MODEL bytes or MOST_TENSORS tensors, or whose header has more than limits.TEXT;
    OSError where it cannot be read.
    """
    _check_size(path)
    try:
        with safe_open(path, framework='pt') as file:
            return {key: tuple(file.get_slice(key).get_shape())
                    for key in _few(file.keys())}, file.metadata() or {}
    except SafetensorError as error:
        raise SafetensorError(shortened(str(error))) from error


def _check_size(path: Path) -> None:
    """Raise TensorFileError for what would take much memory or time to look at."""
    if path.exists() and not path.is_file():
        raise SafetensorError('not a file')
    with path.open('rb') as file:
        header, size = int.from_bytes(file.read(8), 'little'), path.stat().st_size
    if TEXT() < header < size:
        raise TensorFileError(f'a header of more than {TEXT}')
    if size > MODEL():
        raise TensorFileError(f'{size} bytes, more than {MODEL}')


def _few(keys: list[str]) -> list[str]:
    if len(keys) > MOST_TENSORS:
        raise TensorFileError(f'{len(keys)} tensors; expected {MOST_TENSORS} at most')
    return keys


def checksum(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    """Return the SHA-256 of a text and of tensors: their names, types, shapes and values."""
    digest = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        value = tensors[key].detach().cpu().contiguous()
        digest.update(f'\0{key}\0{value.dtype}\0{tuple(value.shape)}\0'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
