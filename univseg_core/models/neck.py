"""A neck: the maps of a backbone at several strides → one map of features, with global context."""

from collections.abc import Sequence

import torch
from torch import nn
import torch.nn.functional as F
from univseg_core.models.light import conv_bn, upsample_centred

NECK_CHANNELS = 128
"""Channels of the features, and of the sums at strides of 8 and more."""

FINE_CHANNELS = 64
"""Channels of the sum at a stride of 4, which has four times the cells."""


class Neck(nn.Module):
    """
    Top-down sums of a backbone's maps (a light feature pyramid; Lin et al., CVPR 2017).

    `channels` and `strides` are those of the maps, from fine to coarse, each stride a multiple of
    the one before it; where there is but one map, as of a vision transformer, its stride is any.
    The features have the stride `stride`, and NECK_CHANNELS channels.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], stride: int):
        super().__init__()
        self._strides = list(strides)
        self._stride = stride
        widths = [FINE_CHANNELS if s < 8 else NECK_CHANNELS for s in strides]
        self.lateral = nn.ModuleList(
            nn.Sequential(*conv_bn(inputs, width, 1))
            for inputs, width in zip(channels, widths, strict=True))
        # Without batch norm: one image has but one value a channel.
        self.context = nn.Conv2d(channels[-1], widths[-1], 1)
        # After the sum at each map but the coarsest, for the next finer one. Plain convolutions:
        # depthwise ones cost little less time and learn far less from random weights.
        outputs = [NECK_CHANNELS, *widths[:-2]] if len(widths) > 1 else [NECK_CHANNELS]
        self.refine = nn.ModuleList(
            nn.Sequential(*conv_bn(inputs, output, 3), nn.ReLU(inplace=True))
            for inputs, output in zip(widths, outputs, strict=False))

    def forward(self, maps: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        """
        Return the features of maps (B, C_i, h_i, w_i), from fine.

        (B, NECK_CHANNELS, h_0, w_0); of a single map (B, NECK_CHANNELS, *size).
        """
        context = self.context(F.adaptive_avg_pool2d(maps[-1], 1))
        x = F.relu(self.lateral[-1](maps[-1]) + context)
        if len(maps) == 1:
            return at_stride(self.refine[0](x), self._strides[0], self._stride, size)
        for i in reversed(range(len(maps) - 1)):
            factor = self._strides[i + 1] // self._strides[i]
            finer = self.lateral[i](maps[i])
            x = self.refine[i](F.relu(upsample_centred(x, factor, finer.shape[-2:]) + finer))
        return x


def at_stride(x: torch.Tensor, old: int, new: int, size: tuple[int, int]) -> torch.Tensor:
    """
    Return a map (B, C, h, w) at stride `old` bilinearly at stride `new`, (B, C, *size).

    Where `old` is a multiple of `new`, a cell is centred on the pixel of its strided convolution;
    otherwise, as with a vision transformer, it is centred in its patch.
    """
    if old % new == 0:
        return upsample_centred(x, old // new, size)
    x = F.interpolate(x, scale_factor=old / new, mode='bilinear', align_corners=False,
                      recompute_scale_factor=False)
    missing = [max(0, wanted - got) for wanted, got in zip(size, x.shape[-2:], strict=True)]
    return F.pad(x, (0, missing[1], 0, missing[0]), mode='replicate')[..., :size[0], :size[1]]
