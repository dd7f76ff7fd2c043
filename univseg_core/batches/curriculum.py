"""Size as a curriculum: a training that begins with small images and ends with large ones."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from univseg_core.batches.transforms import Augmentation

GRAIN, SMALLEST = 8, 64
"""Pixels of which a crop's side is a multiple in a stage before the last, and at least."""


@dataclass(frozen=True)
class Curriculum:
    """The augmentation of each stage of a training, and the steps at which they begin, from 0."""

    augmentations: tuple[Augmentation, ...]
    begins: tuple[int, ...] = (0,)

    def at(self, step: int) -> Augmentation:
        """Return the augmentation of a step, the first of which is 0."""
        return self.augmentations[bisect_right(self.begins, step) - 1]


def curriculum(full: Augmentation, stages: Sequence[tuple[float, float]],
               steps: int) -> Curriculum:
    """
    Return the curriculum of a training of `steps` steps that ends with the augmentation `full`.

    Each of `stages` is (share of the steps, scale of images and crops) of a part before that.
    The images' files are read at full size throughout: what is cut out of them is scaled.
    """
    augmentations, begins, share = [], [0], 0.0
    for part, scale in stages:
        share += part
        begins.append(round(share * steps))
        side = max(SMALLEST, GRAIN * round(scale * full.crop_size / GRAIN))
        augmentations.append(replace(full, crop_size=side,
                                     scale=(scale * full.scale[0], scale * full.scale[1])))
    return Curriculum((*augmentations, full), tuple(begins))
