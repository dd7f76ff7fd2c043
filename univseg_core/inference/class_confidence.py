"""How sure a model is of each class, from the logits of cells: cheaper than pixel by pixel."""

import numpy as np


def class_confidence(logits: np.ndarray) -> np.ndarray:
    """
    Return how sure the logits (C, h, w) of cells are of each of the classes, (C,), 0..1.

    That is the mean softmax probability of the cells where the class is on top; nan for a class
    that is so nowhere.
    """
    flat = logits.reshape(len(logits), -1)
    top = flat.argmax(0)
    sure = 1 / np.exp(flat - flat.max(0)).sum(0)
    sums = np.bincount(top, sure, len(flat))
    counts = np.bincount(top, minlength=len(flat))
    return np.divide(sums, counts, out=np.full(len(flat), np.nan), where=counts > 0)
