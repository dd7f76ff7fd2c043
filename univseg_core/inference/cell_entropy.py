"""How undecided a model is, from the logits of cells: cheaper than pixel by pixel."""

import numpy as np

ENTROPY_BINS = 50
"""Equal parts of 0..1 by which entropies are counted."""


def cell_entropy(logits: np.ndarray) -> np.ndarray:
    """
    Return the entropy of the softmax of logits (C, h, w), over log C: (h, w) float32, 0..1.

    It is 0 where there is one class, and 1 where the logits are no numbers.
    """
    if len(logits) == 1:
        return np.zeros(logits.shape[1:], np.float32)
    with np.errstate(invalid='ignore'):  # inf - inf
        logits = logits - logits.max(0)
        powers = np.exp(logits)
        total = powers.sum(0)
        # -Σ p log p with p = powers / total; of a power of 0, its logit may be -inf.
        entropy = np.log(total) - np.where(powers > 0, powers * logits, 0).sum(0) / total
    entropy /= np.log(len(logits))
    return np.nan_to_num(np.clip(entropy, 0, 1), nan=1).astype(np.float32)


def entropy_counts(logits: np.ndarray) -> np.ndarray:
    """
    Return how many cells of logits (C, h, w) have an entropy in each of ENTROPY_BINS, int64.

    The bins are equal parts of 0..log C nats.
    """
    counts, _ = np.histogram(cell_entropy(logits), ENTROPY_BINS, (0, 1))
    return counts.astype(np.int64)
