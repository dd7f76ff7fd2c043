"""Heat maps of the classes of one domain against those of another."""

from pathlib import Path
from typing import Any, TYPE_CHECKING

import numpy as np
from univseg_core.domains import Domain
from univseg_core.measuring.correspondences import Correspondence
from univseg_core.reporting.plots.drawing import (
    EDGE,
    INK,
    literal,
    MARGIN,
    new_figure,
    palette,
    write_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 0.42
"""Inches of a cell's side."""

ABSENT = '#f0f0f0'
"""Colour of cells without a value."""


def draw_correspondence(there: Correspondence, back: Correspondence, path: Path,
                        title: str) -> list[Path]:
    """
    Draw the four heat maps of two domains, of which `back` is the other direction.

    `path` has no ending, `title` is the run's name; returns the files. Above, the cosines in
    features and embedding, below, the shares of pixels in both directions.
    """
    rows, columns = there.rows, there.columns
    figure = new_figure(1, 1)
    collapsed = ' (collapsed)' if there.has_collapsed else ''
    maps = [
        ("Cosine of class means in the shared encoder's\nfeatures, seen from their mean",
         rows, columns, there.features),
        (f'Cosine of class means in the embedding,\nseen from zero{collapsed}',
         rows, columns, there.embedding),
        (f"% of each {rows.name} class's pixels nearest to\neach {columns.name} label embedding",
         rows, columns, there.shares),
        (f"% of each {columns.name} class's pixels nearest to\neach {rows.name} label embedding",
         columns, rows, back.shares),
    ]
    label = {domain.name: max(_text_width(figure, name) for name in domain.classes)
             + 0.35 for domain in (rows, columns)}
    sizes = [(label[r.name] + CELL * len(c.classes), label[c.name] + CELL * len(r.classes) + 0.75)
             for _, r, c, _ in maps]
    half = max(max(width for width, _ in sizes), 4.2) + 0.35
    heights = [max(sizes[0][1], sizes[1][1]), max(sizes[2][1], sizes[3][1])]
    width, height = 2 * half + 2 * MARGIN, sum(heights) + 0.35 + 2 * MARGIN
    figure.set_size_inches(width, height)
    figure.text(MARGIN / width, 1 - MARGIN / height, f'{literal(title)}: classes of {rows.name} '
                f'and {columns.name} (framed: the largest of a row; grey: absent)', va='top',
                fontsize=11, color=INK)
    for i, (heading, r, c, values) in enumerate(maps):
        left = MARGIN + (i % 2) * half + label[r.name]
        top = height - MARGIN - 0.2 - (i // 2) * heights[0] - 0.75
        tall, wide = CELL * len(r.classes), CELL * len(c.classes)
        axis = figure.add_axes((left / width, (top - tall) / height, wide / width, tall / height))
        _heat_map(axis, r, c, values, share=i > 1, framed=not (i == 1 and collapsed))
        figure.text((left - label[r.name]) / width, (top + 0.12) / height, heading, color=INK,
                    fontsize=10, fontweight='bold')
    return write_figure(figure, path)


def _text_width(figure: 'Figure', text: str) -> float:
    """Return the width of a class name in inches."""
    drawn = figure.text(0, 0, literal(text), fontsize=9)
    width = drawn.get_window_extent().width / figure.dpi
    drawn.remove()
    return width


def _heat_map(axis: 'Axes', rows: Domain, columns: Domain, values: np.ndarray, *,
              share: bool, framed: bool) -> None:
    """
    Draw values (R, C), shares 0..1 or cosines -1..1, with class names in the masks' colours.

    With `framed`, the largest value of each row has a frame.
    """
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    colours = colormaps['Blues' if share else 'RdBu_r'].with_extremes(bad=ABSENT)
    picture = axis.imshow(values, cmap=colours, vmin=0 if share else -1, vmax=1, aspect='auto')
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if np.isnan(value):
                continue
            cosine = f'{round(value, 2) + 0:.2f}'.replace('0.', '.')  # + 0: no -.00
            text = f'{100 * value:.0f}' if share else cosine
            red, green, blue, _ = picture.to_rgba(value)
            dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
            axis.text(j, i, text, ha='center', va='center', fontsize=8,
                      color='white' if dark else INK)
        if framed and not np.isnan(row).all():
            axis.add_patch(Rectangle((np.nanargmax(row) - 0.47, i - 0.47), 0.94, 0.94,
                                     fill=False, edgecolor=INK, linewidth=1.4))
    axis.set_xticks(range(len(columns.classes)), [*map(literal, columns.classes)], rotation=90,
                    fontsize=9)
    axis.set_yticks(range(len(rows.classes)), [*map(literal, rows.classes)], fontsize=9)
    axis.tick_params(length=0, pad=14, colors=INK)
    axis.set_xlabel(columns.name, fontsize=9, color=INK)
    for spine in axis.spines.values():
        spine.set_visible(False)
    # The colours of the masks, between the names and the cells.
    marks: dict[str, Any] = {'marker': 's', 's': 45, 'edgecolors': EDGE, 'linewidths': 0.5,
                             'clip_on': False}
    inch_x, inch_y = CELL * len(columns.classes), CELL * len(rows.classes)
    axis.scatter([-0.1 / inch_x] * len(rows.classes), _middles(len(rows.classes))[::-1],
                 c=palette(rows), transform=axis.transAxes, **marks)
    axis.scatter(_middles(len(columns.classes)), [-0.1 / inch_y] * len(columns.classes),
                 c=palette(columns), transform=axis.transAxes, **marks)


def _middles(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count
