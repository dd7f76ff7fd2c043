"""
Which frames are most worth a person's labelling.

mIoU counts each class alike, so a choice is to show enough of every class, of the places where
the model is unsure of it. Each frame chosen is the one that adds most to what the frames chosen
and labelled before it show, class by class, in proportion to what is there (a greedy choice by a
submodular gain); what looks like one of them counts less. So rare classes come up, no two frames
alike are chosen, nor one of which the model is sure.
"""

from collections.abc import Iterator, Sequence
import csv
from dataclasses import dataclass
import io
from pathlib import Path
from typing import Any

import numpy as np
from univseg_core.domains import Domain, DomainError, IGNORE_INDEX
from univseg_core.errors import in_one_line, UnivsegError
from univseg_core.files import write_text
from univseg_core.files.records import read_rows
from univseg_core.inference.segmenter import Encoded, Segmenter
from univseg_core.pictures.images import fit_size

MAP_SIDE = 64
"""Cells of the longer side of a kept map of classes at most: 4 kB a frame, of whatever size."""

UNDECIDED = 0.5
"""Share of the first class's probability that the second has at least where it is undecided."""

ALIKE = 0.3
"""Distance, in units of the frames' spread, below which a frame counts less, as one shown."""

COLUMNS = ('rank', 'file', 'score', 'uncertainty', 'distance', 'reason')


@dataclass(frozen=True)
class FrameView:
    """
    What the model makes of one frame, from one encoder pass, cell by cell.

    `uncertain` (C,) float64 has for each class the sum of `cell_uncertainty` over the cells whose
    likeliest class it is, over the number of all cells: 0..1. `undecided` is the share of cells
    whose second class is at least half as likely as their first, `contradicted` the share of
    cells that are so and whose nearest label embedding names another class than the head (None
    where the model has none of the domain). `confusion` names the two classes between which most
    cells are undecided, and the share of the cells that are; None where there is none. `vector`
    (C_F,) float32 is the mean of the encoder's features; `classes` (h, w) uint8 a small map of
    the head's classes, 255 where undecided, for the eye.
    """

    uncertain: np.ndarray
    undecided: float
    contradicted: float | None
    confusion: tuple[str, str, float] | None
    vector: np.ndarray
    classes: np.ndarray

    @property
    def uncertainty(self) -> float:
        """Return the mean of `cell_uncertainty`, 0..1."""
        return float(self.uncertain.sum())


@dataclass(frozen=True)
class Choice:
    """
    A frame that was chosen: its place in the list, and why.

    `score` never rises from one choice to the next; `adds` is the index of the class to which the
    frame adds most. `distance` is that to the nearest frame that is chosen or labelled already,
    infinite for the first where none is labelled; `nearest` that frame's place in the list of
    both (the labelled ones last), or None.
    """

    index: int
    score: float
    adds: int
    distance: float
    nearest: int | None


def view_frame(segmenter: Segmenter, image: np.ndarray, name: str) -> FrameView:
    """
    Return what a domain's head and label embeddings make of an image (H, W, 3) uint8 RGB.

    Raises DomainError for an unknown domain or one of a single class: of it a model is sure.
    """
    segmenter.check_domains([name])
    domain = segmenter.domains[name]
    if len(domain.classes) < 2:
        raise DomainError(f'domain {name}: with one class, a model is sure of every pixel')
    encoded = segmenter.encode(image)
    indices, ratio = _two_likeliest(segmenter.logits(encoded, name))
    top = indices[0]
    contradicted = _contradicted(segmenter, encoded, name, top)
    undecided = ratio >= UNDECIDED
    share = None if contradicted is None else float((undecided & contradicted).mean())
    unsure = np.bincount(top.ravel(), cell_uncertainty(ratio, contradicted).ravel(),
                         len(domain.classes)) / top.size
    return FrameView(
        unsure, float(undecided.mean()), share, largest_confusion(indices, undecided, domain),
        segmenter.features(encoded).mean((1, 2)),
        _small_map(np.where(undecided, IGNORE_INDEX, top)))


