"""Finished runs: their models, and the validation images to measure or draw them with."""

from collections.abc import Sequence
from dataclasses import dataclass
import logging
import os
from pathlib import Path

from univseg_core.batches.dataset import load_validation
from univseg_core.batches.splits import other_validation, splits_beside
from univseg_core.datasets.folders import Sample
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.inference.model_names import model_file, RUN_MODEL
from univseg_core.inference.segmenter import load_network, Segmenter
from univseg_core.models.exported_file import ExportedModel
from univseg_core.settings.config import load_config

log = logging.getLogger(__name__)


class FinishedRunError(UnivsegError):
    """A path that is no finished run, or runs that cannot be compared."""


@dataclass(frozen=True)
class FinishedRun:
    """A run's name beside others, its model, and the validation samples of its domains by name."""

    name: str
    segmenter: Segmenter
    samples: dict[str, list[Sample]]

    @property
    def domains(self) -> dict[str, Domain]:
        """Return the domains that have validation images, by name."""
        return {name: self.segmenter.domains[name] for name in self.samples}


def load_runs(paths: Sequence[Path], config: str | None = None,
              device: str = 'auto', precision: str = 'auto', backend: str = 'auto'
              ) -> list[FinishedRun]:
    """
    Load finished runs: run folders, or model files, or demo, with a configuration.

    A configuration that is named says where the validation images are; otherwise that of the
    run folder does. A splits.json beside it says which ones a run has set aside; a warning tells
    where they are others than it had. `device`, `precision` and `backend` are as for Segmenter,
    but for the precision auto of a model file: it is fp32, so that results do not depend on the
    machine.

    Raises FinishedRunError where a path is neither, or two runs have a domain of the same name
    with other classes; UnivsegError where a run is not finished; and as Segmenter does.
    """
    runs = []
    for path, name in zip(paths, run_names(paths), strict=True):
        model, source = model_file(path, backend), config
        if model == path / RUN_MODEL:
            source = config or str(path / 'config.yaml')
        elif not model.is_file():
            raise FinishedRunError(f'{path}: no such run folder or model file')
        if source is None:
            raise FinishedRunError(f'{path}: a model file alone does not say where the validation '
                                   'images are: name a configuration with --config')
        network, card = load_network(model)
        computed_in = ('fp32' if precision == 'auto' and not isinstance(network, ExportedModel)
                       else precision)
        segmenter = Segmenter(network, card, device=device, precision=computed_in,
                              backend=backend)
        settings = load_config(source, files_needed=False)
        begun = splits_beside(source)
        samples = load_validation(settings, segmenter.domains, begun)
        for domain, those in samples.items():
            if other := other_validation(domain, those, begun):
                log.warning('%s: %s', name, other)
        runs.append(FinishedRun(name, segmenter, samples))
    _check_label_spaces(runs)
    return runs


def run_names(paths: Sequence[Path]) -> list[str]:
    """
    Return the names of run folders or model files: their paths below the folder of them all.

    runs/basic and runs/finetune/yard become basic and finetune/yard; RUN/model.univseg is called
    as RUN is. The same path twice keeps its name.
    """
    parts = [_parts(path.resolve()) for path in paths]
    common = Path(os.path.commonpath([Path(*each[:-1]) for each in parts]))
    return [str(Path(*each).relative_to(common)) for each in parts]


def _parts(path: Path) -> tuple[str, ...]:
    if path.name == RUN_MODEL:
        path = path.parent
    return path.with_suffix('').parts if path.is_file() else path.parts


def _check_label_spaces(runs: Sequence[FinishedRun]) -> None:
    first: dict[str, FinishedRun] = {}
    for run in runs:
        for name, domain in run.domains.items():
            other = first.setdefault(name, run)
            if other.domains[name].classes != domain.classes:
                raise FinishedRunError(
                    f'{run.name} and {other.name} both have a domain {name}, but of different '
                    f'classes: {", ".join(domain.classes)} and '
                    f'{", ".join(other.domains[name].classes)}')
