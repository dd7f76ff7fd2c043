"""Tensors in safetensors files, which cannot run code."""

from collections.abc import Mapping
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
