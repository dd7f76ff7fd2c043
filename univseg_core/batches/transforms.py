"""Joint augmentation of an image and its label map."""

from dataclasses import dataclass
import math

import cv2
import numpy as np
import torch
from univseg_core.domains import IGNORE_INDEX
from univseg_core.pictures.images import resize_image, resize_label

PADDING_COLOUR = (124, 116, 104)
"""The ImageNet mean: near to zero after any normalisation."""


@dataclass(frozen=True)
class Augmentation:
    """
    Random scale, crop, mirror and colour, for one image at a time.

    `crop_size` is the side of the square result in pixels, `scale` the range of the scale,
    `colour` in [0, 1) the strength of brightness, contrast and saturation.
    """

    crop_size: int
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = False
    colour: float = 0.0

    def __call__(self, image: np.ndarray, label: np.ndarray,
                 generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """
        Return a crop (S, S, 3) uint8 of an image (H, W, 3) and of its label (H, W), (S, S).

        Where the scaled image is smaller than the crop, the rest is padding: 255 in the label.
        Equal generators give equal crops.
        """
        image, label = self._scaled_crop(image, label, generator)
        if self.flip and generator.random() < 0.5:
            image, label = cv2.flip(image, 1), cv2.flip(label, 1)
        if self.colour:
            image = jitter_colour(image, self.colour, generator)
        return np.ascontiguousarray(image), np.ascontiguousarray(label)

    def _scaled_crop(self, image: np.ndarray, label: np.ndarray,
                     generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        # The window is cut out of the original first: pixels outside it are never resized.
        height, width = label.shape
        side = self.crop_size / generator.uniform(*self.scale)
        # Rounded up: a window that is a little too large is squeezed, one too small leaves a gap.
        window_height = min(height, math.ceil(side))
        window_width = min(width, math.ceil(side))
        top = generator.integers(height - window_height + 1)
        left = generator.integers(width - window_width + 1)
        window = np.s_[top:top + window_height, left:left + window_width]
        size = (min(self.crop_size, round(window_height * self.crop_size / side)),
                min(self.crop_size, round(window_width * self.crop_size / side)))
        image, label = resize_image(image[window], *size), resize_label(label[window], *size)
        bottom, right = self.crop_size - size[0], self.crop_size - size[1]
        if bottom or right:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT,
                                       value=PADDING_COLOUR)
            label = cv2.copyMakeBorder(label, 0, bottom, 0, right, cv2.BORDER_CONSTANT,
                                       value=IGNORE_INDEX)
        return image, label


def jitter_colour(image: np.ndarray, strength: float,
                  generator: np.random.Generator) -> np.ndarray:
    """
    Change brightness, contrast and saturation of an image (H, W, 3) uint8 at random.

    Each is multiplied by a factor of 1 ± strength, as one affine map of the RGB values.
    """
    brightness, contrast, saturation = generator.uniform(1 - strength, 1 + strength, 3)
    grey = np.array([0.299, 0.587, 0.114])
    mix = saturation * np.eye(3) + (1 - saturation) * grey  # each row: one output channel
    mean = float(cv2.mean(image)[:3] @ grey)
    scale = brightness * contrast
    offset = brightness * (1 - contrast) * mean
    matrix = np.hstack([scale * mix, np.full((3, 1), offset)])
    return cv2.transform(image, matrix)


def as_planes(images: np.ndarray) -> torch.Tensor:
    """Return images (n, H, W, 3) uint8 as a tensor (n, 3, H, W), its planes one after another."""
    # Not channels_last: PyTorch's CPU convolutions of few channels are not safe there.
    planes = np.empty((len(images), 3, *images.shape[1:3]), np.uint8)
    for image, its in zip(images, planes, strict=True):
        its[:] = cv2.split(image)
    return torch.from_numpy(planes)
