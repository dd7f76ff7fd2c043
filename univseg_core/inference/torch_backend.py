"""The encoder in PyTorch: batch norm folded, channels_last, in float32 or bf16."""

import copy
import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn
from univseg_core.errors import UnivsegError
from univseg_core.models.batch_norm import fold_batch_norm, is_folded_soundly
from univseg_core.models.encoders import ENCODERS
from univseg_core.models.universal import UniversalSegmenter

log = logging.getLogger(__name__)

PRECISIONS = ('auto', 'fp32', 'bf16')


class TorchBackend:
    """
    A model's encoder on a device of torch; see Backend.

    Raises UnivsegError for an unknown device or precision.
    """

    def __init__(self, model: UniversalSegmenter, device: str = 'auto', precision: str = 'auto'):
        if precision not in PRECISIONS:
            raise UnivsegError(f'precision {precision!r}: expected one of {", ".join(PRECISIONS)}')
        self.device = resolve_device(device)
        bf16 = precision == 'bf16' or (precision == 'auto' and is_good_at_bf16(self.device))
        self._dtype = torch.bfloat16 if bf16 else torch.float32
        self.precision = str(self._dtype).removeprefix('torch.')
        encoder = _folded(model.encoder, model.spec.encoder)
        self._encoder = encoder.to(self.device, self._dtype).to(memory_format=torch.channels_last)
        self._mean, self._std = (values.to(self.device) for values in (model.mean, model.std))

    def features(self, image: np.ndarray) -> torch.Tensor:
        """Return F(x), (1, C_F, h, w) float32, of an image (H, W, 3) uint8 RGB."""
        pixels = torch.from_numpy(image).to(self.device)
        pixels = pixels.permute(2, 0, 1)[None].float()  # channels_last, as the encoder is
        pixels.sub_(self._mean).div_(self._std)
        return self._encoder(pixels.to(self._dtype)).float()


def _folded(encoder: nn.Module, name: str) -> nn.Module:
    """Return an encoder, its own, with its batch norms folded where that is sound."""
    if name in ENCODERS:  # which tests hold to it
        return fold_batch_norm(encoder)
    folded = fold_batch_norm(copy.deepcopy(encoder.cpu()))
    if is_folded_soundly(encoder, folded):
        return folded
    log.warning('%s: its batch norm cannot be folded into its convolutions: it runs as it is, '
                'more slowly', name)
    return encoder


def resolve_device(device: str) -> torch.device:
    """
    Return the torch device of a name: auto (CUDA where there is one), cpu, cuda, cuda:1.

    Raises UnivsegError where torch does not know the name or the device is not there.
    """
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).tolist()  # a device without memory (meta) fails here
    # A PyTorch that was built without CUDA says so by an AssertionError.
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UnivsegError(f'device {device!r} is not available: {reason}') from error
    return resolved


def is_good_at_bf16(device: torch.device) -> bool:
    """Say whether bf16 convolutions run faster than float32 ones on a device."""
    if device.type == 'cuda':
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Of CPUs, only those with AMX gain: with AVX-512 BF16 alone a narrow network gets slower.
    cpuinfo = Path('/proc/cpuinfo')
    return device.type == 'cpu' and cpuinfo.exists() and 'amx_bf16' in cpuinfo.read_text()
