"""An experiment's YAML file → what is to be compared, on which configuration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, Literal, TYPE_CHECKING, TypeAlias

from pydantic import Field, field_validator, StrictInt
from univseg_core.research.variants import VARIANTS
from univseg_core.settings.file import (
    checked,
    ConfigError,
    override_setting,
    read_settings,
    Section,
)
from univseg_core.training.run_settings import flat

Labelled: TypeAlias = StrictInt | Literal['all']
StepsKey: TypeAlias = Literal['single_domain_steps', 'start_steps']
if TYPE_CHECKING:
    Name: TypeAlias = str  # of one of VARIANTS, which only pydantic can check
else:
    Name: TypeAlias = Literal[tuple(VARIANTS)]


class ExperimentSection(Section):
    """What an experiment's file says."""

    base: str = Field(description='the configuration that all runs share: a path, or the name of '
                                  'one that ships')
    folder: str = Field(
        pattern=r'^[\w.-]*\w$', description='folder of the runs below --runs; experiments of one '
                                            'base and equal overrides can share it')
    overrides: dict[str, Any] = Field(
        {}, description='settings of the base that differ, nested as in a configuration')
    variants: list[Name] = Field(
        min_length=1, description='the forms of training, as rows of the table')
    labelled: list[Labelled] = Field(
        min_length=1, description='numbers N of labelled images of each domain; all: every one')
    seeds: list[Annotated[StrictInt, Field(ge=0, lt=2 ** 32)]] = Field(
        [0], min_length=1, description='one run of each variant and N for each')
    single_domain_steps: StrictInt | dict[Labelled, StrictInt] | None = Field(
        None, description='steps of the networks of one domain, the same for each N or by N; '
                          'training.steps when left out')
    start_steps: StrictInt | dict[Labelled, StrictInt] | None = Field(
        None, description='steps of the networks that other variants go on from, or are '
                          'taught by, likewise')
    compare_with: Name | None = Field(
        None, description='variant whose figures are subtracted from those of the others, seed by '
                          'seed')
    published: dict[Labelled, dict[Name, dict[str, float]]] = Field(
        {}, description='mIoU in percent of others, by N, variant and domain')
    published_classes: dict[Labelled, dict[Name, dict[str, dict[str, float]]]] = Field(
        {}, description='IoU in percent of others, by N, variant, domain and class')

    @field_validator('variants', 'labelled', 'seeds')
    @classmethod
    def _once_each(cls, values: list) -> list:
        if twice := [value for value in values if values.count(value) > 1]:
            raise ValueError(f'{twice[0]!r} is there twice')
        return values

    @field_validator('labelled', 'single_domain_steps', 'start_steps')
    @classmethod
    def _positive(cls, value: Any) -> Any:
        numbers = value.values() if isinstance(value, dict) else value
        for number in numbers if isinstance(numbers, Iterable) else [numbers]:
            if isinstance(number, int) and number < 1:
                raise ValueError(f'expected 1 or more, got {number}')
        return value


@dataclass(frozen=True)
class Experiment:
    """
    A checked experiment, its name, and the plain values of the configuration that all runs share.

    `source` is the experiment's file and `base` that of the configuration, for messages.
    """

    name: str
    source: Path
    base: Path
    section: ExperimentSection
    values: Mapping[str, Any]

    @property
    def domains(self) -> list[str]:
        """Return the names of the domains, in their order."""
        return list(self.values['domains'])

    def steps(self, key: StepsKey, labelled: Labelled) -> int | None:
        """Return the steps of some networks, None where the base says them."""
        steps = getattr(self.section, key)
        return steps[labelled] if isinstance(steps, dict) else steps


def load_experiment(source: Path | str, overrides: Sequence[str] = ()) -> Experiment:
    """
    Read an experiment's file, a path or the name of one that ships, and its base.

    `overrides` such as 'seeds=[0, 1]' change the experiment, those with a dotted key such as
    'training.steps=100' the configuration. The images need not be there yet.

    Raises ConfigError, which names the file, each key at fault and what was expected.
    """
    path, values = read_settings(source, 'experiments')
    for override in overrides:
        if '.' not in override.partition('=')[0]:
            override_setting(values, override)
    section = checked(ExperimentSection, values, path)
    base_path, base = read_settings(section.base, 'train')
    _check_decided_by_base(section.overrides, f'{path}: overrides: ')
    base = merged(base, section.overrides)
    for override in overrides:
        if '.' in override.partition('=')[0]:
            change: dict[str, Any] = {}
            override_setting(change, override)
            _check_decided_by_base(change)
            override_setting(base, override)
    if not isinstance(base.get('objective', {}), dict):
        raise ConfigError(f'{base_path}: objective: expected keys and values, or no such key')
    if not isinstance(base.get('domains'), dict) or not base['domains']:
        raise ConfigError(f'{base_path}: domains: expected the domains by name')
    experiment = Experiment(path.stem, path, base_path, section, base)
    _check_consistent(experiment)
    return experiment


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested plain values with changes; lists are replaced, neither is changed."""
    result = dict(values)
    for key, change in changes.items():
        if isinstance(change, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], change)
        else:
            result[key] = merged({}, change) if isinstance(change, Mapping) else change
    return result


def _check_decided_by_base(values: Mapping[str, Any], where: str = '') -> None:
    """Raise ConfigError for a setting among nested ones that is not for a base to say."""
    for key, value in flat(values).items():
        parts = key.split('.')
        if key == 'training.seed':
            raise ConfigError(f"{where}{key}: the experiment's seeds decide it: seeds=[{value}]")
        if key in ('objective.consistency', 'objective.class_balance'):
            raise ConfigError(f'{where}{key}: the variants decide it')
        if parts[0] == 'domains' and parts[-1] == 'labelled':
            raise ConfigError(f'{where}{key}: labelled of the experiment decides it for all '
                              f'domains: labelled=[{value}]')


def _check_consistent(experiment: Experiment) -> None:
    section, problems = experiment.section, []
    for key in get_args(StepsKey):
        steps = getattr(section, key)
        if isinstance(steps, dict) and (absent := set(section.labelled) - steps.keys()):
            problems.append(f'{key}: no number for N = {sorted(map(str, absent))[0]}')
    if section.compare_with not in (None, *section.variants):
        problems.append(f'compare_with: {section.compare_with} is not one of the variants')
    for key in ('published', 'published_classes'):
        for labelled, variants in getattr(section, key).items():
            for variant, figures in variants.items():
                problems += [f'{key}.{labelled}.{variant}.{name}: not a domain of {section.base} '
                             f'({", ".join(experiment.domains)})'
                             for name in figures if name not in experiment.domains]
    if problems:
        raise ConfigError('\n  '.join([f'{experiment.source}:', *problems]))
