"""The course of a training in one picture: RUN/curves.png, from log.csv and validation.csv."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from univseg_core.errors import UnivsegError
from univseg_core.files import replacing
from univseg_core.method.losses import LOSSES
from univseg_core.reporting.plots.drawing import (
    COLOURS,
    INK,
    literal,
    new_panels,
    set_range,
    style_axis,
)
from univseg_core.reporting.run_log import tag
from univseg_core.reporting.run_tables import (
    best_validation,
    read_losses,
    read_validation,
    Validation,
)

if TYPE_CHECKING:  # matplotlib is one of the training's packages
    from matplotlib.axes import Axes


class CurvesError(UnivsegError):
    """A folder with nothing to draw."""


def draw_curves(folder: Path) -> Path:
    """
    Draw a run folder's log, of a run in progress, too; return the path of its curves.png.

    What an older log lacks is left out. Raises CurvesError where the folder has no log,
    RunLogError for a damaged one.
    """
    columns, validations = read_losses(folder), read_validation(folder)
    panels = _panels(columns, validations)
    if not panels:
        raise CurvesError(f'{folder}: no log.csv or validation.csv with a row: not a run folder, '
                          'or its training has not come that far')
    figure, axes = new_panels(len(panels), size=(5.4, 4.0), dpi=110, padding=0.12)
    for axis, (title, draw) in zip(axes, panels.items(), strict=True):
        draw(axis)
        _finish(axis, title)
    figure.suptitle(_headline(folder, columns, validations), color=INK, fontsize=12)
    path = folder / 'curves.png'
    with replacing(path) as temporary:
        figure.savefig(temporary, format='png')
    return path


def _panels(columns: Mapping[str, np.ndarray],
            validations: list[Validation]) -> 'dict[str, Callable[[Axes], None]]':
    """Return what draws each panel for which there are values, by its title."""
    def lines(*names: str, log: bool = False) -> 'Callable[[Axes], None] | None':
        series = {tag(name).rpartition('/')[2].replace('_', ' '): columns[name] for name in names
                  if name in columns and not np.isnan(columns[name]).all()}
        # Terms that a run does not have are logged as 0.
        series = {label: values for label, values in series.items() if np.nanmax(values) != 0}
        return (lambda axis: _lines(axis, columns['step'], series, log)) if series else None

    def those(kind: str) -> list[str]:
        return [name for name in columns if name.startswith(f'{kind}/')]

    pairs = those('entropy')
    panels = {
        'mIoU of the validation images, % (★ best sum)':
            (lambda axis: _validations(axis, validations)) if validations else None,
        'Losses (nats)': lines('loss', *(loss.name for loss in LOSSES if not loss.entropy)),
        'Entropies (nats)': lines(*(loss.name for loss in LOSSES if loss.entropy), log=True),
        'Entropy by pair: images → labels (nats)':
            lines(*pairs, log=True) if len(pairs) > 1 else None,
        'Label embeddings in use: images → labels': lines(*those('perplexity'), log=True),
        'Classes that the mean teacher sees': lines(*those('taught_classes')),
        'Share of labelled pixels nearest to their own class': lines(
            *those('prototype_accuracy')),
        'Norms': lines('feature_norm', 'embedding_norm', log=True),
        'Learning rate': lines('learning_rate'),
        'Seconds': lines('seconds_per_step', 'data_wait'),
        'Images per second': lines('images_per_second'),
    }
    return {title: draw for title, draw in panels.items() if draw}


def _lines(axis: 'Axes', steps: np.ndarray, series: Mapping[str, np.ndarray],
           log: bool) -> None:
    """Draw each series faintly and, clearly, its moving average; one colour each."""
    widths = (3.0, 1.3) if len(series) == 2 else (1.7,) * len(series)  # equal lines show both
    for i, (label, values) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        smooth = smoothed(values)
        if not np.allclose(smooth, values, rtol=1e-2, equal_nan=True):
            axis.plot(steps, values, color=colour, alpha=0.22, linewidth=0.8)
        axis.plot(steps, smooth, color=colour, linewidth=widths[i], label=label,
                  linestyle='-' if i < len(COLOURS) else '--',
                  marker='o' if len(values) == 1 else None)
    set_range(axis, np.concatenate(list(series.values())), log)


def _validations(axis: 'Axes', validations: list[Validation]) -> None:
    steps = [validation.step for validation in validations]
    best = best_validation(validations)
    assert best is not None  # there is a panel where there are validations
    for i, name in enumerate(best.miou):
        values = [100 * validation.miou.get(name, np.nan) for validation in validations]
        colour = COLOURS[i % len(COLOURS)]
        axis.plot(steps, values, color=colour, linewidth=1.7, marker='o', markersize=4,
                  label=f'{name} {100 * best.miou[name]:.1f}')
        axis.plot(best.step, 100 * best.miou[name], marker='*', markersize=14, color=colour,
                  markeredgecolor='white', zorder=5)
    axis.axvline(best.step, color=INK, linewidth=0.8, linestyle=':', zorder=0,
                 label=f'sum {100 * best.total:.1f}, step {best.step}')
    axis.set_ylim(0, max(5, 1.1 * axis.dataLim.ymax))


def _finish(axis: 'Axes', title: str) -> None:
    labels = axis.get_legend_handles_labels()[1]
    entries = 0 if labels == [title.lower()] else len(labels)
    columns = max(1, min(entries, 3))
    if entries:  # above the axes, where it hides nothing
        axis.legend(loc='lower left', bbox_to_anchor=(-0.01, 1.0), ncols=columns, frameon=False,
                    fontsize=8.5, borderaxespad=0.2, handlelength=1.4, columnspacing=1.2)
    style_axis(axis, title, pad=8 + 15 * -(-entries // columns))


def _headline(folder: Path, columns: Mapping[str, np.ndarray],
              validations: list[Validation]) -> str:
    last = max([*columns.get('step', [])[-1:], *(v.step for v in validations[-1:])])
    text = f'{literal(folder.resolve().name)}, step {last:.0f}'
    if best := best_validation(validations):
        text += f'; best at step {best.step}: sum of mIoUs {100 * best.total:.1f} %'
    return text


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return the moving average of a curve (n,), over a fortieth of it."""
    return moving_average(values, len(values) // 40)


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """Return means over `width` values around each of values (n,); NaN is left out of them."""
    present, half = ~np.isnan(values), width // 2
    sums, counts = (np.convolve(each, np.ones(2 * half + 1))[half:half + len(values)]
                    for each in (np.where(present, values, 0), present))
    return np.where(present, sums / np.maximum(counts, 1), np.nan)