def _two_likeliest(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two likeliest classes (2, h, w), and the ratio (h, w) of their probabilities."""
    order = np.argsort(-logits, axis=0, kind='stable')[:2]
    first, second = np.take_along_axis(logits, order, axis=0)
    return order, np.exp(second - first)


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


def largest_confusion(indices: np.ndarray, undecided: np.ndarray, domain: Domain
                      ) -> tuple[str, str, float] | None:
    """
    Return the two classes between which most cells are undecided, and the share of all cells.

    `indices` (2, h, w) are each cell's two likeliest classes, `undecided` (h, w) bool. The class
    that is on top more often is named first. None where no cell is undecided.
    """
    classes = len(domain.classes)
    first, second = indices[:, undecided]
    counts = np.bincount(classes * first + second, minlength=classes ** 2)
    counts = counts.reshape(classes, classes)
    pairs = np.triu(counts + counts.T)
    if not pairs.any():
        return None
    a, b = np.unravel_index(pairs.argmax(), pairs.shape)
    if counts[b, a] > counts[a, b]:
        a, b = b, a
    return domain.classes[a], domain.classes[b], float(pairs.max() / undecided.size)


def _contradicted(segmenter: Segmenter, encoded: Encoded, name: str,
                  top: np.ndarray) -> np.ndarray | None:
    """Return where (h, w) the nearest label embedding is of another class than the top one."""
    try:
        scores, present = segmenter.label_embedding_scores(encoded, name)
    except UnivsegError:  # it has none of this domain
        return None
    return np.array(present)[scores.argmax(0)] != top


def _small_map(classes: np.ndarray) -> np.ndarray:
    """Return a map (h, w) uint8 of at most `MAP_SIDE` cells a side."""
    height, width = classes.shape
    down, across = fit_size(height, width, min(MAP_SIDE, max(height, width)))
    rows, columns = np.arange(down) * height // down, np.arange(across) * width // across
    return classes[rows][:, columns].astype(np.uint8)


def choose_frames(uncertain: np.ndarray, vectors: np.ndarray, budget: int,
                  labelled: tuple[np.ndarray, np.ndarray] | None = None) -> list[Choice]:
    """
    Choose at most `budget` of n frames, each the one of the largest score in its turn.

    `uncertain` (n, C) and `vectors` (n, d) are those of the frames, `labelled` the same two of
    frames that have labels already and count as chosen. A frame's score is its gain, the sum over
    classes of log(1 + u / (S + m)), times its distance to the nearest frame chosen before, over
    `ALIKE`, where that is less than 1. u is what the frame has of the class in `uncertain`, S the
    sum of the frames chosen before, m the mean of all frames. Distances are Euclidean, in units of
    the frames' spread (the root mean square distance from their mean). Frames of score 0 (as one
    chosen, or with no uncertainty) are left out; of equal scores the first is chosen.
    """
    vectors, uncertain = np.asarray(vectors, float), np.asarray(uncertain, float)
    if labelled is None:
        labelled = np.zeros((0, uncertain.shape[1])), np.zeros((0, vectors.shape[1]))
    known_uncertain, known_vectors = (np.asarray(part, float) for part in labelled)
    everything = np.concatenate([vectors, known_vectors])
    spread = np.sqrt(((vectors - vectors.mean(0)) ** 2).sum(1).mean()) or 1.0
    seen = uncertain.mean(0) + known_uncertain.sum(0)
    distance, nearest = np.full(len(vectors), np.inf), np.full(len(vectors), -1)

    def take(index: int) -> None:
        far = np.sqrt(((vectors - everything[index]) ** 2).sum(1)) / spread
        nearer = far < distance
        distance[nearer], nearest[nearer] = far[nearer], index

    for index in range(len(vectors), len(everything)):
        take(index)
    chosen = []
    for _ in range(min(budget, len(vectors))):
        # A class of which no frame is unsure adds nothing.
        gains = np.log1p(np.divide(uncertain, seen, out=np.zeros_like(uncertain),
                                   where=uncertain > 0))
        scores = gains.sum(1) * np.minimum(1, distance / ALIKE)
        index = int(scores.argmax())
        if scores[index] <= 0:
            break
        chosen.append(Choice(index, float(scores[index]), int(gains[index].argmax()),
                             float(distance[index]),
                             int(nearest[index]) if nearest[index] >= 0 else None))
        seen = seen + uncertain[index]
        take(index)
    return chosen


def reason(view: FrameView, choice: Choice, domain: Domain, nearest: str | None) -> str:
    """Return in words why a frame was chosen; `nearest` names the frame nearest to it."""
    parts = [f'adds most to {domain.classes[choice.adds]}']
    if view.confusion:
        a, b, share = view.confusion
        parts += [f'uncertain: {a}/{b} over {_percent(share)} of the pixels',
                  f'undecided over {_percent(view.undecided)}']
        if view.contradicted:
            parts[-1] += f', against label embeddings over {_percent(view.contradicted)}'
    if nearest is not None:
        parts.append('unlike any chosen before' if choice.distance >= ALIKE
                     else f'nearest before: {nearest}')
    return '; '.join(parts)


def _percent(share: float) -> str:
    return f'{100 * share:.0f} %' if share >= 0.01 else 'less than 1 %'


@dataclass(frozen=True)
class RankedFrame:
    """One row of rank.csv, and the frame's small map of classes (h, w) uint8."""

    rank: int
    file: Path
    choice: Choice
    view: FrameView
    reason: str


