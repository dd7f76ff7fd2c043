"""What the correspondences of classes say, as Markdown, CSV and JSON."""

from collections.abc import Mapping
import csv
import io
from itertools import combinations

import numpy as np
from univseg_core.measuring.correspondences import COLLAPSED, Correspondence, nearest

NEAREST = 3
"""Classes of the other domain that are named for each class."""

MEASURES = {'features': 'cosine in the features', 'embedding': 'cosine in the embedding',
            'shares': 'share of pixels by label embedding'}


def as_dict(results: Mapping[tuple[str, str], Correspondence]) -> list[dict]:
    """Return every ordered pair as plain JSON values: matrices, and the nearest of each class."""
    return [{
        'rows': list(each.rows.classes), 'columns': list(each.columns.classes),
        'of': each.rows.name, 'in': each.columns.name, 'pixels': each.pixels.tolist(),
        **{measure: [[None if np.isnan(value) else value for value in row]
                     for row in getattr(each, measure).tolist()] for measure in MEASURES},
        'nearest': {name: {measure: [{'class': other, 'value': value} for other, value in
                                     _nearest(each, measure, i)] for measure in MEASURES}
                    for i, name in enumerate(each.rows.classes)},
    } for each in results.values()]


def as_csv(results: Mapping[tuple[str, str], Correspondence]) -> str:
    """Return a row for each class, other domain, measure and rank."""
    file = io.StringIO(newline='')
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['domain', 'class', 'other_domain', 'measure', 'rank', 'other_class', 'value'])
    for each in results.values():
        for i, name in enumerate(each.rows.classes):
            for measure in MEASURES:
                for rank, (other, value) in enumerate(_nearest(each, measure, i), start=1):
                    writer.writerow([each.rows.name, name, each.columns.name, measure, rank,
                                     other, f'{value:.4f}'])
    return file.getvalue()


def as_markdown(name: str, results: Mapping[tuple[str, str], Correspondence]) -> str:
    """Return a table for each ordered pair of domains, under the name of the run."""
    lines = [f'# Class correspondences of {name}', '',
             'Over the labelled pixels of the validation images. Cosines are of class means: in '
             "the shared encoder's features seen from the mean of all domains, in the embedding "
             "seen from zero, as the method compares. The share is the part of a class's pixels "
             "whose nearest label embedding of the other domain is that class's.", '']
    names = list(dict.fromkeys(i for i, _ in results))
    for pair in combinations(names, 2):
        lines += _notes(results[pair])
    for each in results.values():
        lines += [f'## {each.rows.name} → {each.columns.name}', '',
                  f'| {each.rows.name} | pixels | in the features | in the embedding | by label '
                  'embedding |', '|---|--:|---|---|---|']
        for i, label in enumerate(each.rows.classes):
            if not each.pixels[i]:
                lines.append(f'| {label} | absent | | | |')
                continue
            cells = [', '.join(f'{other} {_worded(measure, value)}'
                               for other, value in _nearest(each, measure, i))
                     for measure in MEASURES]
            lines.append(f'| {label} | {each.pixels[i]} | {" | ".join(cells)} |')
        lines.append('')
    return '\n'.join(lines)


def mutual(each: Correspondence, measure: str = 'features') -> list[tuple[str, str, float]]:
    """Return the pairs of classes, each the other's nearest, with their value, largest first."""
    values = getattr(each, measure)
    pairs = [(each.rows.classes[i], each.columns.classes[j], float(row[j]))
             for i, row in enumerate(values) for j in nearest(row, 1)
             if nearest(values[:, j], 1) == [i]]
    return sorted(pairs, key=lambda pair: -pair[2])


def _notes(each: Correspondence) -> list[str]:
    pairs = ', '.join(f'{a} ↔ {b} ({value:.2f})' for a, b, value in mutual(each))
    lines = [f"Each other's nearest in the features, {each.rows.name} ↔ {each.columns.name}: "
             f'{pairs or "none"}.', '']
    if each.has_collapsed:
        lines += [f'**The embedding has collapsed**: all classes of {each.rows.name} and '
                  f'{each.columns.name} point the same way in it, every cosine is above '
                  f'{COLLAPSED}. Which are nearest in it hangs on hundredths.', '']
    return lines


def _nearest(each: Correspondence, measure: str, i: int) -> list[tuple[str, float]]:
    row = getattr(each, measure)[i]
    return [(each.columns.classes[j], float(row[j])) for j in nearest(row, NEAREST)]


def _worded(measure: str, value: float) -> str:
    return f'{100 * value:.0f} %' if measure == 'shares' else f'{value:.2f}'
