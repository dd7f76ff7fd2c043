"""t-SNE of what runs make of pixels of all domains (the paper's Figure 4)."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from univseg_core.domains import Domain
from univseg_core.measuring.finished_runs import FinishedRun
from univseg_core.reporting.plots.cells import (
    cell_vectors,
    choose_cells,
    class_maps,
    frequent_classes,
    named_classes,
    PURITY,
)
from univseg_core.reporting.plots.drawing import (
    add_legend,
    EDGE,
    FigureError,
    GLYPHS,
    GRID,
    INK,
    literal,
    MARGIN,
    MARKERS,
    new_figure,
    palette,
    swatches,
    write_figure,
)
from univseg_core.reporting.plots.texts import write_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPACES = {'features': "the shared encoder's features", 'embedding': 'the embedding'}


def project(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """
    Return the t-SNE (n, 2) of vectors (n, channels).

    Raises FigureError for fewer than four vectors, or where all are the same.
    """
    if len(vectors) < 4:
        raise FigureError(f'{len(vectors)} pixels: expected four at least')
    if np.allclose(vectors, vectors[0]):
        raise FigureError('all pixels have the same vector')
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(vectors) - 1) / 3)
    return TSNE(2, init='pca', perplexity=perplexity, random_state=seed).fit_transform(vectors)


def draw_tsne(runs: Sequence[FinishedRun], path: Path, *, space: str = 'features',
              per_class: int = 100, names: Sequence[str] = (), seed: int = 0) -> list[Path]:
    """
    Draw the t-SNE of pixels of the validation images, a panel for each run; return the files.

    `path` has no ending. `per_class` pixels, or as many as there are, of each of the classes in
    `names` (none: the most frequent ones of each domain). `space` is one of SPACES. Raises
    FigureError where the runs have not the same domains, a class is unknown or has no pixel.
    """
    first = runs[0]
    for run in runs:
        if run.domains.keys() != first.domains.keys():
            raise FigureError(f'{run.name} has the domains {", ".join(run.domains)}, {first.name} '
                              f'{", ".join(first.domains)}: expected the same')
    classes = named_classes(first.domains, names) if names else {}
    panels = []
    for run in runs:
        maps = {name: class_maps(run, name) for name in run.domains}
        if not classes:
            classes = {name: frequent_classes(each) for name, each in maps.items()}
        _check_cells(run, maps, classes)
        cells = {name: choose_cells(maps[name], chosen, per_class, seed)
                 for name, chosen in classes.items()}
        vectors = np.concatenate([cell_vectors(run, name, each, space)
                                  for name, each in cells.items()])
        try:
            places = project(vectors, seed)
        except FigureError as error:
            raise FigureError(f'{run.name}, {SPACES[space]}: {error}') from None
        ends = np.cumsum([len(each.label) for each in cells.values()])
        panels.append({name: (place, each.label) for (name, each), place in zip(
            cells.items(), np.split(places, ends[:-1]), strict=True)})
    figure = _figure(runs, classes, panels, f't-SNE of {SPACES[space]}', f'at most {per_class} '
                     'cells of each class, from the validation images')
    return write_figure(figure, path)


def _check_cells(run: FinishedRun, maps: Mapping[str, Sequence[np.ndarray]],
                 classes: Mapping[str, Sequence[int]]) -> None:
    for name, chosen in classes.items():
        missing = [run.domains[name].classes[c] for c in chosen
                   if not any((each == c).any() for each in maps[name])]
        if missing or not chosen:
            raise FigureError(
                f'{run.name}: no validation image of {name} has a cell that is of '
                f'{missing[0] if missing else "one class"} to {PURITY:.0%}')


def _figure(runs: Sequence[FinishedRun], classes: dict[str, list[int]], panels: Sequence,
            title: str, subtitle: str) -> 'Figure':
    across = min(3, len(runs))
    down = -(-len(runs) // across)
    side, gap, heading = 5.6, 0.2, 0.35
    width = across * side + (across - 1) * gap + 2 * MARGIN
    figure = new_figure(width, 1)
    domains, bottom = runs[0].domains, MARGIN
    markers = dict(zip(domains, cycle(zip(MARKERS, GLYPHS, strict=True)), strict=False))
    for name, chosen in reversed(classes.items()):
        marker, glyph = markers[name]
        handles = swatches(domains[name], chosen, marker=marker)
        bottom += add_legend(figure, f'{glyph} {name}', handles, bottom) + 0.05
    height = bottom + down * (side + heading) + 0.6
    figure.set_size_inches(width, height)
    figure.text(MARGIN / width, 1 - 0.12 / height, title, va='top', color=INK, fontsize=12)
    figure.text(MARGIN / width, 1 - 0.4 / height, subtitle, va='top', color=INK, fontsize=9)
    for i, (run, panel) in enumerate(zip(runs, panels, strict=True)):
        x = MARGIN + (i % across) * (side + gap)
        y = bottom + (down - 1 - i // across) * (side + heading)
        axis = figure.add_axes((x / width, y / height, side / width, side / height))
        axis.set_title(literal(run.name), color=INK, fontsize=11, fontweight='bold')
        _panel(axis, panel, domains, markers)
    return figure


def _panel(axis: 'Axes', panel: Mapping, domains: Mapping[str, Domain], markers: Mapping) -> None:
    anchors, texts, edges = [], [], []
    for name, (places, labels) in panel.items():
        colours, (marker, glyph) = palette(domains[name]), markers[name]
        axis.scatter(places[:, 0], places[:, 1], s=22, marker=marker,
                     c=[colours[c] for c in labels], edgecolors=EDGE, linewidths=0.3, alpha=0.85)
        for c in np.unique(labels):
            here = places[labels == c]
            from_median = np.linalg.norm(here - np.median(here, axis=0), axis=1)
            anchors.append(here[from_median.argmin()])
            texts.append(f'{glyph} {literal(domains[name].classes[c])}')
            edges.append(colours[c])
    axis.set(xticks=[], yticks=[])
    axis.margins(0.04)
    for spine in axis.spines.values():
        spine.set_color(GRID)
    write_apart(axis, np.array(anchors), texts, edges)
