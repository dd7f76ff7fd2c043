"""What a training writes as it goes: rows of log.csv and validation.csv, TensorBoard, others."""

from collections.abc import Mapping
import math
from pathlib import Path
import time
from typing import TYPE_CHECKING
import weakref

import numpy as np
from univseg_core.method.losses import LOSSES
from univseg_core.reporting.run_loggers import RunLoggers
from univseg_core.reporting.run_tables import (
    append_rows,
    keep_rows,
    LOSSES_FILE,
    read_validation,
    Validation,
    VALIDATION_FILE,
)

if TYPE_CHECKING:  # their packages are the training's
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


class RunLog:
    """
    Rows of CSV, and TensorBoard's events in `folder`/tensorboard, appended as the training goes.

    A training that goes on from step `first` keeps what was written up to there and drops what
    came later, which it writes again. `loggers` get what TensorBoard has as scalars.
    """

    def __init__(self, folder: Path, first: int, loggers: RunLoggers | None = None):
        self._folder, self._first = folder, first
        self._loggers = loggers or RunLoggers((), folder, {})
        self._losses, self._validation = folder / LOSSES_FILE, folder / VALIDATION_FILE
        folder.mkdir(parents=True, exist_ok=True)
        for path in (self._losses, self._validation):
            keep_rows(path, first)
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
        on validation and on logging does not count.
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
        append_rows(self._losses, [{'step': step, **row}])
        self._scalars(step, {tag(key): value for key, value in row.items()})
        self._values, self._seconds = {}, []
        self._lap()
        return means

    def validation(self, step: int, results: 'Mapping[str, DomainResult]') -> bool:
        """
        Add a row for each domain: mIoU of its head and label embeddings, class-wise IoU, 0..1.

        The column of label embeddings is `prototype_miou`. Returns whether no earlier step has as
        large a sum of mIoUs, in which NaN counts as 0.
        """
        keep_rows(self._validation, step - 1)  # a finished run that is started again
        earlier = read_validation(self._folder)
        append_rows(self._validation, [
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
            for name, result in results.items():
                self._entropies(step, name, result)
        self._lap()
        return all(now.total > validation.total for validation in earlier)

    def pictures(self, step: int, name: str, panel: np.ndarray) -> None:
        """Show a domain's panel of predictions, (H, W, 3) uint8 RGB, in TensorBoard."""
        if step not in self._shown:
            self._tensorboard().add_image(f'predictions/{name}', panel, step, dataformats='HWC')
        self._lap()

    def close(self) -> None:
        """Write what TensorBoard's writer still holds; tell the loggers that the run is over."""
        if self._writer is not None:
            self._writer.close()
        self._loggers.close()

    def _lap(self) -> float:
        """Return the seconds since the last call."""
        before, self._since = self._since, time.monotonic()
        return self._since - before

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        for name, value in known.items():
            self._tensorboard().add_scalar(name, value, step)
        self._loggers.scalars(step, known)

    def _entropies(self, step: int, name: str, result: 'DomainResult') -> None:
        """Show how many cells of a domain's predictions have which entropy, in nats."""
        counts, largest = result.entropy, math.log(len(result.domain.classes))
        if counts is None or not counts.any() or not largest:  # one class is never in doubt
            return
        edges = np.linspace(0, largest, len(counts) + 1)
        middles = (edges[1:] + edges[:-1]) / 2
        filled = np.flatnonzero(counts)
        self._tensorboard().add_histogram_raw(
            f'prediction_entropy/{name}', edges[filled[0]], edges[filled[-1] + 1], counts.sum(),
            counts @ middles, counts @ middles ** 2, edges[1:], counts, step)

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
