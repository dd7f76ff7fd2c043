"""What some variants of an experiment are above others, seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from univseg_core.errors import did_you_mean
from univseg_core.reporting.plots.drawing import (
    COLOURS,
    FigureError,
    GRID,
    INK,
    literal,
    new_figure,
    style_axis,
    write_figure,
)
from univseg_core.reporting.plots.experiment_runs import ExperimentRun

CONFIDENCE, FEWEST = 0.95, 3
"""Of the interval of a mean, and the seeds that it takes: of two, it is longer than any axis."""

ROW, PANEL, LABELS = 0.32, 2.7, 3.6
"""Inches: height of a row, width of a panel, width of the rows' names."""


@dataclass(frozen=True)
class Differences:
    """
    What one variant is above another at one N.

    `points` (seeds, domains + 1) are those of mIoU, seed by seed: of each domain, and their sum.
    """

    labelled: str
    variant: str
    other: str
    points: np.ndarray

    @property
    def interval(self) -> np.ndarray:
        """Return half the width (domains + 1,) of the mean's 95 % interval; NaN of few seeds."""
        from scipy.stats import t

        seeds = len(self.points)
        if seeds < FEWEST:
            return np.full(self.points.shape[1], np.nan)
        error = self.points.std(0, ddof=1) / np.sqrt(seeds)
        return t.ppf((1 + CONFIDENCE) / 2, seeds - 1) * error


def differences(runs: Sequence[ExperimentRun], pairs: Sequence[tuple[str, str]]
                ) -> list[Differences]:
    """
    Return what the first variant of each pair is above the second, at each N, as far as known.

    Only seeds that both have count. Raises FigureError where a pair has no seed in common.
    """
    by_key = {(run.labelled, run.variant, run.seed): np.array([*run.mious, run.miou])
              for run in runs}
    names = {run.variant for run in runs}
    found = []
    for variant, other in pairs:
        of_pair = []
        for labelled in dict.fromkeys(run.labelled for run in runs):
            points = [by_key[labelled, variant, seed] - by_key[labelled, other, seed]
                      for seed in dict.fromkeys(run.seed for run in runs)
                      if {(labelled, name, seed) for name in (variant, other)} <= by_key.keys()]
            if points:
                of_pair.append(Differences(labelled, variant, other, np.stack(points)))
        if not of_pair:
            absent = [name for name in (variant, other) if name not in names]
            why = f'no run of {absent[0]} is complete' if absent else (
                'they have no N and seed in common')
            raise FigureError(f'{variant}:{other}: {why}; there are runs of '
                              f'{", ".join(sorted(names))}'
                              + (did_you_mean(absent[0], names) if absent else ''))
        found += of_pair
    return found


def draw_differences(found: Sequence[Differences], domains: Sequence[str], path: Path
                     ) -> list[Path]:
    """
    Draw a row for each pair and N, a panel for each domain and for the sum; return the files.

    `path` has no ending. A pale marker is a seed, the large one their mean, the line its 95 %
    interval (Student's t), where there are three seeds or more.
    """
    titles = [*domains, 'sum'] if len(domains) > 1 else list(domains)
    figure = new_figure(LABELS + PANEL * len(titles), 0.8 + ROW * len(found))
    figure.set_layout_engine('constrained')
    axes = figure.subplots(1, len(titles), squeeze=False, sharey=True, sharex=True)[0]
    for column, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        for row, each in enumerate(found):
            colour = COLOURS[row % len(COLOURS)]
            points, half = each.points[:, column], each.interval[column]
            mean = points.mean()
            if np.isfinite(half):
                axis.plot([mean - half, mean + half], [row, row], color=colour, linewidth=2)
            axis.plot(points, np.full(len(points), row), 'o', color=colour, alpha=0.4,
                      markersize=4, markeredgewidth=0)
            axis.plot([mean], [row], 'o', color=colour, markersize=8, markeredgecolor='white')
        axis.axvline(0, color=INK, linewidth=1)
        style_axis(axis, title, 'points of mIoU')
        axis.set_xlim(auto=True)
        axis.autoscale(axis='x')
        axis.grid(visible=False, axis='y')
        axis.grid(color=GRID, axis='x')
    axes[0].set_yticks(range(len(found)), [
        literal(f'{each.variant} above {each.other}, N = {each.labelled} ({len(each.points)})')
        for each in found])
    axes[0].set_ylim(len(found) - 0.5, -0.5)
    return write_figure(figure, path)
