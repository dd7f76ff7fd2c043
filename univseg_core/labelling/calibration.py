"""
The temperature by which a model's logits are divided, so that its probabilities are true.

C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. It is fitted on labelled
images which the model has not learned from: of those that it has, it is as sure as it is right.
"""

from collections.abc import Iterable

import numpy as np
from univseg_core.domains import IGNORE_INDEX
from univseg_core.errors import UnivsegError
from univseg_core.inference.segmenter import Segmenter

LOWEST, HIGHEST = 0.1, 10.0

CELLS = 1024
"""Cells of an image that are looked at, at most: neighbours say much the same."""


def fitted_temperature(segmenter: Segmenter, name: str,
                       labelled: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """
    Return the temperature of a domain that makes labels likeliest.

    `labelled` are images (H, W, 3) uint8 RGB with their label maps (H, W) uint8, 255 void. Raises
    UnivsegError where no cell has a class, or scipy is missing.
    """
    logits, classes = [], []
    for image, label in labelled:
        found = segmenter.logits(segmenter.encode(image), name)
        each = at_cells(label, *found.shape[1:]).ravel()
        some = np.flatnonzero(each != IGNORE_INDEX)
        some = some[::-(-len(some) // CELLS) or 1]
        logits.append(found.reshape(len(found), -1)[:, some].T.astype(float))
        classes.append(each[some])
    if not sum(map(len, classes)):
        raise UnivsegError('no labelled image has a pixel of any class')
    return best_temperature(np.concatenate(logits), np.concatenate(classes))


def at_cells(label: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the label map's classes (rows, columns) in the middle of each cell."""
    down, across = (((np.arange(cells) + 0.5) * side / cells).astype(int)
                    for cells, side in zip((rows, columns), label.shape, strict=True))
    return label[down][:, across]


def best_temperature(logits: np.ndarray, classes: np.ndarray) -> float:
    """Return the temperature at which logits (N, C) make the classes (N,) likeliest."""
    try:
        from scipy.optimize import minimize_scalar
        from scipy.special import log_softmax
    except ImportError as error:
        raise UnivsegError(f'a temperature is fitted by scipy, which cannot be imported ({error})'
                           ) from error

    def unlikeliness(log_temperature: float) -> float:
        logs = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(logs[np.arange(len(classes)), classes].mean())

    found = minimize_scalar(unlikeliness, bounds=(np.log(LOWEST), np.log(HIGHEST)),
                            method='bounded')
    return float(np.exp(found.x))
