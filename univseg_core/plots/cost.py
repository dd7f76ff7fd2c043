"""What the runs of an experiment came to, over the computing time that they took."""

from collections.abc import Iterator, Mapping, Sequence
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from univseg_core.plots.drawing import (
    COLOURS,
    INK,
    MARKERS,
    new_figure,
    style_axis,
    write_figure,
)
from univseg_core.plots.runs import FigureError

MIOU = 'miou/'
"""What the columns of mIoUs begin with, one a domain."""

ACROSS = 3


@dataclass(frozen=True)
class RunCost:
    """
    One run of an experiment, or those of one network a domain together.

    `labelled` is N as the file has it, `seconds` the computing time, and `miou` the sum of the
    domains' mIoUs in percent.
    """

    labelled: str
    variant: str
    seconds: float
    miou: float


def load_costs(path: Path, variants: Sequence[str] = ()) -> list[RunCost]:
    """
    Read an experiment's NAME_runs.csv: the finished runs whose time and mIoUs are all known.

    `variants` chooses some. Raises FigureError, which names the file and what was expected.
    """
    try:
        with path.open(newline='', encoding='utf-8') as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FigureError(f'{path}: cannot be read as CSV: {error}') from error
    columns = rows[0].keys() if rows else ()
    domains = [name for name in columns if name and name.startswith(MIOU)]
    if not domains or not {'labelled', 'seed', 'variant', 'seconds'} <= set(columns):
        raise FigureError(f"{path}: expected an experiment's NAME_runs.csv with a row for each "
                          'finished run')
    if unknown := [name for name in variants if name not in {row['variant'] for row in rows}]:
        raise FigureError(f'{path}: has no run of {unknown[0]}; it has '
                          f'{", ".join(dict.fromkeys(row["variant"] for row in rows))}')
    rows = [row for row in rows if not variants or row['variant'] in variants]
    try:
        costs = list(_costs(rows, domains))
    except (TypeError, ValueError) as error:
        raise FigureError(f'{path}: damaged: {error}') from error
    if not costs:
        raise FigureError(f'{path}: no run has both a time and the mIoU of every domain')
    return costs


def _costs(rows: Sequence[Mapping[str, str]], domains: Sequence[str]) -> Iterator[RunCost]:
    runs: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        runs.setdefault((row['labelled'], row['variant'], row['seed']), []).append(row)
    for (labelled, variant, _), parts in runs.items():
        seconds = [part['seconds'] for part in parts]
        mious = [next(filter(None, (part[name] for part in parts)), '') for name in domains]
        if all(seconds) and all(mious):
            yield RunCost(labelled, variant, sum(map(float, seconds)), sum(map(float, mious)))


def draw_costs(costs: Sequence[RunCost], path: Path) -> list[Path]:
    """
    Draw the mIoUs' sum over the minutes of computing, a panel for each N; return the files.

    `path` has no ending. A pale marker is a run, a full one the mean of a variant's runs, which
    is joined to them.
    """
    panels = list(dict.fromkeys(cost.labelled for cost in costs))
    variants = list(dict.fromkeys(cost.variant for cost in costs))
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(4.6 * across, 3.6 * down + 0.25 * len(variants))
    figure.set_layout_engine('constrained', w_pad=0.1, h_pad=0.1)
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    styles = {name: {'color': COLOURS[i % len(COLOURS)],
                     'marker': MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]}
              for i, name in enumerate(variants)}
    for axis, labelled in zip(axes, panels, strict=False):
        for name, style in styles.items():
            points = np.array([(cost.seconds / 60, cost.miou) for cost in costs
                               if (cost.labelled, cost.variant) == (labelled, name)])
            if not len(points):
                continue
            mean = points.mean(0)
            for point in points:
                axis.plot(*np.stack([mean, point]).T, color=style['color'], linewidth=0.8,
                          alpha=0.35)
            axis.plot(*points.T, linestyle='', markersize=4, alpha=0.45, markeredgewidth=0,
                      **style)
            axis.plot(*mean[:, None], linestyle='', markersize=9, markeredgecolor='white', **style)
        axis.set_title(f'N = {labelled}', loc='left', fontsize=10.5, fontweight='bold', color=INK)
        style_axis(axis)
        axis.set_xlabel('minutes of computing', fontsize=9, color=INK)
    for axis in axes[::across]:
        axis.set_ylabel('sum of the mIoUs, %', fontsize=9, color=INK)
    for axis in axes[len(panels):]:
        axis.set_axis_off()
    from matplotlib.lines import Line2D

    figure.legend(handles=[Line2D([], [], linestyle='', markersize=8, label=name, **style)
                           for name, style in styles.items()],
                  loc='outside upper left', ncols=min(2, across), frameon=False, fontsize=9.5,
                  labelcolor=INK)
    return write_figure(figure, path)
