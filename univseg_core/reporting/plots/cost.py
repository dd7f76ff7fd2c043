"""What the runs of an experiment came to, over the computing time that they took."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from univseg_core.reporting.plots.drawing import (
    add_key,
    COLOURS,
    INK,
    MARKERS,
    new_panels,
    Style,
    style_axis,
    write_figure,
)
from univseg_core.reporting.plots.experiment_runs import ExperimentRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_costs(costs: Sequence[ExperimentRun], domains: Sequence[str], path: Path) -> list[Path]:
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


def _draw(axis: 'Axes', costs: Sequence[ExperimentRun], style: Style, hollow: bool) -> None:
    points = np.array([(cost.seconds / 60, cost.miou) for cost in costs])
    mean = points.mean(0)
    for point in points:
        axis.plot(*np.stack([mean, point]).T, color=style['color'], linewidth=0.8, alpha=0.35)
    axis.plot(*points.T, **style | {'markersize': 4}, alpha=0.45, markeredgewidth=0)
    face: Style = {'markerfacecolor': 'white'} if hollow else {'markeredgecolor': 'white'}
    axis.plot(*mean[:, None], **style | {'markersize': 9}, **face)
