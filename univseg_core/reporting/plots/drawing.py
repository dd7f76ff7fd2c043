"""What all figures share: ink, colours, and files that are whole or not there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TYPE_CHECKING, TypeAlias

import numpy as np
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.files import replacing

if TYPE_CHECKING:  # matplotlib is one of the training's packages
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS = ('#1f5fa8', '#d1602a', '#2f8f5b', '#8d4fa8', '#b8961e', '#3aa0a8', '#c0417a', '#6b6b6b')
LINES = ('-', '--', '-.', ':', (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ('o', '^', 's', 'D', 'v', 'P', 'X', '*')
GLYPHS = ('●', '▲', '■', '◆', '▼', '✚', '✖', '★')
"""The markers as text, in the same order."""

GRID, INK, EDGE = '#e4e4e4', '#333333', '#444444'
DPI = 150
MARGIN = 0.15
"""Inches around a figure."""

Style: TypeAlias = dict[str, Any]
"""How a line is drawn: matplotlib's own keywords."""


class FigureError(UnivsegError):
    """Runs, classes or images of which the figure that was asked for cannot be made."""


def new_figure(width: float, height: float, dpi: int = DPI) -> 'Figure':
    """Return an empty figure, of a size in inches, that draws without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def new_panels(count: int, entries: int = 0, *, size: tuple[float, float] = (4.6, 3.4),
               dpi: int = DPI, padding: float = 0.1,
               sharey: bool = False) -> tuple['Figure', np.ndarray]:
    """
    Return a figure of some panels, up to three in a row, and their axes (count,).

    `size` is that of a panel in inches, with its `padding`. There is room for a legend of so many
    entries, which `add_key` puts above them.
    """
    across = min(3, count)
    down = -(-count // across)
    figure = new_figure(size[0] * across, size[1] * down + 0.3 * -(-entries // across), dpi)
    figure.set_layout_engine('constrained', w_pad=padding, h_pad=padding)
    axes = figure.subplots(down, across, squeeze=False, sharey=sharey).ravel()
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def literal(name: str) -> str:
    """Return a name of the user's as matplotlib draws it: what is between two $ is no formula."""
    return name.replace('$', r'\$')


def add_key(figure: 'Figure', styles: Mapping[str, Style]) -> None:
    """Add a legend of lines or markers above the panels of `new_panels`, by their names."""
    from matplotlib.lines import Line2D

    grid = figure.axes[0].get_gridspec()
    assert grid is not None  # panels are subplots
    figure.legend(handles=[Line2D([], [], label=literal(name), **style)
                           for name, style in styles.items()],
                  loc='outside upper left', ncols=grid.ncols, frameon=False, fontsize=10,
                  handlelength=3, labelcolor=INK)


def write_figure(figure: 'Figure', path: Path) -> list[Path]:
    """
    Write a figure as PNG and as SVG, whose text stays text; return both paths.

    `path` has no ending. Neither file takes its place before both are whole. The same figure
    gives the same bytes.
    """
    from matplotlib import rc_context

    paths = [path.with_name(f'{path.name}.{ending}') for ending in ('png', 'svg')]
    with (rc_context({'svg.fonttype': 'none', 'svg.hashsalt': path.name}),
          replacing(paths[0]) as png, replacing(paths[1]) as svg):
        figure.savefig(png, format='png')
        figure.savefig(svg, format='svg', metadata={'Date': None})
    return paths


def palette(domain: Domain) -> list[tuple[float, float, float]]:
    """Return the colours of a domain's masks, red, green and blue each 0..1."""
    return [(red / 255, green / 255, blue / 255) for red, green, blue in domain.palette]


def swatches(domain: Domain, classes: Sequence[int], *, marker: str = 's') -> 'list[Line2D]':
    """Return a legend's entries for some of a domain's classes, in the masks' colours."""
    colours = palette(domain)
    return [swatch(domain.classes[c], colours[c], marker) for c in classes]


def swatch(label: str, colour: tuple[float, float, float], marker: str = 's') -> 'Line2D':
    """Return a legend's entry: a marker of a colour, edged, as white is a colour, too."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle='', marker=marker, markersize=8, label=literal(label),
                  markerfacecolor=colour, markeredgecolor=EDGE, markeredgewidth=0.5)


def add_legend(figure: 'Figure', title: str, handles: 'Sequence[Line2D]', bottom: float,
               left: float = MARGIN) -> float:
    """
    Add a legend, `bottom` inches above the figure's lower border; return its height in inches.

    It has as few rows as the figure's width allows.
    """
    width = figure.get_figwidth() - left - MARGIN
    # Of equally many rows, the fewest columns: the last row is as full as can be.
    for columns in sorted({-(-len(handles) // rows) for rows in range(1, len(handles) + 1)},
                          reverse=True):
        legend = figure.legend(
            handles=handles, ncols=columns, loc='lower left', bbox_to_anchor=(left, bottom),
            bbox_transform=figure.dpi_scale_trans, frameon=False, borderaxespad=0, borderpad=0.2,
            fontsize=9, handletextpad=0.2, columnspacing=1.2, labelcolor=INK, title=title,
            title_fontproperties={'weight': 'bold', 'size': 9}, alignment='left')
        box = legend.get_window_extent()
        if box.width <= width * figure.dpi or columns == 1:
            return box.height / figure.dpi
        legend.remove()
    return 0.0


def style_axis(axis: 'Axes', title: str, xlabel: str = 'step', pad: float | None = None) -> None:
    """
    Give an axis over something that begins at 0 its title, a light grid and no frame.

    `pad` is the distance of the title in points, matplotlib's own unless given.
    """
    axis.set_title(title, loc='left', fontsize=10.5, fontweight='bold', color=INK, pad=pad)
    axis.set_xlabel(xlabel, fontsize=9, color=INK)
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(which='both', colors=INK, labelsize=8.5, length=0)
    axis.margins(x=0.03)
    axis.set_xlim(left=0)
    for side, spine in axis.spines.items():
        spine.set_visible(side == 'bottom')
        spine.set_color(GRID)


def set_range(axis: 'Axes', values: np.ndarray, log: bool) -> None:
    """
    Choose the range of an axis for some values (n,): from zero, if none is negative.

    With `log` it is logarithmic where they are positive and spread over more than a decade.
    """
    shown = values[np.isfinite(values)]
    if log and shown.min() > 0 and shown.max() > 10 * shown.min():
        axis.set_yscale('log')
    else:
        # A few outliers of the first steps must not flatten the rest.
        axis.set_ylim(0 if shown.min() >= 0 else None,
                      1.08 * max(np.quantile(shown, 0.995), 1e-12))
