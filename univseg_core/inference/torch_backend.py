"""The encoder in PyTorch: batch norm folded, channels_last, in float32 or bf16."""

import copy
import logging
from typing import Any

import numpy as np
import torch
from torch import nn
from univseg_core.errors import UnivsegError
from univseg_core.inference import full_resolution, full_resolution_torch
from univseg_core.machine.processors import is_good_at_bf16
from univseg_core.models.batch_norm import fold_batch_norm, is_folded_soundly
from univseg_core.models.encoders import ENCODERS
from univseg_core.models.heads import LinearMap
from univseg_core.models.universal import UniversalSegmenter

log = logging.getLogger(__name__)

PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16}


class TorchBackend:
    """
    A model's encoder on a device of torch; see Backend.

    Raises UnivsegError for an unknown device or precision.
    """

    def __init__(self, model: UniversalSegmenter, device: str = 'auto', precision: str = 'auto'):
        if precision not in ('auto', *PRECISIONS):
            raise UnivsegError(f'precision {precision!r}: expected one of auto, '
                               f'{", ".join(PRECISIONS)}')
        self._device = resolve_device(device)
        self.device = str(self._device)
        if precision == 'auto':
            precision = 'bf16' if good_at_bf16(self._device) else 'fp32'
        self.precision, self._dtype = precision, PRECISIONS[precision]
        encoder = folded(copy.deepcopy(model.encoder).float().eval(), model.spec.encoder)
        self._encoder = encoder.to(self._device, self._dtype).to(
            memory_format=torch.channels_last)
        self._mean, self._std = (values.to(self._device) for values in (model.mean, model.std))

    @torch.inference_mode()
    def features(self, image: np.ndarray) -> Any:
        """Return F(x), (C_F, h, w) float32, of an image (H, W, 3) uint8 RGB."""
        pixels = torch.from_numpy(image).to(self._device)
        pixels = pixels.permute(2, 0, 1)[None].float()  # channels_last, as the encoder is
        pixels.sub_(self._mean).div_(self._std)
        features = self._encoder(pixels.to(self._dtype)).float()[0]
        return features.numpy() if self._on_cpu else features

    @property
    def _on_cpu(self) -> bool:
        return self._device.type == 'cpu'

    def linear(self, each: LinearMap) -> LinearMap:
        """Return a linear map of arrays as one of what `features` returns."""
        if self._on_cpu:
            return each
        return LinearMap(*(torch.from_numpy(values).to(self._device) for values in each))

    @torch.inference_mode()
    def top_classes(self, logits: Any, *sizes: Any, **options: Any
                    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return mask and confidence of logits, (H, W) uint8, made where the logits lie."""
        if self._on_cpu:
            return full_resolution.top_classes(logits, *sizes, **options)
        mask, probabilities = full_resolution_torch.top_classes(logits, *sizes, **options)
        return mask.cpu().numpy(), None if probabilities is None else probabilities.cpu().numpy()


def folded(encoder: nn.Module, name: str) -> nn.Module:
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


def good_at_bf16(device: torch.device) -> bool:
    """Say whether bf16 convolutions run faster than float32 ones on a device."""
    if device.type == 'cuda':
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == 'cpu' and is_good_at_bf16()
