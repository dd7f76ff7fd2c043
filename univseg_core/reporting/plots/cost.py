"""What the runs of an experiment came to, over the computing time that they took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from univseg_core.errors import did_you_mean
from univseg_core.files.records import read_rows, RecordError
from univseg_core.reporting.plots.drawing import (
    add_key,
    COLOURS,
    FigureError,
    INK,
    MARKERS,
    new_panels,
    Style,
    style_axis,
    write_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEYS = ('labelled', 'seed', 'variant')
MIOU = 'miou/'
"""What the columns of mIoUs begin with, one a domain."""


@dataclass(frozen=True)
class RunCost:
    """
    One run of an experiment, or those of one network a domain together.

    `labelled` (N) and `seed` are as the file has them, `seconds` is what the run's own steps took,
    and `miou` the sum of the domains' mIoUs in percent.
    """

    labelled: str
    seed: str
    variant: str
    seconds: float
    miou: float


def load_costs(path: Path, variants: Sequence[str] = ()) -> tuple[list[RunCost], list[str]]:
    """
    Read an experiment's NAME_runs.csv; return its runs and its domains.

    Left out are runs of which the time or the mIoU of a domain is not known. `variants` chooses
    some. Raises FigureError, which names the file, the run and what was expected.
    """
    try:
        columns, rows = read_rows(path, strict=True)
    except (OSError, RecordError) as error:
        raise FigureError(f'{path}: cannot be read as CSV: {error}') from error
    domains = [name.removeprefix(MIOU) for name in columns if name.startswith(MIOU)]
    if not domains or not {*KEYS, 'seconds'} <= set(columns):
        raise FigureError(f"{path}: expected an experiment's NAME_runs.csv, with the columns "
                          f'{", ".join(KEYS)}, seconds and {MIOU}DOMAIN of a finished run; it '
                          f'has {", ".join(columns) or "none"}')
    runs: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for number, row in enumerate(rows, 2):
        key = tuple(row[name] for name in KEYS)
        if not all(key):
            raise FigureError(f'{path}: row {number}: expected {", ".join(KEYS)} in each row')
        runs.setdefault(key, []).append(row)
    found = [_cost(path, key, parts, domains) for key, parts in runs.items()
             if not variants or key[2] in variants]
    costs = [cost for cost in found if cost is not None]
    there = {cost.variant for cost in costs}
    absent = [name for name in variants if name not in there]
    if absent or not costs:
        of = question = ''
        if absent:
            of = f' of {absent[0]}'
            question = did_you_mean(absent[0], {key[2] for key in runs} - {absent[0]})
        raise FigureError(f'{path}: no run{of} has a time and the mIoU of each domain '
                          f'({", ".join(domains)}){question}')
    return costs, domains


def _cost(path: Path, key: tuple[str, ...], parts: Sequence[Mapping[str, str]],
          domains: Sequence[str]) -> RunCost | None:
    """Return a run from its rows, one or one for each domain; None if not all of it is known."""
    labelled, seed, variant = key

    def numbers(column: str) -> list[float]:
        values = []
        for text in filter(None, (part[column] for part in parts)):
            try:
                values.append(float(text))
            except ValueError:
                values.append(math.nan)
            if not 0 <= values[-1] < math.inf:
                raise FigureError(f'{path}: {column} of {variant}, N = {labelled}, seed {seed}: '
                                  f'expected a number, 0 or more, got {text!r}')
        return values

    seconds, mious = numbers('seconds'), [numbers(MIOU + name) for name in domains]
    if len(parts) > 1 and any(len(each) > 1 for each in mious):
        raise FigureError(f'{path}: {variant}, N = {labelled}, seed {seed} is there twice')
    if len(seconds) < len(parts) or not all(mious):
        return None
    return RunCost(labelled, seed, variant, sum(seconds), sum(each[0] for each in mious))


def draw_costs(costs: Sequence[RunCost], domains: Sequence[str], path: Path) -> list[Path]:
    """
    Draw the mIoUs' sum over the minutes of computing, a panel for each N; return the files.

    `path` has no ending. A pale marker is a run; the large one that it is joined to is the mean of
    a variant's runs, hollow where these lack a seed that others of the panel have.
    """
    panels = list(dict.fromkeys(cost.labelled for cost in costs))
    variants = list(dict.fromkeys(cost.variant for cost in costs))
    styles = {name: {'color': COLOURS[i % len(COLOURS)], 'linestyle': '', 'markersize': 8,
                     'marker': MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]}
              for i, name in enumerate(variants)}
    figure, axes = new_panels(len(panels), len(variants), sharey=True)
    for axis, labelled in zip(axes, panels, strict=True):
        here = [cost for cost in costs if cost.labelled == labelled]
        for name, style in styles.items():
            own = [cost for cost in here if cost.variant == name]
            if own:
                seeds = [{cost.seed for cost in those} for those in (own, here)]
                _draw(axis, own, style, hollow=seeds[0] != seeds[1])
        style_axis(axis, f'N = {labelled}', 'minutes of computing')
        # The same in all panels, as the mIoUs are.
        axis.set_xlim(0, 1.06 * max(cost.seconds for cost in costs) / 60)
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel('mIoU, %' if len(domains) == 1 else
                            f'mIoU of {" + ".join(domains)}, %', fontsize=9, color=INK)
    add_key(figure, styles)
    return write_figure(figure, path)


def _draw(axis: 'Axes', costs: Sequence[RunCost], style: Style, hollow: bool) -> None:
    points = np.array([(cost.seconds / 60, cost.miou) for cost in costs])
    mean = points.mean(0)
    for point in points:
        axis.plot(*np.stack([mean, point]).T, color=style['color'], linewidth=0.8, alpha=0.35)
    axis.plot(*points.T, **style | {'markersize': 4}, alpha=0.45, markeredgewidth=0)
    face: Style = {'markerfacecolor': 'white'} if hollow else {'markeredgecolor': 'white'}
    axis.plot(*mean[:, None], **style | {'markersize': 9}, **face)
