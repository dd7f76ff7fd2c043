"""Cut-mix of unlabelled crops (French et al., BMVC 2020): a box of each comes from another one."""

from dataclasses import dataclass

import numpy as np
import torch
from univseg_core.models.encoders import OUTPUT_STRIDE

AREA = (0.25, 0.5)
"""Share of a crop that its box takes, lowest and highest."""

ASPECT = (0.5, 2.0)
"""Height to width of the box, where the crop has room for it."""


@dataclass(frozen=True)
class CutMix:
    """
    Which cells of some crops come from the crop before.

    `inside` (B, h, w) bool, in cells of the feature map; the first crop has those of the last.
    """

    inside: torch.Tensor

    def to(self, device: torch.device) -> 'CutMix':
        """Return it on a device."""
        return CutMix(self.inside.to(device))

    def of_cells(self, values: torch.Tensor) -> torch.Tensor:
        """Return values (B, h, w) or (B, C, h, w) of the crops' cells, mixed."""
        inside = self.inside if values.ndim == 3 else self.inside[:, None]
        return torch.where(inside, values.roll(1, 0), values)

    def of_images(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (B, 3, H, W), mixed."""
        inside = self.inside[:, None].repeat_interleave(OUTPUT_STRIDE, 2).repeat_interleave(
            OUTPUT_STRIDE, 3)[..., :images.shape[2], :images.shape[3]]
        return torch.where(inside, images.roll(1, 0), images)


def random_cut_mix(count: int, size: tuple[int, int], generator: np.random.Generator) -> CutMix:
    """
    Return a box for each of `count` crops of some size (H, W) in pixels, on the CPU.

    A crop alone has no other to be mixed with, and stays as it is.
    """
    h, w = (-(-side // OUTPUT_STRIDE) for side in size)
    inside = torch.zeros(count, h, w, dtype=torch.bool)
    for box in inside if count > 1 else []:
        area = generator.uniform(*AREA)
        aspect = np.exp(generator.uniform(*np.log(ASPECT)))
        height = min(h, max(1, round(h * np.sqrt(area * aspect))))
        width = min(w, max(1, round(w * np.sqrt(area / aspect))))
        top, left = generator.integers(h - height + 1), generator.integers(w - width + 1)
        box[top:top + height, left:left + width] = True
    return CutMix(inside)
