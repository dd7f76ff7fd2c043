"""
Where a model contradicts a label map: regions in which it sees another class.

It is confident learning's idea (Northcutt et al., 2021) that mistakes are where a model gives the
label a low probability and another class a high one; here regions are judged, not pixels, since
people mistake regions, and models err at each border. The library of that method, cleanlab, wants
the probabilities of all images' pixels in memory. Its score of an image, and its thresholds of
each class, found fewer mistakes than what is here (docs/label_check.md has the figures).
"""

from dataclasses import dataclass
import math

import cv2
import numpy as np
from univseg_core.domains import IGNORE_INDEX
from univseg_core.errors import UnivsegError

LEAST = 0.0005
"""Share of a label map's pixels that a region has at least."""

POWER = 1 / 6
"""How a score grows with a region's share of the pixels: little, as they are wrong together."""


@dataclass(frozen=True)
class Contradiction:
    """
    A connected region of a label map that has one class throughout, and to a model another one.

    `label` and `model` are the indices of these classes, `box` its (left, top, right, bottom) in
    pixels of the label map, the last two exclusive. `share` is its share of all pixels,
    `confidence` the mean probability of the model's class, both 0..1; `log_odds`, above 0, the
    mean logarithm of how many times as likely that class is to the model as the label.
    """

    label: int
    model: int
    box: tuple[int, int, int, int]
    share: float
    confidence: float
    log_odds: float

    @property
    def score(self) -> float:
        """Return how likely a mistake is, 0 and more; it orders regions, and is no probability."""
        return self.share ** POWER * self.log_odds


def contradictions(logits: np.ndarray, label: np.ndarray, network_size: tuple[int, int],
                   stride: int) -> list[Contradiction]:
    """
    Return the regions of a label map (H, W) uint8 that a model contradicts, the worst first.

    `logits` (C, h, w) float32 at `stride` are those of the image, seen at `network_size` (height,
    width); it is there that pixels are compared. Void (255) is contradicted nowhere.

    Raises UnivsegError where logits are no finite numbers.
    """
    if not np.isfinite(logits).all():
        raise UnivsegError('the model gives no finite numbers for it')
    height, width = network_size
    # Each pixel of the small map is one of the label map's: a class, never a mean of some.
    small = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    top, log_odds, confidence = _compared(logits, small, stride)
    differs = (small != IGNORE_INDEX) & (top != small)
    pairs = small.astype(np.int32) << 8 | top
    least = max(1, LEAST * small.size)
    found = []
    kinds, counts = np.unique(pairs[differs], return_counts=True)
    for pair in kinds[counts >= least].tolist():
        inside = differs & (pairs == pair)
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(inside.view(np.uint8),
                                                                connectivity=4)
        numbers = numbers[inside]
        sums = [np.bincount(numbers, values[inside]) for values in (confidence, log_odds)]
        for number in np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= least).tolist():
            if number:  # 0 is all around
                left, upper, across, down, area = stats[number].tolist()
                box = _scaled((left, upper, left + across, upper + down), small.shape,
                              label.shape)
                means = [float(each[number]) / area for each in sums]
                found.append(Contradiction(pair >> 8, pair & 255, box, area / small.size, *means))
    return sorted(found, key=lambda region: (-region.score, region.box))


def _compared(logits: np.ndarray, label: np.ndarray, stride: int
              ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return, of each pixel (H, W), the top class, its log odds against the label, its probability.

    One class is upsampled after another, so that no more than some planes are held.
    """
    height, width = label.shape
    cells = logits - logits.max(0)  # which changes no probability, and no exponential overflows
    highest = np.full(label.shape, -np.inf, np.float32)
    own, total = np.zeros((2, height, width), np.float32)
    top = np.zeros(label.shape, np.uint8)
    for index, plane in enumerate(cells):
        plane = cv2.resize(plane, None, fx=stride, fy=stride,
                           interpolation=cv2.INTER_LINEAR)[:height, :width]
        higher = plane > highest
        top[higher], highest[higher] = index, plane[higher]
        own = np.where(label == index, plane, own)
        total += np.exp(plane)
    return top, highest - own, np.exp(highest) / total


def _scaled(box: tuple[int, int, int, int], size: tuple[int, ...], to: tuple[int, ...]
            ) -> tuple[int, int, int, int]:
    """Return a box in an image of a size (height, width) as it lies in one of another size."""
    down, across = to[0] / size[0], to[1] / size[1]
    left, top, right, bottom = box
    return (math.floor(left * across), math.floor(top * down), math.ceil(right * across),
            math.ceil(bottom * down))
