"""What all encoders have in common."""

from torch import nn


class DenseEncoder(nn.Module):
    """Maps images (B, 3, H, W) to features (B, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)."""

    out_channels: int
    stride: int
