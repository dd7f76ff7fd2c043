"""Cut-mix of unlabelled crops (French et al., BMVC 2020): a box of each comes from another one."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from univseg_core.data.mixture import Batch
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

    def of_cells(self, values: torch.Tensor) -> torch.Tensor:
        """Return values (B, C, h, w) of the crops' cells, mixed; on any device."""
        return _mixed(self.inside.to(values.device), values)

    def of_pixels(self, values: torch.Tensor) -> torch.Tensor:
        """Return values (B, 3, H, W) or (B, H, W) of the crops' pixels, mixed, on the CPU."""
        inside = self.inside.repeat_interleave(OUTPUT_STRIDE, 1).repeat_interleave(
            OUTPUT_STRIDE, 2)[:, :values.shape[-2], :values.shape[-1]]
        return _mixed(inside, values)


def _mixed(inside: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    inside = inside if values.ndim == 3 else inside[:, None]
    return torch.where(inside, values.roll(1, 0), values)


def cut_mixed(batch: Batch, generator: np.random.Generator) -> tuple[Batch, dict[str, CutMix]]:
    """
    Return a batch whose unlabelled crops are mixed within their domain, and how each domain's are.

    Their targets, which tell padding, are mixed with them. The batch is on the CPU.
    """
    images, targets, mixes = batch.images.clone(), batch.targets.clone(), {}
    for name, rows in batch.unlabelled.items():
        mixes[name] = mix = random_cut_mix(rows.stop - rows.start, images.shape[-2:], generator)
        images[rows] = mix.of_pixels(images[rows])
        targets[rows] = mix.of_pixels(targets[rows])
    return replace(batch, images=images, targets=targets), mixes


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
