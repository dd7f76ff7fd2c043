"""
Which frames are most worth a person's labelling.

mIoU counts each class alike, so a choice is to show enough of every class, as far as the model can
tell: what it only half sees counts half. Each frame chosen is the one that adds most to what the
frames chosen and labelled before it show, class by class, in proportion to what is there (a greedy
choice by a submodular gain); what looks like one of them counts less. So rare classes come up,
frames alike come late, and copies, or frames of which the model is sure, never.

The greedy choice is here, not in a library: apricot-select, which has such gains, is no longer
kept, and k-means or core-sets (scikit-learn) know nothing of classes.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
from dataclasses import dataclass
import io
from pathlib import Path
from typing import Any

import numpy as np
from univseg_core.domains import Domain
from univseg_core.errors import in_one_line, UnivsegError
from univseg_core.files import write_text
from univseg_core.files.records import read_rows
from univseg_core.labelling.frame_views import FrameView
from univseg_core.labelling.label_cost import LabelCost, USUAL_COST

ALIKE = 0.3
"""Distance, in units of the frames' spread, below which a frame counts less, as one shown."""

SAME = 2
"""Bits of 64 in which the dHashes of two pictures differ at most that are of the same content."""

COLUMNS = ('rank', 'file', 'score', 'uncertainty', 'distance', 'minutes', 'reason')


@dataclass(frozen=True)
class Choice:
    """
    A frame that was chosen: its place in the list, and why.

    `score` never rises from one choice to the next; `adds` is the index of the class to which the
    frame adds most. `distance` is that to the nearest frame that is chosen or labelled already,
    infinite for the first where none is labelled; `nearest` that frame's place in the list of
    both (the labelled ones last), or None. `minutes` are what its label is thought to cost.
    """

    index: int
    score: float
    adds: int
    distance: float
    nearest: int | None
    minutes: float


@dataclass(frozen=True)
class Frames:
    """
    What a choice goes by, of n frames.

    `amounts` (n, C) are what each frame has of each class, `vectors` (n, d) its mean features,
    `pictures` (n,) uint64 the dHashes, `minutes` (n,) what its label costs.
    """

    amounts: np.ndarray
    vectors: np.ndarray
    pictures: np.ndarray
    minutes: np.ndarray

    @classmethod
    def of(cls, views: Sequence[FrameView], cost: LabelCost, like: 'Frames | None' = None
           ) -> 'Frames':
        """
        Return those of some views; without any, empty arrays of the shapes of `like`.

        Amounts are what a frame shows of a class; 0 where the model is sure of the whole frame.
        """
        if not views and like is not None:
            return cls(like.amounts[:0], like.vectors[:0], like.pictures[:0], like.minutes[:0])
        return cls(np.array([view.shown * (view.uncertainty > 0) for view in views]),
                   np.array([view.vector for view in views], float),
                   np.array([view.picture for view in views], np.uint64),
                   np.array([cost.minutes(view.outline) for view in views]))


