"""
Whether a model is as sure as it is right: its confidences beside how often it is right.

The expected calibration error is that of C. Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017, over all pixels that have a class.
"""

from dataclasses import dataclass

import numpy as np
from univseg_core.domains import IGNORE_INDEX

BINS = 15
LEVELS = 256
"""Values that a confidence can have, 0..255 for 0..1."""


@dataclass(frozen=True)
class Reliability:
    """
    Pixels by their confidence's bin: how many, and of these the mean confidence and accuracy.

    `pixels` (BINS,) int64; `confidence` and `accuracy` (BINS,) in 0..1, NaN in empty bins.
    """

    pixels: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Return the expected calibration error, in 0..1; NaN without a pixel."""
        if not self.pixels.any():
            return float('nan')
        apart = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(apart * self.pixels) / self.pixels.sum())

    @property
    def mean_confidence(self) -> float:
        """Return the mean confidence of all pixels, in 0..1; NaN without one."""
        return _mean(self.confidence, self.pixels)

    @property
    def mean_accuracy(self) -> float:
        """Return the share of all pixels that are right, in 0..1; NaN without one."""
        return _mean(self.accuracy, self.pixels)


class ReliabilityCount:
    """Counts pixels by confidence, and those of them that are right."""

    def __init__(self) -> None:
        self._pixels, self._right = np.zeros((2, LEVELS), np.int64)

    def add(self, mask: np.ndarray, confidence: np.ndarray, truth: np.ndarray) -> None:
        """Add an image's mask, confidence (0..255 for 0..1) and truth, each (H, W) uint8."""
        known = truth != IGNORE_INDEX
        right = known & (mask == truth)
        for counts, chosen in ((self._pixels, known), (self._right, right)):
            counts += np.bincount(confidence[chosen], minlength=LEVELS)

    def result(self) -> Reliability:
        """Return what all images that were added come to."""
        levels = np.arange(LEVELS)
        pixels, right, sums = (
            np.bincount(levels * BINS // LEVELS, each, BINS)
            for each in (self._pixels, self._right, self._pixels * levels / (LEVELS - 1)))
        some = np.where(pixels, pixels, np.nan)
        return Reliability(pixels.astype(np.int64), sums / some, right / some)


def _mean(values: np.ndarray, pixels: np.ndarray) -> float:
    total = pixels.sum()
    return float(np.nansum(values * pixels) / total) if total else float('nan')
