"""What a run's folder tells, and what its model makes of the validation images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
import logging
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from univseg_core.batches.dataset import load_validation
from univseg_core.batches.labelled_images import class_pixels, run_samples
from univseg_core.batches.splits import other_validation, read_splits, SPLITS, Splits
from univseg_core.datasets.folders import spread
from univseg_core.domains import Domain
from univseg_core.errors import in_one_line, UnivsegError
from univseg_core.files.records import read_json
from univseg_core.inference.segmenter import load_network, Segmenter
from univseg_core.measuring.evaluation import DomainResult, read_confusions
from univseg_core.models.exported_file import ExportedModel
from univseg_core.reporting.description import describe
from univseg_core.reporting.html.findings import find, Findings
from univseg_core.reporting.html.speeds import read_speeds, Speed
from univseg_core.reporting.run_tables import read_losses, read_validation, Validation
from univseg_core.settings.config import load_config, RunConfig
from univseg_core.settings.explanation import beside_defaults, Setting

MODELS = ('model.univseg', 'best.univseg')
"""The models of a run folder: the first that is there is reported."""

MOST_LABELS = 300
"""Label maps of a domain at most that class frequencies are counted in."""

Thing = TypeVar('Thing')

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frequencies:
    """How often a domain's classes occur in labels: pixels (C,) int64, in how many images."""

    pixels: np.ndarray
    images: int


@dataclass
class RunFacts:
    """
    What is known of a run; what is not is empty, and `notices` say why.

    `description` is that of `describe`, `model` the name of the model file that was looked at,
    `counts` the images by domain and part, `frequencies` those of the labelled images by domain,
    `evaluation` the values of evaluation.json, `before` the confusion matrices of the model that
    the run started from.
    """

    name: str
    path: Path
    description: dict[str, Any]
    columns: dict[str, np.ndarray]
    validations: list[Validation]
    settings: list[Setting]
    speeds: list[Speed]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    domains: dict[str, Domain] = field(default_factory=dict)
    frequencies: dict[str, Frequencies] = field(default_factory=dict)
    model: str = ''
    segmenter: Segmenter | None = None
    findings: Findings | None = None
    before: dict[str, DomainResult] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def notice(self, text: object) -> None:
        """Note, in the report and in the log, what could not be told of the run."""
        sentence = ' '.join(in_one_line(str(text).replace('\n', ' ')).split())
        self.notices.append(sentence)
        log.warning('%s: %s', self.name, sentence)


def gather(path: Path, name: str, device: str = 'auto', precision: str = 'auto',
           backend: str = 'auto') -> RunFacts:
    """
    Return what there is to tell of a run folder, whose run may not be finished.

    `device`, `precision` and `backend` are as for Segmenter; a model file's own precision is
    fp32. What is missing, damaged or of another version is noted and left out.
    Raises UnivsegError for what is no run folder, whose log is damaged, or a device, precision or
    backend that there is not.
    """
    description = describe(path)
    speeds, problems = read_speeds(path)
    facts = RunFacts(name, path, description, read_losses(path), read_validation(path),
                     beside_defaults(description['settings']), speeds)
    for problem in problems:
        facts.notice(problem)
    progress = description['progress']
    if not progress['finished']:
        of = f' of {progress["steps"]}' if progress['steps'] else ''
        facts.notice(f'this run is not finished: step {progress["step"]}{of}')
    splits: Splits = _noting(facts, {}, partial(read_splits, path / SPLITS))
    facts.counts = _noting(facts, {}, partial(_counts, splits))
    facts.evaluation = _noting(facts, {}, partial(_evaluation, path))
    config = _noting(facts, None, partial(load_config, path / 'config.yaml', files_needed=False))
    if config:
        facts.domains = _noting(facts, {}, partial(_domains, config))
    else:  # of another version, say: what it was measured by names them, too
        facts.domains = {name: Domain.create(name, list(of['iou']))
                         for name, of in facts.evaluation.items()}
    facts.before = _noting(facts, {}, partial(_before, path, facts.domains))
    for key, domain in facts.domains.items():
        if config and key in facts.counts:
            found = _noting(facts, None, partial(_frequencies, path, domain))
            if found:
                facts.frequencies[key] = found
    if config:
        _look(facts, config, splits, device, precision, backend)
    return facts


