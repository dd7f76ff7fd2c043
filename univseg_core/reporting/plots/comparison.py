"""What several runs make of the same validation images, beside image and truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.measuring.finished_runs import FinishedRun
from univseg_core.pictures.images import fit_size, read_image, resize_image, resize_label
from univseg_core.progress import progress_bar
from univseg_core.reporting.panels import MostDifferent
from univseg_core.reporting.plots.drawing import (
    add_legend,
    FigureError,
    INK,
    literal,
    MARGIN,
    new_figure,
    swatch,
    swatches,
    write_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLUMN, GAP, TITLE, HEADING = 2.6, 0.05, 0.28, 0.34
"""Inches: width of a picture, distance of two, height of column titles, of a domain's name."""

LONGEST_SIDE = 640
"""Pixels of a picture's longer side at most: as many as a column shows."""


@dataclass(frozen=True)
class Section:
    """
    One domain's part of the figure.

    `titles` are those of the columns; each row has as many pictures, (H, W, 3) uint8. The `legend`
    has what occurs in truths or masks.
    """

    domain: Domain
    titles: list[str]
    rows: list[list[np.ndarray]]
    legend: 'list[Line2D]'


def most_different(run: FinishedRun, name: str, samples: Sequence[Sample],
                   count: int) -> list[Sample]:
    """Return at most `count` of a domain's samples, far from each other in a run's features."""
    if len(samples) <= count:
        return list(samples)
    kept: MostDifferent[Sample] = MostDifferent(count)
    for sample in progress_bar(samples, f'choose of {name}', leave=False):
        features = run.segmenter.features(run.segmenter.encode(read_image(sample.image)))
        kept.add(features.mean((1, 2)), sample)
    return kept.things


def named_samples(samples: dict[str, list[Sample]],
                  names: Sequence[str]) -> dict[str, list[Sample]]:
    """
    Return each domain's samples of some names, with or without ending, in the names' order.

    Raises FigureError for a name that no image has.
    """
    found: dict[str, list[Sample]] = {}
    for name in names:
        here = [(key, sample) for key, each in samples.items() for sample in each
                if name in (sample.name, sample.image.name, sample.image.stem)]
        if not here:
            known = '; '.join(f'{key}: {each[0].image.stem} … {each[-1].image.stem}'
                              for key, each in samples.items())
            raise FigureError(f'no validation image is named {name!r}; there are {known}')
        for key, sample in here:
            found.setdefault(key, []).append(sample)
    return {key: found[key] for key in samples if key in found}


def draw_comparison(runs: Sequence[FinishedRun], path: Path, *, count: int = 3,
                    names: Sequence[str] = ()) -> list[Path]:
    """
    Draw image, truth and each run's masks of some validation images; return the files.

    `path` has no ending. The images are those of some `names`, or `count` of each domain that are
    far from each other in the features of the first run that has it. A run serves the rows of
    its own domains. The validation images of a domain are those of the first run that has it.
    Raises FigureError for an unknown name.
    """
    samples = {name: each for run in reversed(runs) for name, each in run.samples.items()}
    samples = {name: samples[name] for run in runs for name in run.samples}
    shown = named_samples(samples, names) if names else {
        name: most_different(next(run for run in runs if name in run.samples), name, each, count)
        for name, each in samples.items()}
    sections = [_section([run for run in runs if name in run.domains], name, each)
                for name, each in shown.items()]
    return write_figure(_figure(sections), path)


def _section(runs: Sequence[FinishedRun], name: str, samples: Sequence[Sample]) -> Section:
    domain, rows, seen = runs[0].domains[name], [], set()
    for sample in samples:
        image, label = read_sample(sample, domain)
        masks = [label, *(run.segmenter(image, [name])[name].mask for run in runs)]
        height, width = label.shape
        size = fit_size(height, width, min(LONGEST_SIDE, max(height, width)))
        rows.append([resize_image(image, *size),
                     *(domain.colourise(resize_label(mask, *size)) for mask in masks)])
        seen.update(np.unique(np.stack(masks)).tolist())
    legend = [*swatches(domain, sorted(seen - {IGNORE_INDEX})), swatch('void', (0, 0, 0))]
    return Section(domain, ['image', 'truth', *(run.name for run in runs)], rows, legend)


def _figure(sections: Sequence[Section]) -> 'Figure':
    columns = max(len(section.titles) for section in sections)
    width = columns * (COLUMN + GAP) - GAP + 2 * MARGIN
    figure = new_figure(width, 1)
    pictures, y = [], MARGIN  # places in inches; the height is known in the end

    def write(left: float, bottom: float, text: str, weight: str = 'normal') -> None:
        figure.text(left, bottom, text, color=INK, fontsize=10, fontweight=weight,
                    transform=figure.dpi_scale_trans)

    for section in reversed(sections):
        y += add_legend(figure, '', section.legend, y) + GAP
        for row in reversed(section.rows):
            height = COLUMN * row[0].shape[0] / row[0].shape[1]
            pictures += [(MARGIN + i * (COLUMN + GAP), y, height, picture)
                         for i, picture in enumerate(row)]
            y += height + GAP
        for i, title in enumerate(section.titles):
            write(MARGIN + i * (COLUMN + GAP), y + 0.04, literal(title))
        write(MARGIN, y + TITLE, section.domain.name, 'bold')
        y += TITLE + HEADING
    figure.set_size_inches(width, y)
    for left, bottom, height, picture in pictures:
        axis = figure.add_axes((left / width, bottom / y, COLUMN / width, height / y))
        axis.imshow(picture, interpolation='nearest', aspect='auto')
        axis.set_axis_off()
    return figure
