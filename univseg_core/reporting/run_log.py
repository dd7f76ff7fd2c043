"""
What a training leaves to read: log.csv and validation.csv in its folder, and TensorBoard.

`read_losses` and `read_validation` give back what `RunLog` wrote, while it is still writing, too.
"""

from collections.abc import Mapping, Sequence
import csv
from dataclasses import dataclass
import io
import math
from pathlib import Path
import time
from typing import TYPE_CHECKING
import weakref

import numpy as np
from univseg_core.errors import UnivsegError
from univseg_core.files import replacing
from univseg_core.method.losses import LOSSES

if TYPE_CHECKING:  # its packages are the training's; to read a log needs none of them
    from torch.utils.tensorboard import SummaryWriter
    from univseg_core.measuring.evaluation import DomainResult

LOG_EVERY = 10
"""Steps over which a row's values are averaged."""

TAGS = {
    'loss': 'loss/total', **{loss.name: f'loss/{loss.name}' for loss in LOSSES},
    'feature_norm': 'norm/feature', 'embedding_norm': 'norm/embedding',
    'data_wait': 'speed/data_wait', 'images_per_second': 'speed/images_per_second',
    'seconds_per_step': 'speed/seconds_per_step',
}
"""TensorBoard's groups of the columns of log.csv; other columns keep their names."""


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


class RunLog:
    """
    Rows of CSV, and TensorBoard's events in `folder`/tensorboard, appended as the training goes.

    A training that goes on from step `first` keeps what was written up to there and drops what
    came later, which it writes again.
    """

    def __init__(self, folder: Path, first: int):
        self._folder, self._first = folder, first
        self._losses, self._validation = folder / 'log.csv', folder / 'validation.csv'
        folder.mkdir(parents=True, exist_ok=True)
        for path in (self._losses, self._validation):
            _truncate(path, first)
        self._shown = {validation.step for validation in read_validation(folder)}
        self._writer: SummaryWriter | None = None
        self._values: dict[str, list[float]] = {}
        self._seconds: list[float] = []
        self._since = time.monotonic()

    def losses(self, step: int, values: Mapping[str, float]) -> dict[str, float] | None:
        """
        Add one step's values; return what a row says of them when one is due, otherwise None.

        A row holds means over its steps, but for `learning_rate`, of which it has the last, and
        for `images`, the number of a step's crops, which becomes `images_per_second`. Time spent
        on validation does not count.
        """
        for key, value in values.items():
            self._values.setdefault(key, []).append(value)
        self._seconds.append(self._lap())
        if step % LOG_EVERY:
            return None
        seconds = sum(self._seconds)
        means = {key: sum(series) / len(series) for key, series in self._values.items()}
        if 'learning_rate' in means:
            means['learning_rate'] = self._values['learning_rate'][-1]
        if means.pop('images', None) is not None:
            means['images_per_second'] = sum(self._values['images']) / max(seconds, 1e-9)
        row = {**means, 'seconds_per_step': seconds / len(self._seconds)}
        _append(self._losses, [{'step': step, **row}])
        self._scalars(step, {tag(key): value for key, value in row.items()})
        self._values, self._seconds = {}, []
        return means

    def validation(self, step: int, results: 'Mapping[str, DomainResult]') -> bool:
        """
        Add a row for each domain: mIoU of its head and label embeddings, class-wise IoU, 0..1.

        The column of label embeddings is `prototype_miou`. Returns whether no earlier step has as
        large a sum of mIoUs, in which NaN counts as 0.
        """
        _truncate(self._validation, step - 1)  # a finished run that is started again
        earlier = read_validation(self._folder)
        _append(self._validation, [
            {'step': step, 'domain': name, 'miou': result.miou,
             'prototype_miou': (result.by_label_embeddings.miou
                                if result.by_label_embeddings else math.nan),
             'iou': ' '.join(f'{value:.4f}' for value in result.iou)}
            for name, result in results.items()])
        now = Validation(step, {name: result.miou for name, result in results.items()}, {})
        if step not in self._shown:
            scalars = {f'miou/{name}': value for name, value in now.miou.items()}
            scalars |= {f'iou/{name}/{label}': value for name, result in results.items()
                        for label, value in zip(result.domain.classes, result.iou, strict=True)}
            scalars |= {f'prototype_miou/{name}': result.by_label_embeddings.miou
                        for name, result in results.items() if result.by_label_embeddings}
            self._scalars(step, {**scalars, 'miou/sum': now.total})
        self._lap()
        return all(now.total > validation.total for validation in earlier)

    def pictures(self, step: int, name: str, panel: np.ndarray) -> None:
        """Show a domain's panel of predictions, (H, W, 3) uint8 RGB, in TensorBoard."""
        if step not in self._shown:
            self._tensorboard().add_image(f'predictions/{name}', panel, step, dataformats='HWC')
        self._lap()

    def close(self) -> None:
        """Write what TensorBoard's writer still holds."""
        if self._writer is not None:
            self._writer.close()

    def _lap(self) -> float:
        """Return the seconds since the last call."""
        before, self._since = self._since, time.monotonic()
        return self._since - before

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if not math.isnan(value):
                self._tensorboard().add_scalar(name, value, step)

    def _tensorboard(self) -> 'SummaryWriter':
        # Begun with the first value: its thread starts after the processes that make batches.
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter
            self._writer = SummaryWriter(self._folder / 'tensorboard', flush_secs=20,
                                         purge_step=self._first + 1)
            weakref.finalize(self, self._writer.close)  # after an interrupt, too
        return self._writer


