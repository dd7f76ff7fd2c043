"""Texts beside points, none over another."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from univseg_core.reporting.plots.drawing import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 0.1
"""Pixels that a push leaves between two texts, so that few rounds are enough."""


def write_apart(axis: 'Axes', anchors: np.ndarray, texts: Sequence[str],
                edges: Sequence[tuple[float, float, float]]) -> None:
    """
    Write a text at each of some points (n, 2) of an axis, moved aside where two would overlap.

    `edges` are the colours around the texts. A thin line leads from a text that had to move
    away to its point.
    """
    axis.autoscale_view()  # which otherwise waits until the figure is drawn
    transform = axis.transData
    written = [axis.text(0, 0, text, transform=None, fontsize=8.5, color=INK, ha='center',
                         va='center', zorder=6, fontweight='bold',
                         bbox={'boxstyle': 'round,pad=0.15', 'facecolor': 'white',
                               'edgecolor': edge, 'alpha': 0.85})
               for text, edge in zip(texts, edges, strict=True)]
    sizes = np.array([text.get_window_extent().size for text in written]) + 6
    frame = axis.get_window_extent()
    places = apart(transform.transform(anchors), sizes, np.asarray(frame.min),
                   np.asarray(frame.max))
    for text, place, size, anchor in zip(written, places, sizes, anchors, strict=True):
        text.set_transform(axis.transAxes)
        x, y = axis.transAxes.inverted().transform(place)
        text.set_position((x, y))
        if (np.abs(transform.transform(anchor) - place) > size / 2).any():
            axis.plot(*np.stack([anchor, transform.inverted().transform(place)]).T, color=INK,
                      linewidth=0.8, zorder=5, scalex=False, scaley=False)


def apart(centres: np.ndarray, sizes: np.ndarray, lower: np.ndarray,
          upper: np.ndarray, rounds: int = 500) -> np.ndarray:
    """
    Return the centres (n, 2) of boxes of some sizes (n, 2), moved until none overlaps another.

    They stay between the corners `lower` and `upper` (2,). Each round pushes overlapping pairs
    apart along the axis that needs the shorter way; where there is no room, some overlap.
    """
    places = centres.astype(float).copy()
    for _ in range(rounds):
        places = np.clip(places, lower + sizes / 2, upper - sizes / 2)
        moved = False
        for i in range(len(places)):
            for j in range(i):
                way = places[i] - places[j]
                missing = (sizes[i] + sizes[j]) / 2 - np.abs(way)
                if (missing > 0).all():
                    axis = int(missing[1] <= missing[0])
                    push = (missing[axis] / 2 + GAP) * (1 if way[axis] >= 0 else -1)
                    places[i, axis] += push
                    places[j, axis] -= push
                    moved = True
        if not moved:
            break
    return np.clip(places, lower + sizes / 2, upper - sizes / 2)
