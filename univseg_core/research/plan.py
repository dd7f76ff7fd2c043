"""An experiment → the trainings that it takes, in an order in which each has what it needs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
import re
from typing import Any

from univseg_core.batches.dataset import load_data
from univseg_core.errors import did_you_mean, UnivsegError
from univseg_core.reporting.description import describe
from univseg_core.research.settings import Experiment, Labelled, merged, StepsKey
from univseg_core.research.variants import STARTS, SUPERVISED_ONLY, Variant, VARIANTS
from univseg_core.settings.config import RunConfig
from univseg_core.settings.file import checked, ConfigError, read_settings
from univseg_core.training.run_settings import differing_settings

NOT_THE_PAPERS = {'consistency': 0, 'class_balance': 0}
"""What a variant has only where it says so, whatever the base has."""


class ExperimentError(UnivsegError):
    """An experiment that cannot go on; the message names the run folder and the reason."""


@dataclass(frozen=True)
class Run:
    """
    One training of an experiment.

    `config` has the plain values of its whole configuration, as its config.yaml will hold them;
    `needs` names the run folders whose models it begins with, or is taught by.
    """

    folder: Path
    config: Mapping[str, Any] = field(compare=False, repr=False)
    needs: tuple[Path, ...] = ()

    @property
    def config_file(self) -> Path:
        """Return where its configuration is written for it, beside its folder."""
        return self.folder.with_name(f'{self.folder.name}.yaml')

    @property
    def seed_folder(self) -> Path:
        """Return the folder of all runs of its N and seed."""
        return next(path for path in self.folder.parents if re.fullmatch(r'seed\d+', path.name))

    @property
    def steps(self) -> int:
        """Return how many steps it takes."""
        return self.config['training']['steps']

    @property
    def is_finished(self) -> bool:
        """Return whether its model and evaluation are there."""
        return is_finished(self.folder)


def is_finished(folder: Path) -> bool:
    """Return whether a run folder's model and evaluation are there."""
    return all((folder / name).is_file() for name in ('model.univseg', 'evaluation.json'))


def folder_of(root: Path, labelled: int | str, seed: int, variant: str,
              domain: str | None = None) -> Path:
    """Return a run's folder below the experiment's; `domain` is of a variant of one alone."""
    parts = [f'n{labelled}' if labelled != 'all' else 'all', f'seed{seed}', variant]
    return root.joinpath(*parts, *filter(None, [domain]))


def plan(experiment: Experiment, root: Path, only: Sequence[str] = (), *,
         check_data: bool = True) -> list[Run]:
    """
    Return the runs of an experiment in the folder `root`, each after those that it needs.

    `only` some of its variants, with what they need. Raises ConfigError for settings that cannot
    be used and, with `check_data`, DataError where a domain has fewer labelled images than the
    largest N.
    """
    section = experiment.section
    if unknown := [name for name in only if name not in section.variants]:
        raise ExperimentError(f'{experiment.source}: has no variant {unknown[0]}; it has '
                              f'{", ".join(section.variants)}'
                              f'{did_you_mean(unknown[0], section.variants)}')
    asked = [VARIANTS[name] for name in only or section.variants]
    begun_with = {name for other in asked for name in (other.goes_on_from, other.taught_by)}
    variants = [variant for variant in VARIANTS.values() if variant in asked or (
        variant is SUPERVISED_ONLY and any(other.supervised_only for other in asked))
        or variant.name in begun_with]
    if check_data:
        _check_data(experiment, variants)
    return [run for labelled in section.labelled for seed in section.seeds
            for variant in variants
            for run in _runs(experiment, root, variant, labelled, seed)]


def _check_data(experiment: Experiment, variants: Iterable[Variant]) -> None:
    """
    Raise before anything runs what the runs would raise.

    So are settings, folders, a largest N of which there are too few images, and unlabelled images
    that are missing where variants learn from them.
    """
    numbers = [number for number in experiment.section.labelled if number != 'all']
    unlabelled = any(variant.needs_unlabelled for variant in variants)
    values = merged(experiment.values, {'objective': NOT_THE_PAPERS | {
        'alpha': 0, 'beta': int(unlabelled)}})
    config = _checked(experiment, _with_labelled(values, max(numbers, default=None)))
    given = config.label_embeddings
    if given.file or given.networks or given.basis not in (None, 'per_domain'):
        raise ConfigError(f'{experiment.base}: label_embeddings: file, networks and basis are '
                          "the variants' to set; the base has one of them")
    load_data(config)


def _checked(experiment: Experiment, values: dict[str, Any]) -> RunConfig:
    return checked(RunConfig, values, experiment.base)


def _with_labelled(values: Mapping[str, Any], labelled: int | None) -> dict[str, Any]:
    return merged(values, {'domains': {name: {'labelled': labelled}
                                       for name in values['domains']}})


