"""An experiment's results as tables: Markdown to read, CSV to compute with."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
import csv
from itertools import product
from pathlib import Path
import statistics
from typing import Any

from univseg_core.files import replacing, write_text
from univseg_core.research.results import MEASURES, Results
from univseg_core.research.settings import Experiment, Labelled

MISSING = '–'
ABSENT = 'absent'

HEADINGS = {
    'standard': '',
    'paper': ", by the protocol of the paper's code (the first 100 validation images, scaled as "
             'in training)',
    'prototypes': ', by the nearest label embedding instead of the head (where a variant '
                  'has no entropies, of a random projection of the features)',
}
COLUMNS = ('labelled', 'variant', 'measure', 'domain', 'seeds', 'mean', 'deviation', 'published')
RUN_COLUMNS = ('labelled', 'seed', 'variant')
CLASS_COLUMNS = (*COLUMNS[:4], 'class', *COLUMNS[4:])

NOTE = ('in %; where there are several seeds, mean ± sample standard deviation. '
        f'{MISSING}: not run yet.')
PUBLISHED = ('\nPublished: Kalluri et al., Universal Semi-Supervised Semantic Segmentation, ICCV '
             '2019.')


def write_tables(experiment: Experiment, results: Results, root: Path) -> str:
    """
    Write NAME.md, NAME.csv, NAME_classes.md, NAME_classes.csv and NAME_runs.csv.

    They are written in the experiment's folder; the last one has a row for each finished run.

    Returns the first one's text.
    """
    text = markdown(experiment, results)
    write_text(root / f'{experiment.name}.md', text)
    _write_csv(root / f'{experiment.name}.csv', COLUMNS, rows(experiment, results))
    write_text(root / f'{experiment.name}_classes.md', class_markdown(experiment, results))
    _write_csv(root / f'{experiment.name}_classes.csv', CLASS_COLUMNS,
               class_rows(experiment, results))
    runs = results.runs()
    _write_csv(root / f'{experiment.name}_runs.csv', list(runs[0]) if runs else RUN_COLUMNS, runs)
    return text


def rows(experiment: Experiment, results: Results) -> list[dict[str, Any]]:
    """
    Return the table's figures one by one: of each N, variant, measure, domain and their sum.

    Those not measured are left out, but for the standard measure, whose `mean` is then None.
    """
    table = []
    section = experiment.section
    for labelled, variant, measure in product(section.labelled, section.variants, MEASURES):
        published = _published(experiment, labelled, variant)
        for name, domain in _columns(experiment).items():
            by_seed = results.miou(labelled, variant, domain, measure)
            if by_seed or measure == 'standard':
                table.append({
                    'labelled': labelled, 'variant': variant, 'measure': measure, 'domain': name,
                    **_figure(by_seed.values(), published.get(name))})
    return table


def class_rows(experiment: Experiment, results: Results) -> list[dict[str, Any]]:
    """Return each class's figures one by one; the classes are those measured or published."""
    table = []
    section = experiment.section
    for labelled, variant, domain, measure in product(section.labelled, section.variants,
                                                      experiment.domains, MEASURES):
        published = section.published_classes.get(labelled, {}).get(variant, {}).get(domain, {})
        classes: dict[str, list[float] | None] = {}
        if measure == 'standard':
            classes |= dict.fromkeys(published)
        classes |= results.iou(labelled, variant, domain, measure)
        table += [{'labelled': labelled, 'variant': variant, 'measure': measure, 'domain': domain,
                   'class': name, 'absent': values == [],
                   **_figure(values or [], published.get(name))}
                  for name, values in classes.items()]
    return table


def markdown(experiment: Experiment, results: Results) -> str:
    """Return the table of each N: variants × domains and their sum, beside the published."""
    table = rows(experiment, results)
    note = f'mIoU {NOTE}{PUBLISHED if experiment.section.published else ""}'
    lines = [f'# {experiment.name}', '', note, '']
    for labelled in experiment.section.labelled:
        for measure, heading in HEADINGS.items():
            variants = _nested('variant', 'domain', (
                row for row in table if (row['labelled'], row['measure']) == (labelled, measure)))
            if variants:
                lines += [f'## N = {labelled}{heading}', '']
                seeds = {name: cells.get('sum', {}).get('seeds', 0)
                         for name, cells in variants.items()}
                lines += _grid(['variant', 'seeds'], list(_columns(experiment)), [
                    ([name, f'{seeds[name]} of {len(experiment.section.seeds)}'], seeds[name],
                     cells) for name, cells in variants.items()], measure != 'prototypes')
        lines += _differences(experiment, results, labelled)
    return '\n'.join(lines)