def _noting(facts: RunFacts, otherwise: Thing, read: Callable[[], Thing]) -> Thing:
    """Return what is read, or else something else, and note why."""
    try:
        return read()
    except (UnivsegError, OSError) as error:
        facts.notice(error)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        facts.notice(f'{facts.path}: damaged, or of another version ({error!r})')
    return otherwise


def _look(facts: RunFacts, config: RunConfig, splits: Splits, device: str, precision: str,
          backend: str) -> None:
    """Find what a run's model makes of its validation images."""
    names = [name for name in MODELS if (facts.path / name).is_file()]
    if not names:
        facts.notice(f'there is no {" or ".join(MODELS)} yet: nothing is told by images')
        return
    loaded = _noting(facts, None, partial(load_network, facts.path / names[0]))
    if loaded is None:
        return
    facts.model = names[0]
    if precision == 'auto' and not isinstance(loaded[0], ExportedModel):
        precision = 'fp32'
    segmenter = Segmenter(*loaded, device=device, precision=precision, backend=backend)
    facts.domains |= segmenter.domains
    samples = _noting(facts, None, partial(load_validation, config, segmenter.domains, splits))
    if samples:
        for name, those in samples.items():
            if other := _noting(facts, '', partial(other_validation, name, those, splits)):
                facts.notice(other)
        facts.segmenter = segmenter
        facts.findings = _noting(facts, None, partial(find, segmenter, samples, facts.name))


def _counts(splits: Splits) -> dict[str, dict[str, int]]:
    return {name: {part: len(there['images']) for part, there in parts.items()}
            for name, parts in splits.items()}


def _evaluation(path: Path) -> dict[str, Any]:
    file = path / 'evaluation.json'
    if not file.is_file():
        return {}
    values = read_json(file)
    for name, of in values.items():
        Domain.create(name, list(of['iou']))
        for share in (of['miou'], *of['iou'].values()):
            if not (share is None or 0 <= share <= 1):
                raise UnivsegError(f'{file}: damaged: expected IoUs in 0..1, got {share!r}')
    return values


def _domains(config: RunConfig) -> dict[str, Domain]:
    return {name: config.domain(name) for name in config.domains}


def _before(path: Path, domains: Mapping[str, Domain]) -> dict[str, DomainResult]:
    """Return how good the model was that a run starts from; nothing where it started anew."""
    file = path / 'before.json'
    return read_confusions(file, domains) if file.is_file() else {}


def _frequencies(path: Path, domain: Domain) -> Frequencies:
    samples = spread(run_samples(path, domain.name), MOST_LABELS)
    return Frequencies(class_pixels(samples, domain), len(samples))


def iou_of(facts: RunFacts, name: str) -> tuple[Sequence[float], float] | None:
    """
    Return a domain's IoU by class and mIoU, 0..1, NaN where absent; None where nothing tells.

    They are what was found now, or else what the run's evaluation or last validation says.
    """
    classes = facts.domains[name].classes
    if facts.findings and name in facts.findings.domains:
        result = facts.findings.domains[name].result
        return result.iou.tolist(), result.miou
    if of := facts.evaluation.get(name):
        return [_value(of['iou'].get(each)) for each in classes], _value(of['miou'])
    last = facts.validations[-1] if facts.validations else None
    if last and len(last.iou.get(name, [])) == len(classes):
        return last.iou[name], last.miou[name]
    return None


def _value(share: float | None) -> float:
    return float('nan') if share is None else float(share)
