"""Tensors in safetensors files, which cannot run code."""

from collections.abc import Mapping
import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
import torch
from univseg_core.files import replacing


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


def checksum(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    """Return the SHA-256 of a text and of tensors: their names, types, shapes and values."""
    digest = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        value = tensors[key].detach().cpu().contiguous()
        digest.update(f'\0{key}\0{value.dtype}\0{tuple(value.shape)}\0'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
