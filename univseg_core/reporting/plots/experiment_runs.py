"""An experiment's NAME_runs.csv → what each of its runs came to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math
from pathlib import Path

from univseg_core.errors import did_you_mean
from univseg_core.files.records import read_rows, RecordError
from univseg_core.reporting.plots.drawing import FigureError

KEYS = ('labelled', 'seed', 'variant')
MIOU = 'miou/'
"""What the columns of mIoUs begin with, one a domain."""


@dataclass(frozen=True)
class ExperimentRun:
    """
    One run of an experiment, or those of one network a domain together.

    `labelled` (N) and `seed` are as the file has them, `seconds` is what the run's own steps took
    (NaN where that is not known), and `mious` are those of the domains in percent, in the file's
    order.
    """

    labelled: str
    seed: str
    variant: str
    seconds: float
    mious: tuple[float, ...]

    @property
    def miou(self) -> float:
        """Return the sum of the domains' mIoUs."""
        return sum(self.mious)


def load_experiment_runs(path: Path, variants: Sequence[str] = (), *, timed: bool = True
                         ) -> tuple[list[ExperimentRun], list[str]]:
    """
    Read an experiment's NAME_runs.csv; return its runs and its domains.

    Left out are runs of which the mIoU of a domain is not known or, where they are to be `timed`,
    the time. `variants` chooses some. Raises FigureError, which names the file, the run and what
    was expected.
    """
    try:
        columns, rows = read_rows(path, strict=True)
    except (OSError, RecordError) as error:
        raise FigureError(f'{path}: cannot be read as CSV: {error}') from error
    domains = [name.removeprefix(MIOU) for name in columns if name.startswith(MIOU)]
    if not domains or not {*KEYS, 'seconds'} <= set(columns):
        raise FigureError(f"{path}: expected an experiment's NAME_runs.csv, with the columns "
                          f'{", ".join(KEYS)}, seconds and {MIOU}DOMAIN of a finished run; it '
                          f'has {", ".join(columns) or "none"}')
    runs: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for number, row in enumerate(rows, 2):
        key = tuple(row[name] for name in KEYS)
        if not all(key):
            raise FigureError(f'{path}: row {number}: expected {", ".join(KEYS)} in each row')
        if None in row.values() or '' in row:
            raise FigureError(f'{path}: row {number}: expected {len(columns)} cells, as the first '
                              'row has')
        runs.setdefault(key, []).append(row)
    found = [_run(path, key, parts, domains) for key, parts in runs.items()
             if not variants or key[2] in variants]
    known = [run for run in found if run and not (timed and math.isnan(run.seconds))]
    there = {run.variant for run in known}
    absent = [name for name in variants if name not in there]
    if absent or not known:
        of = question = ''
        if absent:
            of = f' of {absent[0]}'
            question = did_you_mean(absent[0], {key[2] for key in runs} - {absent[0]})
        raise FigureError(f'{path}: no run{of} has {"a time and " if timed else ""}the mIoU of '
                          f'each domain ({", ".join(domains)}){question}')
    return known, domains


def _run(path: Path, key: tuple[str, ...], parts: Sequence[Mapping[str, str]],
         domains: Sequence[str]) -> ExperimentRun | None:
    """Return a run from its rows, one or one for each domain; None if not all of it is known."""
    labelled, seed, variant = key

    def numbers(column: str) -> list[float]:
        values = []
        for text in filter(None, (part[column] for part in parts)):
            try:
                values.append(float(text))
            except ValueError:
                values.append(math.nan)
            if not 0 <= values[-1] < math.inf:
                raise FigureError(f'{path}: {column} of {variant}, N = {labelled}, seed {seed}: '
                                  f'expected a number, 0 or more, got {text!r}')
        return values

    seconds, mious = numbers('seconds'), [numbers(MIOU + name) for name in domains]
    if len(parts) > 1 and any(len(each) > 1 for each in mious):
        raise FigureError(f'{path}: {variant}, N = {labelled}, seed {seed} is there twice')
    if not all(mious):
        return None
    return ExperimentRun(labelled, seed, variant,
                         sum(seconds) if len(seconds) == len(parts) else math.nan,
                         tuple(each[0] for each in mious))