def tag(column: str) -> str:
    """Return TensorBoard's name of a column of log.csv: entropy/a/b becomes entropy/a→b."""
    if column.startswith(('entropy/', 'perplexity/')):
        group, images, labels = column.split('/')
        return f'{group}/{images}→{labels}'
    return TAGS.get(column, column)


def read_losses(folder: Path) -> dict[str, np.ndarray]:
    """
    Return the columns of a folder's log.csv, each (rows,) float64, NaN where a cell is empty.

    Steps ascend. A folder without the file has no columns. Raises RunLogError for a damaged one.
    """
    path = folder / 'log.csv'
    names, rows = _read(path)
    return {name: np.array([_number(path, row, name) for row in rows]) for name in names}


def read_validation(folder: Path) -> list[Validation]:
    """
    Return a folder's validations in the order of their steps; none without the file.

    Raises RunLogError for a damaged file.
    """
    path = folder / 'validation.csv'
    validations: dict[int, Validation] = {}
    for row in _read(path)[1]:
        step, name = int(row['step']), row.get('domain', '')
        validation = validations.setdefault(step, Validation(step, {}, {}))
        validation.miou[name] = _number(path, row, 'miou')
        validation.iou[name] = [float(value) for value in row.get('iou', '').split()]
    return [validations[step] for step in sorted(validations)]


def best_validation(validations: Sequence[Validation]) -> Validation | None:
    """Return the one with the largest sum of mIoUs, the earliest of equals; None of none."""
    return max(validations, key=lambda validation: validation.total, default=None)


def _read(path: Path, until_damaged: bool = False) -> tuple[list[str], list[dict[str, str]]]:
    """
    Return a table's columns and rows, without a last row that is not written to its end.

    A damaged row raises RunLogError, or, with `until_damaged`, ends the table.
    """
    if not path.exists():
        return [], []
    whole, newline, _ = path.read_bytes().rpartition(b'\n')
    text = (whole + newline).decode('utf-8', errors='replace').replace('\0', '?')
    reader = csv.DictReader(io.StringIO(text, newline=''), restkey='', restval=None)
    rows = list(reader)
    names = list(reader.fieldnames or [])
    for i, row in enumerate(rows):
        if None in row.values() or '' in row or not row.get('step', '').isdecimal():
            if until_damaged:
                return names, rows[:i]
            raise RunLogError(f'{path}: damaged: expected a step and a value for each of '
                              f'{", ".join(names)}, got {list(row.values())}')
    return names, rows


def _number(path: Path, row: Mapping[str, str], name: str) -> float:
    try:
        return float(row.get(name) or 'nan')
    except ValueError:
        raise RunLogError(f'{path}: damaged: {name} at step {row["step"]}: expected a number, '
                          f'got {row[name]!r}') from None


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


def _append(path: Path, rows: Sequence[Mapping]) -> None:
    """Add rows; a table that lacks some of their columns, such as an older one, gets them."""
    names = _header(path)
    if set(rows[0]) <= set(names):
        with path.open('a', newline='', encoding='utf-8') as file:
            csv.DictWriter(file, names, restval='').writerows(rows)
    else:
        _, old = _read(path)
        _write(path, list(dict.fromkeys([*rows[0], *names])), [*old, *rows])


def _truncate(path: Path, first: int) -> None:
    """
    Keep a table's rows up to step `first`; remove it if there are none.

    Those after a damaged row, which a power cut may leave, go with it.
    """
    names, rows = _read(path, until_damaged=True)
    kept = [row for row in rows if int(row['step']) <= first]
    if kept:
        _write(path, names, kept)
    else:
        path.unlink(missing_ok=True)
