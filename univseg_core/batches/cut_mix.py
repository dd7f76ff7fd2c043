"""Cut-mix of unlabelled crops (French et al., BMVC 2020): a box of each comes from its partner."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from univseg_core.batches.transforms import as_planes

AREA = (0.25, 0.5)
"""Share of a crop that its box takes, lowest and highest."""

ASPECT = (0.5, 2.0)
"""Height to width of the box, where the crop has room for it."""


@dataclass(frozen=True)
class CutMix:
    """
    How the unlabelled crops of one domain in a batch are mixed.

    `unmixed` (n, 3, S, S) uint8 are the crops as they were; crop i has, in the cells `inside`
    (n, h, w) bool of the feature map, what crop `partners[i]` (n,) int64 has there.
    """

    unmixed: torch.Tensor
    inside: torch.Tensor
    partners: torch.Tensor

    def of_cells(self, values: torch.Tensor) -> torch.Tensor:
        """Return values (n, C, h, w) of the unmixed crops' cells, mixed as the crops are."""
        return torch.where(self.inside[:, None], values[self.partners], values)

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> 'CutMix':
        """Return it with all its tensors moved."""
        return CutMix(move(self.unmixed), move(self.inside), move(self.partners))


def mixing_groups(count: int) -> list[int]:
    """Return which of `count` crops are mixed with each other: pairs, and three at an odd end."""
    return [min(i // 2, max(0, count // 2 - 1)) for i in range(count)]


def partners_of(groups: Sequence[int]) -> np.ndarray:
    """Return what each crop is mixed with (n,) int64: the one before it in its group, in turn."""
    numbers = np.asarray(groups, int)
    partners = np.arange(len(numbers))
    for group in np.unique(numbers):
        members = np.flatnonzero(numbers == group)
        partners[members] = np.roll(members, 1)
    return partners


def random_box(cells: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Return which of the cells (h, w) bool of a crop's features its box takes."""
    h, w = cells
    area = generator.uniform(*AREA)
    aspect = np.exp(generator.uniform(*np.log(ASPECT)))
    height = min(h, max(1, round(h * np.sqrt(area * aspect))))
    width = min(w, max(1, round(w * np.sqrt(area / aspect))))
    top, left = generator.integers(h - height + 1), generator.integers(w - width + 1)
    inside = np.zeros((h, w), bool)
    inside[top:top + height, left:left + width] = True
    return inside


def cut_mix(images: np.ndarray, targets: np.ndarray, boxes: Sequence[np.ndarray],
            groups: Sequence[int], stride: int) -> tuple[np.ndarray, np.ndarray, CutMix]:
    """
    Return some crops (n, S, S, 3) uint8 and their targets (n, S, S) uint8, mixed, and how.

    `boxes` of cells at `stride`, and `groups`, are those of each crop; targets tell padding,
    which is mixed, too.
    """
    inside = np.zeros((len(images), *(-(-side // stride) for side in targets.shape[1:])),
                      bool)
    for cells, box in zip(inside, boxes, strict=True):
        cells[:] = box
    partners = partners_of(groups)
    mix = CutMix(as_planes(images), torch.from_numpy(inside), torch.from_numpy(partners))
    pixels = inside.repeat(stride, 1).repeat(stride, 2)
    pixels = pixels[:, :targets.shape[1], :targets.shape[2]]
    return (np.where(pixels[..., None], images[partners], images),
            np.where(pixels, targets[partners], targets), mix)