def _runs(experiment: Experiment, root: Path, variant: Variant, labelled: Labelled,
          seed: int) -> Iterable[Run]:
    """Yield one variant's runs: one of all domains, or one for each."""
    values, names = _values(experiment, variant, labelled, seed), experiment.domains
    supervised = {name: folder_of(root, labelled, seed, SUPERVISED_ONLY.name, name)
                  for name in names}
    for i, name in enumerate(names if variant.alone else [None]):
        domains = values['domains'] if name is None else {name: values['domains'][name]}
        config = _checked(experiment, values | {'domains': domains}).model_dump(mode='json')
        needs: tuple[Path, ...] = ()
        if variant.supervised_only == 'networks':
            needs = tuple(supervised.values())
            config['label_embeddings']['networks'] = {
                name: _model_of(folder) for name, folder in supervised.items()}
        elif variant.supervised_only == 'start':
            needs = (supervised[names[i - 1]],)
        elif variant.goes_on_from:
            needs = (folder_of(root, labelled, seed, variant.goes_on_from),)
        if needs and variant.supervised_only != 'networks':
            config['model']['start'] = _model_of(needs[0])
        if variant.taught_by:
            teacher = folder_of(root, labelled, seed, variant.taught_by)
            config['objective']['distillation']['teacher'] = _model_of(teacher)
            needs += (teacher,)
        yield Run(folder_of(root, labelled, seed, variant.name, name), config, needs)


def _values(experiment: Experiment, variant: Variant, labelled: Labelled,
            seed: int) -> dict[str, Any]:
    """
    Return the plain values of the configuration that a variant's runs share.

    Raises ConfigError where the experiment's base cannot be trained in this way.
    """
    values = _with_labelled(experiment.values, None if labelled == 'all' else labelled)
    # What is compared are masks, of which a place that is recognised changes none.
    values = merged(values, {'training': {'seed': seed, 'recognise': False}})
    if variant.entropies:
        values = merged({'objective': {'alpha': 1, 'beta': 1}}, values)
    else:
        values |= {'objective': {'alpha': 0, 'beta': 0, 'warmup_steps': 0}, 'label_embeddings': {}}
    values = merged(merged(values, {'objective': NOT_THE_PAPERS}), variant.changes)
    weights = values['objective']
    if variant.entropies and not (weights['alpha'] or weights['beta']):
        raise ConfigError(f'{experiment.base}: objective.alpha and .beta: {variant.name} has the '
                          'entropies that they weigh; expected one above 0, or neither named')
    names = experiment.domains
    crosses_alone = variant.entropies and not weights['beta']
    if len(names) == 1 and (variant.supervised_only == 'start' or crosses_alone):
        why = ': objective.beta, of what one domain learns within itself, is 0'
        raise ConfigError(f'{experiment.source}: {variant.name} needs two domains or more, the '
                          f'base has {names[0]} alone{why if crosses_alone else ""}')
    if variant.steps != 1 or variant.rate != 1:
        usual = _checked(experiment, values).training
        values = merged(values, {'training': {
            'steps': round(variant.steps * usual.steps),
            'learning_rate': variant.rate * usual.learning_rate}})
    keys: dict[StepsKey, bool] = {'single_domain_steps': variant.alone,
                                  'start_steps': variant.name in STARTS}
    for key, applies in keys.items():
        if applies and (steps := experiment.steps(key, labelled)) is not None:
            values = merged(values, {'training': {'steps': steps}})
    return values


def _model_of(folder: Path) -> str:
    return str((folder / 'model.univseg').resolve())


def check_settings(runs: Sequence[Run]) -> None:
    """Raise ExperimentError where a run folder holds a run of other settings, naming all."""
    problems = []
    for run in runs:
        path = run.folder / 'config.yaml'
        if not path.exists():
            continue
        try:
            _, there = read_settings(path, 'train')
        except ConfigError as error:
            raise ExperimentError(str(error)) from None
        if differences := differing_settings(there, run.config):
            problems.append('\n  '.join([f'{run.folder} holds a run with other settings:',
                                         *differences]))
    if problems:
        raise ExperimentError('\n'.join([
            *problems, 'Nothing was changed. Bring the settings back, or name another folder '
                       '(--runs, or folder=NAME).']))


def progress_of(run: Run) -> dict[str, Any]:
    """Return how far a run is: its folder, state (finished, begun, to run), step and steps."""
    state, step = 'to run', 0
    if run.is_finished:
        state, step = 'finished', run.steps
    elif (run.folder / 'config.yaml').exists():
        state, step = 'begun', describe(run.folder)['progress']['step']
    return {'folder': str(run.folder), 'state': state, 'step': step, 'steps': run.steps}


def listing(runs: Sequence[Run]) -> str:
    """Return one line for each run: finished, begun or to run; and how many of each."""
    lines, counts = [], {'finished': 0, 'begun': 0, 'to run': 0}
    width = max(len(str(run.folder)) for run in runs)
    for run in runs:
        found = progress_of(run)
        text = {'finished': 'finished', 'begun': f'begun, step {found["step"]} of {run.steps}',
                'to run': f'to run, {run.steps} steps'}[found['state']]
        counts[found['state']] += 1
        lines.append(f'{run.folder!s:{width}}  {text}')
    total = ', '.join(f'{count} {state}' for state, count in counts.items())
    return '\n'.join([*lines, f'{len(runs)} runs: {total}'])
