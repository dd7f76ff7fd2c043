"""
A training's tables, log.csv and validation.csv: read while it writes, mended after a kill.

A row is appended as a line. A kill, or a power cut, may leave the last one cut off or damaged.
"""

from collections.abc import Mapping, Sequence
import csv
from dataclasses import dataclass
import math
from pathlib import Path
import re

import numpy as np
from univseg_core.errors import first_few, shortened, UnivsegError
from univseg_core.files import replacing
from univseg_core.files.records import read_rows, RecordError

LOSSES_FILE, VALIDATION_FILE = 'log.csv', 'validation.csv'

STEP = re.compile('[0-9]{1,15}')


class RunLogError(UnivsegError):
    """A log.csv or validation.csv that holds something else than a training wrote."""


@dataclass(frozen=True)
class Validation:
    """
    What was measured at one step, by domain.

    `miou` is in 0..1 and NaN where no class occurs; `iou` has a value for each class.
    """

    step: int
    miou: dict[str, float]
    iou: dict[str, list[float]]

    @property
    def total(self) -> float:
        """Return the sum of the domains' mIoUs; a domain without any counts as 0."""
        return sum(value for value in self.miou.values() if not math.isnan(value))


def read_losses(folder: Path) -> dict[str, np.ndarray]:
    """
    Return the columns of a folder's log.csv, each (rows,) float64, NaN where a cell is empty.

    Steps ascend. A folder without the file has no columns. Raises RunLogError for a damaged one.
    """
    path = folder / LOSSES_FILE
    names, rows = _read(path)
    return {name: np.array([_number(path, row, name) for row in rows]) for name in names}


def read_validation(folder: Path) -> list[Validation]:
    """
    Return a folder's validations in the order of their steps; none without the file.

    Raises RunLogError for a damaged file.
    """
    path = folder / VALIDATION_FILE
    validations: dict[int, Validation] = {}
    for row in _read(path)[1]:
        step, name = int(row['step']), row.get('domain', '')
        validation = validations.setdefault(step, Validation(step, {}, {}))
        validation.miou[name] = _number(path, row, 'miou')
        validation.iou[name] = [_number(path, row, 'iou', value)
                                for value in row.get('iou', '').split()]
    return [validations[step] for step in sorted(validations)]


def best_validation(validations: Sequence[Validation]) -> Validation | None:
    """Return the one with the largest sum of mIoUs, the earliest of equals; None of none."""
    return max(validations, key=lambda validation: validation.total, default=None)


def append_rows(path: Path, rows: Sequence[Mapping]) -> None:
    """Add rows; a table that lacks some of their columns, such as an older one, gets them."""
    names = _header(path)
    if set(rows[0]) <= set(names):
        with path.open('a', newline='', encoding='utf-8') as file:
            csv.DictWriter(file, names, restval='').writerows(rows)
    else:
        _, old = _read(path)
        _write(path, list(dict.fromkeys([*rows[0], *names])), [*old, *rows])


def keep_rows(path: Path, last: int) -> None:
    """
    Keep a table's rows up to step `last`; remove it if there are none.

    Those after a damaged row, which a power cut may leave, go with it.
    """
    names, rows = _read(path, until_damaged=True)
    kept = [row for row in rows if int(row['step']) <= last]
    if kept:
        _write(path, names, kept)
    else:
        path.unlink(missing_ok=True)


def _read(path: Path, until_damaged: bool = False) -> tuple[list[str], list[dict[str, str]]]:
    """
    Return a table's columns and rows, without a last row that is not written to its end.

    A damaged row raises RunLogError, or, with `until_damaged`, ends the table.
    """
    if not path.exists():
        return [], []
    try:
        names, rows = read_rows(path, whole_lines=True)
    except RecordError as error:
        raise RunLogError(f'{path}: damaged: {error}') from error
    for i, row in enumerate(rows):
        if None in row.values() or '' in row or not STEP.fullmatch(row.get('step', '')):
            if until_damaged:
                return names, rows[:i]
            raise RunLogError(f'{path}: damaged: expected a step and a value for each of '
                              f'{first_few(names, 20)}, got {shortened(str(list(row.values())))}')
    return names, rows


def _number(path: Path, row: Mapping[str, str], name: str, value: str | None = None) -> float:
    try:
        return float(value or row.get(name) or 'nan')
    except ValueError:
        raise RunLogError(f'{path}: damaged: {name} at step {row["step"]}: expected a number, '
                          f'got {shortened(row[name])!r}') from None


def _write(path: Path, names: Sequence[str], rows: Sequence[Mapping]) -> None:
    with replacing(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, names, restval='')
        writer.writeheader()
        writer.writerows(rows)


def _header(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        return next(csv.reader(file), [])
