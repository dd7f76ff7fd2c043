"""An experiment's results as tables: Markdown to read, CSV to compute with."""

from collections.abc import Iterable, Mapping, Sequence
import csv
from pathlib import Path
from typing import Any

from univseg_core.files import replacing, write_text
from univseg_core.research.results import MEASURES, Results, SeedMean
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
    for labelled in experiment.section.labelled:
        for variant in experiment.section.variants:
            published = _published(experiment, labelled, variant)
            for measure in MEASURES:
                figures = {name: results.miou(labelled, variant, name, measure)
                           for name in experiment.domains}
                figures['sum'] = results.sum_of_mious(labelled, variant, measure)
                table += [_row({'labelled': labelled, 'variant': variant, 'measure': measure,
                                'domain': name}, list(by_seed.values()), published.get(name))
                          for name, by_seed in figures.items()
                          if by_seed or measure == 'standard']
    return table


def class_rows(experiment: Experiment, results: Results) -> list[dict[str, Any]]:
    """Return each class's figures one by one; the classes are those measured or published."""
    table = []
    for labelled in experiment.section.labelled:
        for variant in experiment.section.variants:
            for domain in experiment.domains:
                published = experiment.section.published_classes.get(labelled, {}).get(
                    variant, {}).get(domain, {})
                for measure in MEASURES:
                    classes: dict[str, list[float] | None] = {}
                    if measure == 'standard':
                        classes |= dict.fromkeys(published)
                    classes |= results.iou(labelled, variant, domain, measure)
                    table += [_row({'labelled': labelled, 'variant': variant, 'measure': measure,
                                    'domain': domain, 'class': name}, values,
                                   published.get(name)) for name, values in classes.items()]
    return table


def markdown(experiment: Experiment, results: Results) -> str:
    """Return the table of each N: variants × domains and their sum, beside the published."""
    table = rows(experiment, results)
    note = f'mIoU {NOTE}{PUBLISHED if experiment.section.published else ""}'
    lines = [f'# {experiment.name}', '', note, '']
    for labelled in experiment.section.labelled:
        for measure, heading in HEADINGS.items():
            cells = {(row['variant'], row['domain']): row for row in table
                     if (row['labelled'], row['measure']) == (labelled, measure)}
            if not cells:
                continue
            lines += [f'## N = {labelled}{heading}', '']
            lines += _grid(experiment, cells, measure != 'prototypes')
        lines += _differences(experiment, results, labelled)
    return '\n'.join(lines)


def _grid(experiment: Experiment, cells: Mapping[tuple, Mapping],
          with_published: bool) -> Iterable[str]:
    variants = [name for name in experiment.section.variants
                if any(variant == name for variant, _ in cells)]
    columns = [*experiment.domains, 'sum']
    shown = {name for _, name in cells if with_published and any(
        cell['published'] is not None for key, cell in cells.items() if key[1] == name)}
    header = ['variant', 'seeds']
    for name in columns:
        header += [name, 'published'] if name in shown else [name]
    yield from _header(header)
    for variant in variants:
        seeds = cells.get((variant, 'sum'), {}).get('seeds', 0)
        line = [variant, f'{seeds} of {len(experiment.section.seeds)}']
        for name in columns:
            cell = cells.get((variant, name), {})
            line.append(_text(cell, seeds))
            if name in shown:
                line.append(_number(cell.get('published'), 2))
        yield _line(line)
    yield ''


def _differences(experiment: Experiment, results: Results,
                 labelled: int | str) -> Iterable[str]:
    """Return the table of what each variant is above the one that they are compared with."""
    other = experiment.section.compare_with
    columns = [*experiment.domains, 'sum']
    lines = []
    if other is None:
        return
    for variant in experiment.section.variants:
        means = [SeedMean.from_values(list(results.differences(
            labelled, variant, other, None if name == 'sum' else name).values()))
            for name in columns] if variant != other else []
        if any(means):
            seeds = means[-1].count if means[-1] else 0
            lines.append(_line([variant, str(seeds), *(_signed(mean, seeds) for mean in means)]))
    if lines:
        yield from [f'## N = {labelled}, points above {other}', '',
                    'Mean of the differences seed by seed, ± their sample standard deviation.', '',
                    *_header(['variant', 'seeds', *columns]), *lines, '']


