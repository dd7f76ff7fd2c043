"""A report's file: the page, filled with what its sections show."""

import base64
from collections.abc import Sequence
from datetime import datetime
import hashlib
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
import numpy as np
from univseg_core.errors import in_one_line, UnivsegError
from univseg_core.files import replacing
from univseg_core.measuring.finished_runs import run_names
from univseg_core.reporting.description import describe
from univseg_core.reporting.html.facts import gather, RunFacts
from univseg_core.reporting.html.sections import sections

DOCTYPE = b'<!doctype html'
"""How a file begins that a report may replace, in either case."""


def write_report(paths: Sequence[Path], out: Path, **running: str) -> list[RunFacts]:
    """
    Write a report of run folders, whole or not at all; return what it is made of.

    `running` is how models run, as for `gather`. Raises as `gather` does, UnivsegError where two
    runs have a domain of the same name with other classes, or `out` is there and no HTML page;
    OSError where it cannot be written.
    """
    if out.is_dir():
        raise UnivsegError(f'{out}: a folder; expected a name for the report, such as '
                           f'{out / "report.html"}')
    if out.exists() and not _is_page(out):
        raise UnivsegError(f'{out}: something else than an older report, which would be lost; '
                           'name another file with --out')
    for path in paths:
        if not path.is_dir():
            raise UnivsegError(f'{path}: expected the folder of a run')
        describe(path)
    # Begun now, so that a place that cannot be written to is told before minutes of measuring.
    with replacing(out) as temporary:
        names = [in_one_line(name) for name in run_names(paths)]
        runs = [gather(path, name, **running) for path, name in zip(paths, names, strict=True)]
        _check_label_spaces(runs)
        # Half of a character of two, which a text of JSON may have, is in no encoding.
        temporary.write_bytes(render(runs).encode(errors='backslashreplace'))
    return runs


def _is_page(path: Path) -> bool:
    if not path.is_file():  # a pipe, which would be waited for
        return False
    with path.open('rb') as file:
        return file.read(len(DOCTYPE)).lower() == DOCTYPE


def render(runs: Sequence[RunFacts]) -> str:
    """Return the page of some runs."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True,
                              loader=PackageLoader('univseg_core.reporting.html'))
    environment.filters.update(percent=percent, points=points, span=span, printable=in_one_line)
    environment.tests['number'] = lambda value: value is not None and not np.isnan(value)
    script = _source(environment, 'report.js')
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template('report.html').render(
        **sections(runs), style=_source(environment, 'report.css'), script=script,
        script_hash=digest, version=version('univseg_ros'), made=datetime.now().astimezone())


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share, 0..1, in percent; a dash where there is none."""
    return '–' if share is None or np.isnan(share) else f'{100 * share:.{digits}f}'


def points(change: float) -> str:
    """Return a change of a share in percentage points, with its sign."""
    return '–' if np.isnan(change) else f'{100 * change:+.1f}'.replace('-', '−')


def span(seconds: float | None) -> str:
    """Return a time in words."""
    if seconds is None:
        return '–'
    minutes, hours = seconds / 60, seconds / 3600
    return (f'{hours:.1f} h' if hours >= 1 else f'{minutes:.1f} min' if minutes >= 1 else
            f'{seconds:.2g} s')


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _check_label_spaces(runs: Sequence[RunFacts]) -> None:
    for one, other in combinations(runs, 2):
        for name in one.domains.keys() & other.domains.keys():
            if one.domains[name].classes != other.domains[name].classes:
                raise UnivsegError(
                    f'{one.name} and {other.name} both have a domain {name}, but of different '
                    f'classes: {", ".join(one.domains[name].classes)} and '
                    f'{", ".join(other.domains[name].classes)}')