def ranked_frames(frames: Sequence[Path], views: Sequence[FrameView], budget: int,
                  domain: Domain, labelled: Sequence[Path] = (),
                  labelled_views: Sequence[FrameView] = ()) -> Iterator[RankedFrame]:
    """Yield the chosen of some frames, the most worthwhile first; see `choose_frames`."""
    files = [*frames, *labelled]
    for rank, choice in enumerate(choose_among(views, budget, labelled_views), 1):
        view = views[choice.index]
        nearest = None if choice.nearest is None else files[choice.nearest].name
        yield RankedFrame(rank, frames[choice.index], choice, view,
                          reason(view, choice, domain, nearest))


def choose_among(views: Sequence[FrameView], budget: int,
                 labelled: Sequence[FrameView] = ()) -> list[Choice]:
    """Choose at most `budget` of some frames, given what the model makes of them."""
    def stacked(of: Sequence[FrameView]) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([v.uncertain for v in of]), np.stack([v.vector for v in of])

    return choose_frames(*stacked(views), budget, stacked(labelled) if labelled else None)


def write_ranking(path: Path, ranked: Sequence[RankedFrame]) -> None:
    """
    Write rank.csv, whole or not at all: one row a frame, its columns `COLUMNS`.

    The distance of a frame that was chosen before any other is left empty. What of a folder's name
    is no text stands there as `in_one_line` has it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(COLUMNS)
    for each in map(as_row, ranked):
        writer.writerow([f'{value:.6f}' if isinstance(value, float) else value
                         for value in (each | {'file': in_one_line(each['file'])}).values()])
    write_text(path, text.getvalue())


def as_row(each: RankedFrame) -> dict[str, Any]:
    """Return a frame's values in the order of `COLUMNS`, plain ones; None for no distance."""
    distance = each.choice.distance if np.isfinite(each.choice.distance) else None
    return dict(zip(COLUMNS, (each.rank, str(each.file), each.choice.score, each.view.uncertainty,
                              distance, each.reason), strict=True))


def read_ranking(path: Path) -> list[str]:
    """
    Return the names of the files in a rank.csv, in order of rank.

    Raises UnivsegError where it is missing or no such file.
    """
    try:
        _, rows = read_rows(path, strict=True)
    except (OSError, ValueError) as error:
        raise UnivsegError(f'{path}: cannot be read: {error}') from error
    if not rows or not all(row.get('file') for row in rows):
        raise UnivsegError(f'{path}: expected a rank.csv, with a column file')
    return [Path(row['file']).name for row in rows]