def choose_frames(frames: Frames, labelled: Frames, budget: int,
                  minutes: float | None = None) -> list[Choice]:
    """
    Choose at most `budget` of n frames, each the one of the largest score in its turn.

    `labelled` frames have labels already, and count as chosen. A frame's score is its gain, the
    sum over classes of log(1 + u / (S + m)), times its distance to the nearest frame chosen
    before, over `ALIKE`, where that is less than 1. u is what the frame has of the class in
    `amounts`, S the sum of the frames chosen before, m the mean of all frames. Distances are
    Euclidean, in units of the spread of all, the labelled ones too (the root mean square distance
    from their mean): so the frames of one drive are near to each other where others are known.
    Frames whose dHash differs from that of one chosen in `SAME` bits or fewer are left out, and
    those of score 0 (with nothing of any class); of equal scores the first is chosen.

    With `minutes` the largest score for a minute counts, and the choice ends before the frame
    that would take more than are left.
    """
    amounts, vectors = frames.amounts, frames.vectors
    everything = np.concatenate([vectors, labelled.vectors])
    pictures = np.concatenate([frames.pictures, labelled.pictures])
    is_new = np.ones(len(vectors), bool)
    spread = np.sqrt(((everything - everything.mean(0)) ** 2).sum(1).mean()) or 1.0
    seen = amounts.mean(0) + labelled.amounts.sum(0)
    distance, nearest = np.full(len(vectors), np.inf), np.full(len(vectors), -1)

    def take(index: int) -> None:
        far = np.sqrt(((vectors - everything[index]) ** 2).sum(1)) / spread
        nearer = far < distance
        distance[nearer], nearest[nearer] = far[nearer], index
        is_new[differing_bits(frames.pictures, pictures[index]) <= SAME] = False

    for index in range(len(vectors), len(everything)):
        take(index)
    chosen: list[Choice] = []
    left = np.inf if minutes is None else minutes
    for _ in range(min(budget, len(vectors))):
        # Where no frame has anything of a class, it adds nothing.
        gains = np.log1p(np.divide(amounts, seen, out=np.zeros_like(amounts),
                                   where=amounts > 0))
        scores = gains.sum(1) * np.minimum(1, distance / ALIKE) * is_new
        index = int((scores if minutes is None else scores / frames.minutes).argmax())
        left -= frames.minutes[index]
        if scores[index] <= 0 or left < 0:
            break
        chosen.append(Choice(index, float(scores[index]), int(gains[index].argmax()),
                             float(distance[index]),
                             int(nearest[index]) if nearest[index] >= 0 else None,
                             float(frames.minutes[index])))
        seen = seen + amounts[index]
        take(index)
    return chosen


def differing_bits(codes: np.ndarray, code: np.uint64) -> np.ndarray:
    """Return in how many bits (n,) codes (n,) uint64 differ from another."""
    return np.unpackbits((codes ^ code).view(np.uint8)).reshape(len(codes), 64).sum(1)


def reason(view: FrameView, choice: Choice, domain: Domain, nearest: str | None) -> str:
    """Return in words why a frame was chosen; `nearest` names the frame nearest to it."""
    parts = [f'adds most to {domain.classes[choice.adds]}']
    if view.confusion:
        a, b, share = view.confusion
        parts += [f'uncertain: {domain.classes[a]}/{domain.classes[b]} over {_percent(share)} '
                  'of the pixels',
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
    """One row of rank.csv."""

    rank: int
    file: Path
    choice: Choice
    view: FrameView
    reason: str


def ranked_frames(views: Mapping[Path, FrameView], labelled: Mapping[Path, FrameView],
                  domain: Domain, budget: int, cost: LabelCost = USUAL_COST,
                  minutes: float | None = None) -> Iterator[RankedFrame]:
    """Yield the chosen of some frames, the most worthwhile first; see `choose_frames`."""
    # By name: what lies in a folder in another order is the same choice.
    paths = sorted(views)
    files = [*paths, *labelled]
    choices = choose_among([views[path] for path in paths], [*labelled.values()], budget, cost,
                           minutes)
    for rank, choice in enumerate(choices, 1):
        view = views[paths[choice.index]]
        nearest = None if choice.nearest is None else files[choice.nearest].name
        yield RankedFrame(rank, paths[choice.index], choice, view,
                          reason(view, choice, domain, nearest))


def choose_among(views: Sequence[FrameView], labelled: Sequence[FrameView], budget: int,
                 cost: LabelCost = USUAL_COST, minutes: float | None = None) -> list[Choice]:
    """Choose some frames, given what the model makes of them; see `choose_frames`."""
    frames = Frames.of(views, cost)
    return choose_frames(frames, Frames.of(labelled, cost, like=frames), budget, minutes)


def write_ranking(path: Path, ranked: Sequence[RankedFrame]) -> None:
    """
    Write rank.csv, whole or not at all: one row a frame, its columns `COLUMNS`.

    Without a distance (of the first frame, where none is labelled) the cell is empty. What of a
    folder's name is no text stands there as `in_one_line` has it.
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
                              distance, each.choice.minutes, each.reason), strict=True))


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
