"""Frames a second of what a benchmark has measured, over what they cost or are worth."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from univseg_core.files import replacing
from univseg_core.reporting.plots.drawing import (
    add_key,
    COLOURS,
    FigureError,
    INK,
    MARKERS,
    new_panels,
    style_axis,
)


class Speed(Protocol):
    """What is drawn of a row of a benchmark; `miou` is 0..1, or None where it is not known."""

    @property
    def model(self) -> str:
        """The model's name."""
    @property
    def backend(self) -> str:
        """What ran it."""
    @property
    def precision(self) -> str:
        """What it computed in."""
    @property
    def threads(self) -> int:
        """On so many CPU cores."""
    @property
    def frames_per_second(self) -> float:
        """How fast."""
    @property
    def memory_mb(self) -> float:
        """With so much memory, in 10⁶ bytes."""
    @property
    def miou(self) -> float | None:
        """How well."""


def check_plot(path: Path) -> None:
    """Raise FigureError for a file that is no .png, or where matplotlib is not installed."""
    if path.suffix != '.png':
        raise FigureError(f'{path}: expected a name that ends in .png')
    if not find_spec('matplotlib'):
        raise FigureError('a plot needs the package matplotlib: pip install matplotlib')


def draw_speeds(speeds: Sequence[Speed], path: Path) -> None:
    """
    Draw frames a second, a marker for each row: its colour is the model, its form what ran it.

    They lie over the mIoU where that of all models is known, otherwise over memory. Beside each
    stands its number of threads.
    """
    by_miou = all(each.miou is not None for each in speeds)
    models = list(dict.fromkeys(each.model for each in speeds))
    runners = list(dict.fromkeys(f'{each.backend} {each.precision}' for each in speeds))
    figure, (axis,) = new_panels(1, len(models) + len(runners), size=(6.4, 4.2))
    for each in speeds:
        x = 100 * (each.miou or 0) if by_miou else each.memory_mb
        marker = runners.index(f'{each.backend} {each.precision}') % len(MARKERS)
        axis.plot(x, each.frames_per_second, linestyle='', markersize=8, marker=MARKERS[marker],
                  color=COLOURS[models.index(each.model) % len(COLOURS)])
        axis.annotate(str(each.threads), (x, each.frames_per_second), (5, 4), fontsize=8,
                      textcoords='offset points', color=INK)
    style_axis(axis, 'frames a second, by threads', 'mIoU, %' if by_miou else 'memory, MB')
    axis.set_ylim(bottom=0)
    none = {'linestyle': '', 'markersize': 8}
    add_key(figure, {
        **{name: {**none, 'marker': 'o', 'color': COLOURS[i % len(COLOURS)]}
           for i, name in enumerate(models)},
        **{name: {**none, 'marker': MARKERS[i % len(MARKERS)], 'color': INK,
                  'markerfacecolor': 'none'} for i, name in enumerate(runners)}})
    with replacing(path) as temporary:
        figure.savefig(temporary, format='png')
