"""A run's settings and figures for W&B and MLflow, too, by Lightning's loggers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
import io
import json
import logging
import os
from pathlib import Path
import sys
from typing import Any

from univseg_core.errors import in_one_line, shortened, UnivsegError
from univseg_core.files import write_text
from univseg_core.files.records import read_json

SETTING = 'training.loggers'

IDS = 'loggers.json'
"""In a run's folder: by which id each tool knows the run, so that it goes on there."""

PROJECT = 'univseg'
"""Where the tools have a run if their own environment variables do not say."""

LIGHTNING = ('pytorch_lightning', "'pytorch-lightning>=2.6.6,<2.7'")
"""What has the loggers, and what pip calls it: of the version of Fabric, which it brings along."""

log = logging.getLogger(__name__)


class LoggerError(UnivsegError):
    """A logger whose packages are not installed."""


@dataclass(frozen=True)
class Tool:
    """
    What compares runs: its name, its package, and its logger of Lightning's.

    `begin` takes a run's folder and the id that the tool has given it before, or None; `end` the
    logger, when the run is over.
    """

    title: str
    package: str
    begin: Callable[[Path, str | None], Any]
    end: Callable[[Any], None]


# Nothing leaves the machine unasked, nor what the tools would tell their makers of how they fare.

def _wandb(folder: Path, known: str | None) -> Any:
    os.environ.setdefault('WANDB_ERROR_REPORTING', 'false')
    from pytorch_lightning.loggers import WandbLogger
    return WandbLogger(
        str(folder), id=known, save_dir=os.environ.get('WANDB_DIR') or folder,
        project=os.environ.get('WANDB_PROJECT') or PROJECT,
        mode=os.environ.get('WANDB_MODE') or 'offline')


def _mlflow(folder: Path, known: str | None) -> Any:
    os.environ.setdefault('MLFLOW_DISABLE_TELEMETRY', 'true')
    import mlflow
    from pytorch_lightning.loggers import MLFlowLogger
    return MLFlowLogger(os.environ.get('MLFLOW_EXPERIMENT_NAME') or PROJECT, str(folder),
                        mlflow.get_tracking_uri(), run_id=known)


TOOLS = {
    'wandb': Tool('W&B', 'wandb', _wandb, lambda logger: logger.experiment.finish()),
    'mlflow': Tool('MLflow', 'mlflow', _mlflow, lambda logger: logger.finalize('success')),
}
"""The tools by the names that the setting gives them."""


def check_loggers(names: Sequence[str]) -> None:
    """Raise LoggerError, which says how to get it, where a package is missing."""
    for name in names:
        packages = dict([LIGHTNING, (TOOLS[name].package,) * 2])
        if missing := [each for each in packages if find_spec(each) is None]:
            raise LoggerError(
                f'{SETTING}: {name} needs {" and ".join(missing)}, not installed for '
                f'{sys.executable}: pip install {" ".join(packages[each] for each in missing)}, '
                f'or leave {name} out')


@contextmanager
def _nobody_to_ask() -> Iterator[None]:
    """Have standard input be no terminal: W&B would wait there for a key, in mid-training."""
    before, sys.stdin = sys.stdin, io.StringIO()
    try:
        yield
    finally:
        sys.stdin = before


class RunLoggers:
    """
    The loggers of a run in `folder` that are named, which get its `settings` and then its figures.

    They begin with the first figures, which come when the processes that make batches have begun:
    they have threads. One that fails is told once, and gets nothing more of this process: a
    training is worth more than its figures elsewhere.
    """

    def __init__(self, names: Sequence[str], folder: Path, settings: Mapping[str, Any]):
        self._folder, self._settings = folder, settings
        self._loggers: dict[str, Any] = dict.fromkeys(names)  # None: it has not begun

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log figures by name."""
        figures = {key.replace('→', '-'): value for key, value in values.items()}  # for MLflow

        def write(name: str) -> None:
            if self._loggers[name] is None:
                self._loggers[name] = self._begun(name)
            self._loggers[name].log_metrics(figures, step)

        self._each(write)

    def close(self) -> None:
        """Tell the loggers that the run is over."""
        def end(name: str) -> None:
            if self._loggers[name] is not None:
                TOOLS[name].end(self._loggers[name])

        self._each(end)

    def _each(self, act: Callable[[str], None]) -> None:
        """Act on each logger; leave out those that fail."""
        for name in list(self._loggers):
            try:
                with _nobody_to_ask():
                    act(name)
            except Exception as error:  # whatever a tool, its network or its disk may raise
                del self._loggers[name]
                log.warning('%s: %s gets nothing more, and the training goes on: %s', SETTING,
                            TOOLS[name].title, shortened(in_one_line(str(error) or repr(error))))

    def _begun(self, name: str) -> Any:
        """Return a logger that goes on where this run was, or that has its settings."""
        path = self._folder / IDS
        known = read_json(path) if path.is_file() else {}
        logger = TOOLS[name].begin(self._folder, known.get(name))
        if name not in known:
            logger.log_hyperparams(dict(self._settings))
            write_text(path, json.dumps({**known, name: logger.version}, indent=1) + '\n')
        return logger
