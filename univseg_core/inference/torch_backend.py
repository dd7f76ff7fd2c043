"""The encoder in PyTorch: batch norm folded, channels_last, in float32, bf16 or fp16."""

from collections.abc import Sequence
import copy
import logging
from typing import Any

import numpy as np
import torch
from torch import nn
from univseg_core.errors import UnivsegError
from univseg_core.inference import full_resolution, full_resolution_torch
from univseg_core.inference.on_cuda import GraphedPass, to_host
from univseg_core.machine.processors import is_good_at_bf16
from univseg_core.models.batch_norm import fold_batch_norm, is_folded_soundly, ModuleT
from univseg_core.models.encoders import ENCODERS
from univseg_core.models.heads import LinearMap
from univseg_core.models.universal import UniversalSegmenter

log = logging.getLogger(__name__)

PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class TorchBackend:
    """
    A model's encoder on a device of torch; see Backend and TakesBatches.

    On CUDA devices, images of a size that comes often run as a CUDA graph.

    Raises UnivsegError for an unknown device, or a precision that the device or this network does
    not have.
    """

    def __init__(self, model: UniversalSegmenter, device: str = 'auto', precision: str = 'auto'):
        self._device = resolve_device(device)
        self.device = str(self._device)
        self.precision = choose_precision(self._device, precision)
        encoder = folded(copy.deepcopy(model.encoder).float().eval(), model.spec.encoder)
        network = _FromPixels(encoder, model, PRECISIONS[self.precision]).to(
            self._device).to(memory_format=torch.channels_last)
        self._run = GraphedPass(network, self._device) if self._on_cuda else network
        if self.precision == 'fp16' and not self._is_finite():
            raise UnivsegError(f'precision fp16: features of this {model.spec.encoder} go beyond '
                               'what fp16 holds (65504): take bf16 or fp32')

    def features(self, image: np.ndarray) -> Any:
        """Return F(x), (C_F, h, w) float32, of an image (H, W, 3) uint8 RGB."""
        return self.features_of_several(image[None])[0]

    @torch.inference_mode()
    def features_of_several(self, images: np.ndarray) -> Sequence[Any]:
        """Return F(x) of each of some images (N, H, W, 3) uint8 RGB, from one pass."""
        pixels = torch.from_numpy(images)
        features = self._run(pixels if self._on_cuda else pixels.to(self._device))
        return list(features.numpy() if self._on_cpu else features)

    def _is_finite(self) -> bool:
        """Say whether features of an image of noise are numbers; it is no proof for all images."""
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        return bool(torch.as_tensor(self.features(noise)).isfinite().all())

    @property
    def _on_cpu(self) -> bool:
        return self._device.type == 'cpu'

    @property
    def _on_cuda(self) -> bool:
        return self._device.type == 'cuda'

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
        return to_host(mask), None if probabilities is None else to_host(probabilities)


class _FromPixels(nn.Module):
    """From images (N, H, W, 3) uint8 RGB to their features (N, C_F, h, w) float32."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, encoder: nn.Module, model: UniversalSegmenter, dtype: torch.dtype):
        super().__init__()
        self.encoder, self._dtype = encoder.to(dtype), dtype
        self.register_buffer('mean', model.mean.clone())
        self.register_buffer('std', model.std.clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.permute(0, 3, 1, 2).float()  # channels_last, as the encoder is
        pixels.sub_(self.mean).div_(self.std)
        return self.encoder(pixels.to(self._dtype)).float()


def folded(encoder: ModuleT, name: str) -> ModuleT:
    """Return an encoder, which may be changed, with its batch norms folded where that is sound."""
    if name in ENCODERS:  # tests show that it is sound
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


def choose_precision(device: torch.device, precision: str) -> str:
    """
    Return one of PRECISIONS; auto is the fastest of a device that masks do not suffer from.

    Raises UnivsegError for another, or fp16 on a CPU.
    """
    if precision == 'auto':
        if device.type == 'cuda':
            major, _ = torch.cuda.get_device_capability(device)
            return 'bf16' if major >= 8 else 'fp16' if major >= 7 else 'fp32'
        return 'bf16' if device.type == 'cpu' and is_good_at_bf16() else 'fp32'
    if precision not in PRECISIONS:
        raise UnivsegError(f'precision {precision!r}: expected one of auto, '
                           f'{", ".join(PRECISIONS)}'
                           + ('; `univseg export --precision int8` makes a model for int8'
                              if precision == 'int8' else ''))
    if precision == 'fp16' and device.type == 'cpu':
        raise UnivsegError("precision 'fp16' is for GPUs: a CPU computes in fp32 or bf16")
    return precision
