"""Disturbances of unlabelled crops: colour, blur, and cut-mix (French et al., BMVC 2020)."""

from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms.v2 import functional as transforms
from univseg_core.models.encoders import OUTPUT_STRIDE

COLOUR = 0.5
"""Strength of brightness, contrast and saturation: factors of 1 ± this."""

HUE = 0.1
GREY_SHARE = 0.1
BLUR_SHARE = 0.5
BLUR_SIGMA = (0.2, 1.5)
"""In pixels."""

BOX = (0.25, 0.5)
"""Share of a crop's area that is taken from another crop."""


@dataclass(frozen=True)
class CutMix:
    """
    Which part of each of some crops comes from the next one.

    `inside` (B, h, w) bool, in cells of the feature map.
    """

    inside: torch.Tensor

    def of_cells(self, values: torch.Tensor) -> torch.Tensor:
        """Return values (B, h, w) of the crops' cells, mixed."""
        return torch.where(self.inside, values.roll(1, 0), values)

    def of_images(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (B, 3, H, W), mixed."""
        inside = self.inside.repeat_interleave(OUTPUT_STRIDE, 1).repeat_interleave(
            OUTPUT_STRIDE, 2)[:, None, :images.shape[2], :images.shape[3]]
        return torch.where(inside, images.roll(1, 0), images)


def random_cut_mix(count: int, size: tuple[int, int], generator: np.random.Generator,
                   device: torch.device | str = 'cpu') -> CutMix:
    """
    Return a box for each of `count` crops of some size (H, W) in pixels.

    A crop alone has no other to be mixed with, and stays as it is.
    """
    h, w = (-(-side // OUTPUT_STRIDE) for side in size)
    inside = np.zeros((count, h, w), bool)
    for i in range(count if count > 1 else 0):
        area, aspect = generator.uniform(*BOX), np.exp(generator.uniform(-0.7, 0.7))
        height = min(h, max(1, round(h * np.sqrt(area * aspect))))
        width = min(w, max(1, round(w * np.sqrt(area / aspect))))
        top, left = generator.integers(h - height + 1), generator.integers(w - width + 1)
        inside[i, top:top + height, left:left + width] = True
    return CutMix(torch.from_numpy(inside).to(device))


def disturbed(images: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Return images (B, 3, H, W) uint8 with random colours and, some of them, blurred."""
    result = torch.empty_like(images)
    for i, image in enumerate(images):
        result[i] = _disturbed(image, generator)
    return result


def _disturbed(image: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    for change in (transforms.adjust_brightness, transforms.adjust_contrast,
                   transforms.adjust_saturation):
        image = change(image, generator.uniform(1 - COLOUR, 1 + COLOUR))
    image = transforms.adjust_hue(image, generator.uniform(-HUE, HUE))
    if generator.random() < GREY_SHARE:
        image = transforms.rgb_to_grayscale(image, 3)
    if generator.random() < BLUR_SHARE:
        image = transforms.gaussian_blur(image, [5, 5], [generator.uniform(*BLUR_SIGMA)] * 2)
    return image
