"""The learning curves of several runs in one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from univseg_core.measuring.finished_runs import run_names
from univseg_core.method.losses import LOSSES
from univseg_core.reporting.plots.curves import smoothed
from univseg_core.reporting.plots.drawing import (
    add_key,
    COLOURS,
    FigureError,
    LINES,
    new_panels,
    set_range,
    style_axis,
    write_figure,
)
from univseg_core.reporting.run_tables import read_losses, read_validation, Validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class RunCourse:
    """A run's name in the figure, the columns of its log, and its validations."""

    name: str
    columns: dict[str, np.ndarray]
    validations: list[Validation]

    @property
    def domains(self) -> list[str]:
        """Return the names of the domains that were validated."""
        return list(self.validations[-1].miou) if self.validations else []


def load_courses(folders: Sequence[Path]) -> list[RunCourse]:
    """
    Read the logs of run folders, of runs in progress, too.

    Raises FigureError for a folder without a log, RunLogError for a damaged one.
    """
    courses = []
    for folder, name in zip(folders, run_names(folders), strict=True):
        if not folder.is_dir():
            raise FigureError(f'{folder}: expected a run folder; a log is in no other place')
        course = RunCourse(name, read_losses(folder), read_validation(folder))
        if not course.columns and not course.validations:
            raise FigureError(f'{folder}: no log.csv or validation.csv with a row: not a run '
                              'folder, or its training has not come that far')
        courses.append(course)
    return courses


def draw_learning_curves(courses: Sequence[RunCourse], path: Path) -> list[Path]:
    """
    Draw the mIoU of each domain, their sum, and the losses over the steps; return the files.

    `path` has no ending. A run has one colour and one kind of line in all panels. The sum is
    drawn of runs that have all the domains of the figure; terms that are 0 throughout (of runs
    without unlabelled images) are left out.
    """
    panels = _validation_panels(courses) | _loss_panels(courses)
    figure, axes = new_panels(len(panels), len(courses))
    styles = {course.name: {'color': COLOURS[i % len(COLOURS)], 'linestyle': LINES[i % len(LINES)]}
              for i, course in enumerate(courses)}
    for axis, (title, (unit, series)) in zip(axes, panels.items(), strict=True):
        for name, (steps, values) in series.items():
            if unit == '%':
                axis.plot(steps, values, linewidth=1.7, marker='o', markersize=3.5, **styles[name])
            else:
                axis.plot(steps, smoothed(values), linewidth=1.5, **styles[name])
        _finish(axis, title, unit)
    add_key(figure, {name: {**style, 'linewidth': 1.7} for name, style in styles.items()})
    return write_figure(figure, path)


def _validation_panels(courses: Sequence[RunCourse]) -> dict:
    """Return unit and each run's (steps, values) by title: a domain's mIoU, and their sum."""
    domains = list(dict.fromkeys(name for course in courses for name in course.domains))
    panels = {f'mIoU of {domain}': ('%', {
        course.name: ([v.step for v in course.validations],
                      [100 * v.miou.get(domain, np.nan) for v in course.validations])
        for course in courses if domain in course.domains}) for domain in domains}
    sums = {course.name: ([v.step for v in course.validations],
                          [100 * v.total for v in course.validations])
            for course in courses if len(course.domains) == len(domains)}
    if len(domains) > 1 and sums:
        panels['Sum of the mIoUs'] = ('%', sums)
    return panels


def _loss_panels(courses: Sequence[RunCourse]) -> dict:
    # Not their weighted sum: under other weights it says something else.
    panels = {}
    for loss in LOSSES:
        series = {course.name: (course.columns['step'], course.columns[loss.name])
                  for course in courses
                  if np.nan_to_num(course.columns.get(loss.name, 0.0)).any()}
        if series:
            panels[loss.title] = ('nats', series)
    return panels


def _finish(axis: 'Axes', title: str, unit: str) -> None:
    style_axis(axis, f'{title}, {unit}')
    shown = np.concatenate([line.get_ydata() for line in axis.lines])
    if unit == '%':
        axis.set_ylim(0, max(5, 1.1 * np.nanmax(shown)))
    else:
        set_range(axis, shown, log=True)
