"""What a training leaves to read: log.csv and validation.csv in its folder."""

from collections.abc import Mapping
import csv
from pathlib import Path
import time

from univseg_core.evaluation import DomainResult
from univseg_core.files import replacing

LOG_EVERY = 10
"""Steps over which a row's values are averaged."""


class RunLog:
    """
    Rows of CSV, appended as the training goes.

    A training that goes on from step `first` keeps the rows up to there and drops later ones,
    which it writes again.
    """

    def __init__(self, folder: Path, first: int):
        self._losses = folder / 'log.csv'
        self._validation = folder / 'validation.csv'
        folder.mkdir(parents=True, exist_ok=True)
        for path in (self._losses, self._validation):
            _truncate(path, first)
        self._sums: dict[str, float] = {}
        self._count = 0
        self._started = time.monotonic()

    def losses(self, step: int, values: Mapping[str, float]) -> dict[str, float] | None:
        """Add one step's values; return the means when a row is due, otherwise None."""
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._count += 1
        if step % LOG_EVERY:
            return None
        means = {key: value / self._count for key, value in self._sums.items()}
        seconds = (time.monotonic() - self._started) / self._count
        _append(self._losses, [{'step': step, **means, 'seconds_per_step': seconds}])
        self._sums, self._count, self._started = {}, 0, time.monotonic()
        return means

    def validation(self, step: int, results: Mapping[str, DomainResult]) -> None:
        """Add a row for each domain: its mIoU and class-wise IoU, 0..1."""
        _truncate(self._validation, step - 1)  # a finished run that is started again
        _append(self._validation, [
            {'step': step, 'domain': name, 'miou': result.miou,
             'iou': ' '.join(f'{value:.4f}' for value in result.iou)}
            for name, result in results.items()])
        self._started = time.monotonic()


def _append(path: Path, rows: list[dict]) -> None:
    is_new = not path.exists()
    with path.open('a', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def _truncate(path: Path, first: int) -> None:
    if not path.exists():
        return
    with path.open(newline='', encoding='utf-8') as file:
        rows = [row for row in csv.DictReader(file) if int(row['step']) <= first]
    if not rows:
        path.unlink()
        return
    with replacing(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
