"""
Dilated residual networks (Yu, Koltun and Funkhouser, CVPR 2017) as dense encoders.

Parameter names are those of the published ImageNet checkpoints.
"""

from collections.abc import Callable
from dataclasses import dataclass
import math

import torch
from torch import nn
from univseg_core.models.dense_encoder import DenseEncoder

CHANNELS = (16, 32, 64, 128, 256, 512, 512, 512)
"""Output channels of the eight levels at full width."""


@dataclass(frozen=True)
class DRNSpec:
    """Which member of the family: arch 'C' or 'D', the blocks of each level, block type."""

    arch: str
    depths: tuple[int, int, int, int, int, int, int, int]
    bottleneck: bool = False


DRN_SPECS = {
    'drn_c_26': DRNSpec('C', (1, 1, 2, 2, 2, 2, 1, 1)),
    'drn_c_42': DRNSpec('C', (1, 1, 3, 4, 6, 3, 1, 1)),
    'drn_c_58': DRNSpec('C', (1, 1, 3, 4, 6, 3, 1, 1), bottleneck=True),
    'drn_d_22': DRNSpec('D', (1, 1, 2, 2, 2, 2, 1, 1)),
    'drn_d_38': DRNSpec('D', (1, 1, 3, 4, 6, 3, 1, 1)),
    'drn_d_54': DRNSpec('D', (1, 1, 3, 4, 6, 3, 1, 1), bottleneck=True),
    'drn_d_105': DRNSpec('D', (1, 1, 3, 4, 23, 3, 1, 1), bottleneck=True),
}


def drn_channels(name: str, width: float) -> int:
    """Return how many channels the features of a member of the family have."""
    if name not in DRN_SPECS:
        raise ValueError(f'encoder {name!r}: expected one of {", ".join(DRN_SPECS)}')
    return int(CHANNELS[-1] * width)


def convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1,
                dilation: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size at stride 1."""
    padding = dilation * (size // 2)
    return nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=False)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions; without `residual` a plain stack (the last levels of arch C)."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, dilation: int,
                 downsample: nn.Module | None, residual: bool):
        super().__init__()
        self.conv1 = convolution(inputs, planes, stride=stride, dilation=dilation)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C_in, H, W) to (B, planes, H/stride, W/stride)."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.residual:
            y = y + (x if self.downsample is None else self.downsample(x))
        return self.relu(y)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with a shortcut; four times `planes` channels come out."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, dilation: int,
                 downsample: nn.Module | None, residual: bool):
        super().__init__()
        if not residual:
            raise ValueError('a Bottleneck always has its shortcut')
        self.conv1 = convolution(inputs, planes, size=1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes, stride=stride, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = convolution(planes, planes * self.expansion, size=1)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C_in, H, W) to (B, 4·planes, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class DRN(DenseEncoder):
    """
    A dilated residual network without its classifier.

    `forward` maps normalised images (B, 3, H, W) float to features (B, out_channels, ⌈H/8⌉,
    ⌈W/8⌉). `width` multiplies every level's channels (1 is the published network).

    Raises ValueError for a name outside DRN_SPECS or a width that leaves no channel.
    """

    def __init__(self, name: str = 'drn_d_22', width: float = 1.0):
        super().__init__()
        self.out_channels, self.stride = drn_channels(name, width), 8
        spec = DRN_SPECS[name]
        channels = [int(c * width) for c in CHANNELS]
        if channels[0] < 1:
            raise ValueError(f'encoder width {width}: expected at least {1 / CHANNELS[0]}')
        self._inputs = channels[0]
        block: type[BasicBlock | Bottleneck] = Bottleneck if spec.bottleneck else BasicBlock

        if spec.arch == 'D':
            self.layer0 = nn.Sequential(
                convolution(3, channels[0], size=7), nn.BatchNorm2d(channels[0]),
                nn.ReLU(inplace=True))
            plain: Callable = self._convolutions
        else:
            self.conv1 = convolution(3, channels[0], size=7)
            self.bn1 = nn.BatchNorm2d(channels[0])
            self.relu = nn.ReLU(inplace=True)
            plain = self._basic_blocks
        self.layer1 = plain(channels[0], spec.depths[0])
        self.layer2 = plain(channels[1], spec.depths[1], stride=2)
        self.layer3 = self._blocks(block, channels[2], spec.depths[2], stride=2)
        self.layer4 = self._blocks(block, channels[3], spec.depths[3], stride=2)
        self.layer5 = self._blocks(block, channels[4], spec.depths[4], dilation=2)
        self.layer6 = self._blocks(block, channels[5], spec.depths[5], dilation=4)
        # The last levels have no shortcuts: they smooth the gridding that dilation leaves.
        self.layer7 = plain(channels[6], spec.depths[6], dilation=2, residual=False)
        self.layer8 = plain(channels[7], spec.depths[7], residual=False)
        self._initialise()

    def _blocks(self, block: type[BasicBlock | Bottleneck], planes: int, count: int,
                stride: int = 1, dilation: int = 1, residual: bool = True) -> nn.Sequential:
        outputs = planes * block.expansion
        downsample = None
        if stride != 1 or self._inputs != outputs:
            downsample = nn.Sequential(
                convolution(self._inputs, outputs, size=1, stride=stride),
                nn.BatchNorm2d(outputs))
        blocks = [block(self._inputs, planes, stride, dilation, downsample, residual)]
        blocks += [block(outputs, planes, 1, dilation, None, residual) for _ in range(count - 1)]
        self._inputs = outputs
        return nn.Sequential(*blocks)

    def _basic_blocks(self, planes: int, count: int, stride: int = 1, dilation: int = 1,
                      residual: bool = True) -> nn.Sequential:
        return self._blocks(BasicBlock, planes, count, stride, dilation, residual)

    def _convolutions(self, planes: int, count: int, stride: int = 1, dilation: int = 1,
                      residual: bool = False) -> nn.Sequential:
        layers = []
        for i in range(count):
            layers += [convolution(self._inputs, planes, stride=stride if i == 0 else 1,
                                   dilation=dilation),
                       nn.BatchNorm2d(planes), nn.ReLU(inplace=True)]
            self._inputs = planes
        return nn.Sequential(*layers)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * math.prod(module.kernel_size)
                nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, out_channels, ⌈H/8⌉, ⌈W/8⌉) of images (B, 3, H, W)."""
        x = self.layer0(x) if hasattr(self, 'layer0') else self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.layer8(self.layer7(self.layer6(self.layer5(x))))
