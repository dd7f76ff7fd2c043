"""A model file and an image → masks."""

from collections.abc import Sequence
import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from univseg_core.domains import Domain, DomainError
from univseg_core.errors import UnivsegError
from univseg_core.images import fit_size, resize_image
from univseg_core.models.model_file import load_model, ModelCard
from univseg_core.models.universal import UniversalSegmenter, upsample

PRECISIONS = ('auto', 'fp32', 'bf16')


@dataclass(frozen=True)
class Segmentation:
    """
    What one domain's head says of an image.

    `mask` (H, W) uint8 holds class indices in the domain's order; `confidence` (H, W) uint8 the
    top class's softmax probability as 0..255, or None where it was not asked for.
    """

    mask: np.ndarray
    confidence: np.ndarray | None = None


class Segmenter:
    """
    The deployed model: encoder and heads, batch norm folded, on one device.

    `domains` maps names to Domain in the model's order; `card` is what the file says of itself.
    Images are scaled so that their longest side is `inference_size` (the size that the model
    learned from, unless given), and masks come back at the image's own size.
    """

    def __init__(self, model: UniversalSegmenter, card: ModelCard, *, device: str = 'auto',
                 precision: str = 'auto', inference_size: int | None = None):
        if precision not in PRECISIONS:
            raise UnivsegError(f'precision {precision!r}: expected one of {", ".join(PRECISIONS)}')
        if inference_size is not None and inference_size < 1:
            raise UnivsegError(f'inference size {inference_size}: expected a number of pixels')
        self.device = resolve_device(device)
        bf16 = precision == 'bf16' or (precision == 'auto' and is_good_at_bf16(self.device))
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.domains: dict[str, Domain] = dict(model.domains)
        self.card = card
        self.inference_size = inference_size or card.image_size
        self._model = fold_batch_norm(copy.deepcopy(model).float().eval())
        self._model.to(self.device, memory_format=torch.channels_last)
        # Only the convolutions run in bf16; normalisation and logits stay float32.
        self._model.encoder.to(self.dtype)

    @classmethod
    def load(cls, path: Path | str, **options) -> 'Segmenter':
        """
        Load a model file; `options` are those of the constructor.

        Raises ModelFileError where the file is not a model, UnivsegError for an unknown device
        or precision.
        """
        return cls(*load_model(path), **options)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, domains: Sequence[str] | None = None, *,
                 confidence: bool = False) -> dict[str, Segmentation]:
        """
        Segment an image (H, W, 3) uint8 RGB in the label spaces of `domains` (None: of all).

        One encoder pass serves all of them. Each mask is exactly the largest of the logits
        after bilinear upsampling. Raises ValueError for another shape or dtype, DomainError for
        an unknown domain (before anything is computed).
        """
        names = list(self.domains) if domains is None else list(domains)
        self.check_domains(names)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f'expected an image of shape (H, W, 3) and dtype uint8, got {image.shape} of '
                f'{image.dtype}')
        if not names:
            return {}
        size = image.shape[:2]
        logits = self.low_resolution_logits(image, names)
        return {name: _segmentation(full_resolution(*logits[name], size), confidence)
                for name in names}

    def check_domains(self, names: Sequence[str]) -> None:
        """Raise DomainError, which lists the valid names, if one is not the model's."""
        for name in names:
            if name not in self.domains:
                raise DomainError(
                    f'unknown domain {name!r}; this model has {", ".join(self.domains)}')

    @torch.inference_mode()
    def low_resolution_logits(self, image: np.ndarray, names: Sequence[str]
                              ) -> dict[str, tuple[torch.Tensor, tuple[int, int]]]:
        """
        Return the logits (1, C, h, w) float32 of some domains at stride 8.

        Beside each stands the (height, width) at which the network saw the image, which
        `full_resolution` needs.
        """
        network_size = fit_size(*image.shape[:2], self.inference_size)
        resized = resize_image(image, *network_size)
        pixels = torch.from_numpy(resized.astype(np.float32)).to(self.device)
        pixels = pixels.permute(2, 0, 1)[None]  # a view: already channels_last
        model = self._model
        features = model.encoder(((pixels - model.mean) / model.std).to(self.dtype)).float()
        return {name: (model.logits(features, name), network_size) for name in names}


def full_resolution(logits: torch.Tensor, network_size: tuple[int, int],
                    size: tuple[int, int]) -> torch.Tensor:
    """Return logits (1, C, h, w) at an image's own size, (1, C, H, W)."""
    full = upsample(logits, network_size)
    if network_size != size:
        full = F.interpolate(full, size=size, mode='bilinear', align_corners=False)
    return full


def _segmentation(logits: torch.Tensor, confidence: bool) -> Segmentation:
    top, index = logits[0].max(0)
    mask = index.to(torch.uint8).cpu().numpy()
    if not confidence:
        return Segmentation(mask)
    probability = (top - logits[0].logsumexp(0)).exp()
    return Segmentation(mask, (255 * probability).round().to(torch.uint8).cpu().numpy())


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


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """
    Fold each batch norm into the convolution registered right before it; in place.

    The module is in evaluation mode, and its children are registered in the order in which
    they are called. Returns the module.
    """
    previous_name, previous = None, None
    for name, child in list(module.named_children()):
        if isinstance(previous, nn.Conv2d) and isinstance(
                child, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            setattr(module, previous_name, fuse_conv_bn_eval(previous, child))
            setattr(module, name, nn.Identity())
        else:
            fold_batch_norm(child)
        previous_name, previous = name, child
    return module