def _signed(mean: SeedMean | None, seeds: int) -> str:
    if mean is None:
        return MISSING
    text = f'{mean.mean:+.1f}' + ('' if mean.deviation is None else f' ± {mean.deviation:.1f}')
    return text if mean.count == seeds else f'{text} (n = {mean.count})'


def class_markdown(experiment: Experiment, results: Results) -> str:
    """Return a table of each N and domain: classes × variants, beside the published figures."""
    table = [row for row in class_rows(experiment, results) if row['measure'] == 'standard']
    note = f'IoU {NOTE}{PUBLISHED if experiment.section.published_classes else ""}'
    lines = [f'# {experiment.name}: IoU of each class', '', note, '']
    for labelled in experiment.section.labelled:
        for domain in experiment.domains:
            cells = {(row['class'], row['variant']): row for row in table
                     if (row['labelled'], row['domain']) == (labelled, domain)}
            if not cells:
                continue
            lines += [f'## N = {labelled}, {domain}', '']
            header = ['class']
            published = {variant for (_, variant), cell in cells.items()
                         if cell['published'] is not None}
            for variant in experiment.section.variants:
                header += [variant, 'published'] if variant in published else [variant]
            lines += _header(header)
            for name in dict.fromkeys(name for name, _ in cells):
                line = [name]
                for variant in experiment.section.variants:
                    cell = cells.get((name, variant), {})
                    line.append(ABSENT if cell.get('seeds') == 0 and cell['measured']
                                else _text(cell, len(experiment.section.seeds)))
                    if variant in published:
                        line.append(_number(cell.get('published'), 2))
                lines.append(_line(line))
            lines.append('')
    return '\n'.join(lines)


def _published(experiment: Experiment, labelled: Labelled, variant: str) -> dict[str, float]:
    """Return the published mIoU of each domain, and their sum where all are there."""
    figures = dict(experiment.section.published.get(labelled, {}).get(variant, {}))
    if all(name in figures for name in experiment.domains):
        figures['sum'] = sum(figures[name] for name in experiment.domains)
    return figures


def _row(key: Mapping[str, object], values: Sequence[float] | None,
         published: float | None) -> dict[str, Any]:
    """Return a figure's row; values are None where nothing was measured."""
    mean = SeedMean.from_values(values or [])
    return {**key, 'measured': values is not None, 'seeds': mean.count if mean else 0,
            'mean': mean.mean if mean else None, 'deviation': mean.deviation if mean else None,
            'published': published}


def _write_csv(path: Path, columns: Sequence[str], table: Sequence[Mapping]) -> None:
    with replacing(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, columns, extrasaction='ignore')
        writer.writeheader()
        writer.writerows({key: f'{value:.4f}' if isinstance(value, float) else value
                          for key, value in row.items()} for row in table)


def _text(cell: Mapping[str, Any], seeds: int) -> str:
    """Return 'mean ± deviation', with the number of seeds where it is not the row's."""
    if cell.get('mean') is None:
        return MISSING
    text = _number(cell['mean'], 1)
    if cell['deviation'] is not None:
        text += f' ± {_number(cell["deviation"], 1)}'
    return text if cell['seeds'] == seeds else f'{text} (n = {cell["seeds"]})'


def _number(value: float | None, digits: int) -> str:
    return MISSING if value is None else f'{value:.{digits}f}'


def _header(names: Sequence[str]) -> list[str]:
    """Return a Markdown table's first two lines; all columns but the first are numbers."""
    return [_line(names), f'|---|{"--:|" * (len(names) - 1)}']


def _line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'