def _differences(experiment: Experiment, results: Results, labelled: int | str) -> list[str]:
    """Return the table of what each variant is above the one that they are compared with."""
    other, lines = experiment.section.compare_with, []
    if other is None:
        return []
    for variant in experiment.section.variants:
        cells = {name: _figure(results.differences(labelled, variant, other, domain).values())
                 for name, domain in _columns(experiment).items()}
        seeds = cells['sum']['seeds']
        if variant != other and any(cell['seeds'] for cell in cells.values()):
            lines.append(([variant, str(seeds)], seeds, cells))
    if not lines:
        return []
    return [
        f'## N = {labelled}, points above {other}', '',
        'Mean of the differences seed by seed, ± their sample standard deviation.', '',
        *_grid(['variant', 'seeds'], list(_columns(experiment)), lines, sign='+')]


def class_markdown(experiment: Experiment, results: Results) -> str:
    """Return a table of each N and domain: classes × variants, beside the published figures."""
    table = [row for row in class_rows(experiment, results) if row['measure'] == 'standard']
    note = f'IoU {NOTE}{PUBLISHED if experiment.section.published_classes else ""}'
    lines = [f'# {experiment.name}: IoU of each class', '', note, '']
    for labelled in experiment.section.labelled:
        for domain in experiment.domains:
            classes = _nested('class', 'variant', (
                row for row in table if (row['labelled'], row['domain']) == (labelled, domain)))
            if classes:
                lines += [f'## N = {labelled}, {domain}', '']
                lines += _grid(['class'], experiment.section.variants, [
                    ([name], len(experiment.section.seeds), cells)
                    for name, cells in classes.items()])
    return '\n'.join(lines)


def _columns(experiment: Experiment) -> dict[str, str | None]:
    """Return the domains by the names of their columns; None is the sum over all."""
    return {**{name: name for name in experiment.domains}, 'sum': None}


def _published(experiment: Experiment, labelled: Labelled, variant: str) -> dict[str, float]:
    """Return the published mIoU of each domain, and their sum where all are there."""
    figures = dict(experiment.section.published.get(labelled, {}).get(variant, {}))
    if all(name in figures for name in experiment.domains):
        figures['sum'] = sum(figures[name] for name in experiment.domains)
    return figures


def _figure(values: Collection[float], published: float | None = None) -> dict[str, Any]:
    """Return mean and sample standard deviation (of count − 1; None for one value) over seeds."""
    return {'seeds': len(values), 'mean': statistics.fmean(values) if values else None,
            'deviation': statistics.stdev(values) if len(values) > 1 else None,
            'published': published}


def _write_csv(path: Path, columns: Sequence[str], table: Sequence[Mapping]) -> None:
    with replacing(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, columns, extrasaction='ignore')
        writer.writeheader()
        writer.writerows({key: f'{value:.4f}' if isinstance(value, float) else value
                          for key, value in row.items()} for row in table)


def _nested(outer: str, inner: str, table: Iterable[Mapping]) -> dict[str, dict[str, Mapping]]:
    """Return rows by the values of two of their columns."""
    nested: dict[str, dict[str, Mapping]] = defaultdict(dict)
    for row in table:
        nested[row[outer]][row[inner]] = row
    return nested


def _grid(head: Sequence[str], columns: Sequence[str],
          lines: Sequence[tuple[Sequence[str], int, Mapping[str, Mapping]]],
          with_published: bool = True, sign: str = '') -> list[str]:
    """
    Return a Markdown table, published figures beside the columns that have any.

    A line is what stands below `head`, its number of seeds, and figures by column.
    """
    shown = {name for _, _, cells in lines for name, cell in cells.items()
             if with_published and cell['published'] is not None}
    header, grid = [*head], []
    for name in columns:
        header += [name, 'published'] if name in shown else [name]
    for first, seeds, cells in lines:
        line = [*first]
        for name in columns:
            cell = cells.get(name, {})
            line.append(_text(cell, seeds, sign))
            if name in shown:
                published = cell.get('published')
                line.append(MISSING if published is None else f'{published:.2f}')
        grid.append(_line(line))
    # All columns but the first are numbers.
    return [_line(header), f'|---|{"--:|" * (len(header) - 1)}', *grid, '']


def _line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _text(cell: Mapping[str, Any], seeds: int, sign: str) -> str:
    """Return 'mean ± deviation', with the number of seeds where it is not the row's."""
    if cell.get('mean') is None:
        return ABSENT if cell.get('absent') else MISSING
    text = f'{cell["mean"]:{sign}.1f}'
    if cell['deviation'] is not None:
        text += f' ± {cell["deviation"]:.1f}'
    return text if cell['seeds'] == seeds else f'{text} (n = {cell["seeds"]})'
