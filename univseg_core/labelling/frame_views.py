"""What a model makes of one frame: how unsure it is, of which classes, and what it looks like."""

from dataclasses import dataclass

import cv2
import numpy as np
from univseg_core.domains import Domain, DomainError
from univseg_core.errors import UnivsegError
from univseg_core.inference.segmenter import Encoded, Segmenter
from univseg_core.labelling.label_cost import outline_length
from univseg_core.pictures.likeness import dhash

UNDECIDED = 0.5
"""Share of the first class's probability that the second has at least where it is undecided."""


@dataclass(frozen=True)
class Cells:
    """
    What the head and the label embeddings say of the cells (h, w) of one frame.

    `order` (2, h, w) are the indices of the two likeliest classes, `ratio` (h, w) that of their
    probabilities, 0..1. `contradicted` (h, w) bool is where the nearest label embedding names
    another class than the head; None where the model has none of the domain.
    """

    order: np.ndarray
    ratio: np.ndarray
    contradicted: np.ndarray | None

    @property
    def undecided(self) -> np.ndarray:
        """Return where (h, w) the second class is at least half as likely as the first."""
        return self.ratio >= UNDECIDED

    @property
    def uncertainty(self) -> np.ndarray:
        """Return `cell_uncertainty`, (h, w) in 0..1."""
        return cell_uncertainty(self.ratio, self.contradicted)


@dataclass(frozen=True)
class FrameView:
    """
    What is kept of one frame, after one encoder pass.

    `shown` (C,) float64 has for each class the mean of its probability over the cells, `uncertain`
    (C,) float64 the sum of `cell_uncertainty` over the cells whose likeliest class it is, over the
    number of all cells: both 0..1. `undecided` is the share of cells whose second class is at
    least half as likely as their first, `contradicted` the share of cells that are so and whose
    nearest label embedding names another class than the head (None where the model has none of
    the domain). `confusion` are the indices of the two classes between which most cells are
    undecided, and the share of the cells that are; None where there is none. `outline` is the
    length of the outlines between the head's classes, in diagonals of the frame. `vector` (C_F,)
    float32 is the mean of the encoder's features, `picture` the frame's dHash.
    """

    shown: np.ndarray
    uncertain: np.ndarray
    undecided: float
    contradicted: float | None
    confusion: tuple[int, int, float] | None
    outline: float
    vector: np.ndarray
    picture: int

    @property
    def uncertainty(self) -> float:
        """Return the mean of `cell_uncertainty`, 0..1."""
        return float(self.uncertain.sum())


def check_rankable(domain: Domain) -> None:
    """Raise DomainError for a domain of a single class: of it a model is sure."""
    if len(domain.classes) < 2:
        raise DomainError(f'domain {domain.name}: with one class, a model is sure of every pixel')


def view_frame(segmenter: Segmenter, image: np.ndarray, name: str,
               temperature: float = 1.0) -> FrameView:
    """
    Return what a domain's head and label embeddings make of an image (H, W, 3) uint8 RGB.

    Logits are divided by `temperature` before anything else. Raises DomainError for an unknown
    domain or one of a single class.
    """
    segmenter.check_domains([name])
    domain = segmenter.domains[name]
    check_rankable(domain)
    encoded = segmenter.encode(image)
    logits = segmenter.logits(encoded, name) / temperature
    cells = _cells(segmenter, encoded, logits, name)
    undecided, top = cells.undecided, cells.order[0]
    share = (None if cells.contradicted is None
             else float((undecided & cells.contradicted).mean()))
    unsure = np.bincount(top.ravel(), cells.uncertainty.ravel(), len(domain.classes)) / top.size
    return FrameView(
        _probabilities(logits).mean((1, 2), dtype=float), unsure, float(undecided.mean()), share,
        largest_confusion(cells.order, undecided, len(domain.classes)), outline_length(top),
        segmenter.features(encoded).mean((1, 2)), dhash(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)))


def cells_of(segmenter: Segmenter, image: np.ndarray, name: str,
             temperature: float = 1.0) -> Cells:
    """Return the cells of an image, of which `view_frame` keeps the sums."""
    encoded = segmenter.encode(image)
    return _cells(segmenter, encoded, segmenter.logits(encoded, name) / temperature, name)


def _cells(segmenter: Segmenter, encoded: Encoded, logits: np.ndarray, name: str) -> Cells:
    order = np.argsort(-logits, axis=0, kind='stable')[:2]
    first, second = np.take_along_axis(logits, order, axis=0)
    return Cells(order, np.exp(second - first), _contradicted(segmenter, encoded, name, order[0]))


def _probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of logits (C, h, w)."""
    powers = np.exp(logits - logits.max(0))
    return powers / powers.sum(0)


def cell_uncertainty(ratio: np.ndarray, contradicted: np.ndarray | None) -> np.ndarray:
    """
    Return how unsure the model is of each cell, (h, w) in 0..1.

    It is the square of `ratio` (h, w), that of the second class's probability to the first's,
    and half of that where the nearest label embedding names the head's class, too:
    `contradicted` (h, w) bool is where it does not, or None where there are no label embeddings.
    """
    if contradicted is None:
        return ratio ** 2
    return ratio ** 2 * (1 + contradicted) / 2


def largest_confusion(order: np.ndarray, undecided: np.ndarray, classes: int
                      ) -> tuple[int, int, float] | None:
    """
    Return the two classes between which most cells are undecided, and the share of all cells.

    `order` (2, h, w) are each cell's two likeliest classes, `undecided` (h, w) bool. The class
    that is on top more often is named first. None where no cell is undecided.
    """
    first, second = order[:, undecided]
    counts = np.bincount(classes * first + second, minlength=classes ** 2)
    counts = counts.reshape(classes, classes)
    pairs = np.triu(counts + counts.T)
    if not pairs.any():
        return None
    a, b = map(int, np.unravel_index(pairs.argmax(), pairs.shape))
    if counts[b, a] > counts[a, b]:
        a, b = b, a
    return a, b, float(pairs.max() / undecided.size)


def _contradicted(segmenter: Segmenter, encoded: Encoded, name: str,
                  top: np.ndarray) -> np.ndarray | None:
    """Return where (h, w) the nearest label embedding is of another class than the top one."""
    try:
        scores, present = segmenter.label_embedding_scores(encoded, name)
    except UnivsegError:  # it has none of this domain
        return None
    return np.array(present)[scores.argmax(0)] != top
