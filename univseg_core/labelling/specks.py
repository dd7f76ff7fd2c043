"""Regions of a mask that are too small for a person to look at."""

import cv2
import numpy as np


def without_specks(mask: np.ndarray, least: int) -> np.ndarray:
    """
    Return a mask (H, W) uint8 without its regions of fewer than `least` pixels.

    A region is of one value, a class or void, in pixels that touch, be it at corners. Pixels of
    small regions get the value of the nearest pixel of a larger one; where all are small, they
    stay.
    """
    small = np.zeros(mask.shape, bool)
    for value in np.unique(mask):
        _, pieces, about, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8))
        few = about[:, cv2.CC_STAT_AREA] < least
        few[0] = False  # all other values
        small |= few[pieces]
    if small.all() or not small.any():
        return mask
    _, nearest = cv2.distanceTransformWithLabels(
        small.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    value_of = np.zeros(nearest.max() + 1, np.uint8)
    value_of[nearest[~small]] = mask[~small]
    return value_of[nearest]
