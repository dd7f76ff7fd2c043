"""
The encoders by name, all with one contract.

An encoder maps normalised images (B, 3, H, W) float to features (B, out_channels, ⌈H/stride⌉,
⌈W/stride⌉); it has `out_channels` and `stride`. Images are normalised as its ImageNet weights
expect.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from univseg_core.errors import did_you_mean
from univseg_core.models.dense_encoder import DenseEncoder
from univseg_core.models.drn import DRN, drn_channels, DRN_SPECS
from univseg_core.models.light import light_channels, LightEncoder
from univseg_core.models.neck import at_stride, NECK_CHANNELS
from univseg_core.models.normalisation import IMAGENET, Normalisation
from univseg_core.models.timm_encoder import (
    NAMED,
    PREFIX,
    spec_of,
    timm_normalisation,
    TimmEncoder,
)


@dataclass(frozen=True)
class Encoder:
    """
    What there is to know of an encoder before it is built.

    `channels` of its features by width, `build` by width and stride, the `strides` that it may
    have, the default first, whether it has `widths` other than 1, and the `normalisation` that
    its weights want.
    """

    channels: Callable[[float], int]
    build: Callable[[float, int], DenseEncoder]
    strides: tuple[int, ...] = (8,)
    widths: bool = True
    normalisation: Callable[[], Normalisation] = lambda: IMAGENET


def _drn(name: str) -> Encoder:
    return Encoder(partial(drn_channels, name), lambda width, _: DRN(name, width))


def _of_timm(name: str) -> Encoder:
    return Encoder(lambda _: NECK_CHANNELS, lambda _, stride: TimmEncoder(name, stride), (8, 4),
                   widths=False, normalisation=partial(timm_normalisation, name))


ENCODERS = {
    **{name: _drn(name) for name in DRN_SPECS},
    'light': Encoder(light_channels, lambda width, _: LightEncoder(width)),
    **{name: _of_timm(name) for name in NAMED},
}
"""The encoders that have names of their own; any other network of timm is timm/NAME."""


def encoder_of(name: str) -> Encoder:
    """Return the encoder of a name; ValueError, with what there is, for another."""
    if name in ENCODERS:
        return ENCODERS[name]
    if name.startswith(PREFIX):
        spec_of(name)  # whether timm has it
        return _of_timm(name)
    raise ValueError(f'encoder {name!r}: expected one of {", ".join(ENCODERS)}, or {PREFIX}NAME '
                     f'for any network of timm{did_you_mean(name, ENCODERS)}')


def encoder_channels(name: str, width: float = 1.0) -> int:
    """
    Return how many channels an encoder's features have, without building it.

    Raises ValueError for an unknown name or a width that the encoder cannot have.
    """
    encoder = encoder_of(name)
    if width != 1 and not encoder.widths:
        raise ValueError(f'{name} has no other width than 1, got {width}')
    return encoder.channels(width)


def encoder_stride(name: str, stride: int | None = None) -> int:
    """Return the stride of an encoder: `stride`, or its own; ValueError where it cannot be."""
    strides = encoder_of(name).strides
    if stride not in (None, *strides):
        raise ValueError(f'{name} has features at stride {" or ".join(map(str, strides))} alone, '
                         f'got {stride}: set one that it has, or leave it out')
    return stride or strides[0]


def build_encoder(name: str, width: float = 1.0, stride: int | None = None) -> DenseEncoder:
    """
    Return an encoder of random weights.

    `width` multiplies the channels (1 is the published network), for those that have others.
    The parameters' names are those of the published checkpoints.

    Raises ValueError for a name, width or stride that cannot be.
    """
    encoder_channels(name, width)
    return encoder_of(name).build(width, encoder_stride(name, stride))


def pretrained_part(encoder: nn.Module) -> nn.Module:
    """Return the part of an encoder that has ImageNet weights: its backbone, or all of it."""
    return encoder.backbone if isinstance(encoder, TimmEncoder) else encoder


def pretrained_channels(encoder: DenseEncoder) -> int:
    """Return how many channels `pretrained_features` have."""
    return sum(encoder.map_channels) if isinstance(encoder, TimmEncoder) else encoder.out_channels


def pretrained_features(encoder: DenseEncoder, images: torch.Tensor) -> torch.Tensor:
    """
    Return what an encoder's pretrained part alone makes of normalised images (B, 3, H, W).

    (B, pretrained_channels, ⌈H/stride⌉, ⌈W/stride⌉): the maps of all strides, concatenated.
    """
    if not isinstance(encoder, TimmEncoder):
        return encoder(images)
    height, width = (-(-side // encoder.stride) for side in images.shape[-2:])
    maps = [at_stride(m, stride, encoder.stride, (height, width)) for m, stride in zip(
        encoder.maps(images), encoder.map_strides, strict=True)]
    return torch.cat(maps, 1)
