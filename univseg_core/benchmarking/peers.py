"""
What users would pick instead: segmentation networks of other packages, by name.

A package is imported where one of its networks is built, and not before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import nn
import torch.nn.functional as F
from univseg_core.errors import first_few, UnivsegError

SMP = 'segmentation_models_pytorch'
TORCHVISION = 'torchvision.models.segmentation'


class PeerError(UnivsegError):
    """A network of another package that cannot be had: for want of it, or of its weights."""


class PeerNetwork(nn.Module):
    """
    A segmentation network of one label space: a backbone, and a head that makes logits of it.

    `forward` maps images (B, 3, H, W) float, normalised by IMAGENET, of any size to logits
    (B, C, ⌈H/stride⌉, ⌈W/stride⌉). It ends before the package's own upsampling to the image's
    size, so that `upsample` or `top_classes` does that for all alike. Sides are padded with
    zeros to what the network divides them by, `multiple`. `backbone` has the ImageNet weights,
    if there are any.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, stride: int, multiple: int = 1):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.stride, self._multiple = stride, multiple

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, C, ⌈H/stride⌉, ⌈W/stride⌉) of normalised images (B, 3, H, W)."""
        height, width = (-(-side // self.stride) for side in images.shape[-2:])
        below, beside = (-side % self._multiple for side in images.shape[-2:])
        if below or beside:
            images = F.pad(images, (0, beside, 0, below))
        return self.head(self.backbone(images))[..., :height, :width]


Maker = Callable[[Any, int, bool], PeerNetwork]
"""Takes the package's module, the number of classes, and whether with ImageNet weights."""


@dataclass(frozen=True)
class Peer:
    """
    A network of another package.

    `module` is what is imported, `package` what pip installs, `of` makes the network.
    """

    module: str
    package: str
    of: Maker

    def build(self, classes: int, *, pretrained: bool = False) -> PeerNetwork:
        """
        Return the network with so many classes, in training mode.

        Its weights are random, or `pretrained`: the backbone's are then ImageNet's, which the
        package downloads and keeps in its own cache. Raises PeerError, with the line of pip,
        where the package is missing, and where the weights cannot be had.
        """
        try:
            module = import_module(self.module)
        except (ImportError, OSError, RuntimeError) as error:  # or of a PyTorch of another build
            raise PeerError(f'{self.module} cannot be imported ({error}): pip install '
                            f'{self.package}') from error
        if not pretrained:
            return self.of(module, classes, False)
        try:
            return self.of(module, classes, True)
        except Exception as error:  # of the network, of its libraries, of a damaged file
            reason = first_few(str(error).splitlines(), 1)
            raise PeerError(f'{self.package}: ImageNet weights could not be downloaded, or read '
                            f'from its cache of downloads: {reason or repr(error)}') from error


class _Only(nn.Module):
    """Takes the one map of a backbone of torchvision."""

    def forward(self, maps: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the map that is named `out`."""
        return maps['out']


def _weights(pretrained: bool) -> dict[str, str | None]:
    """Return the arguments of torchvision's builders."""
    return {'weights': None, 'weights_backbone': 'IMAGENET1K_V1' if pretrained else None}


def _lraspp(module: Any, classes: int, pretrained: bool) -> PeerNetwork:
    model = module.lraspp_mobilenet_v3_large(num_classes=classes, **_weights(pretrained))
    return PeerNetwork(model.backbone, model.classifier, stride=8)


def _deeplabv3(module: Any, classes: int, pretrained: bool) -> PeerNetwork:
    model = module.deeplabv3_mobilenet_v3_large(num_classes=classes, **_weights(pretrained))
    return PeerNetwork(model.backbone, nn.Sequential(_Only(), model.classifier), stride=16)


def _of_smp(name: str, stride: int, multiple: int, **options: int) -> Maker:
    """Return the maker of a network of segmentation-models-pytorch with ResNet-18."""
    def make(module: Any, classes: int, pretrained: bool) -> PeerNetwork:
        model = getattr(module, name)(
            'resnet18', encoder_weights='imagenet' if pretrained else None, classes=classes,
            **options)
        return PeerNetwork(model.encoder, nn.Sequential(model.decoder, model.segmentation_head),
                           stride, multiple)
    return make


PEERS = {
    'lraspp_mobilenet_v3_large': Peer(TORCHVISION, 'torchvision', _lraspp),
    'deeplabv3_mobilenet_v3_large': Peer(TORCHVISION, 'torchvision', _deeplabv3),
    'unet_resnet18': Peer(SMP, 'segmentation-models-pytorch', _of_smp('Unet', 1, 32)),
    'fpn_resnet18': Peer(SMP, 'segmentation-models-pytorch',
                         _of_smp('FPN', 4, 32, upsampling=1)),
    'deeplabv3plus_resnet18': Peer(SMP, 'segmentation-models-pytorch',
                                   _of_smp('DeepLabV3Plus', 4, 16, upsampling=1)),
}
"""All of them, by name."""
