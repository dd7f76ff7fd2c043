"""
A YAML file → checked settings, whatever sections they consist of.

Reading, changes from the command line, and what is wrong in a user's words.
"""

from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from itertools import islice
from pathlib import Path
import re
import reprlib
from typing import Any, get_args, get_origin, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from univseg_core.errors import did_you_mean, shortened, UnivsegError
from univseg_core.files.yaml_text import parse_yaml, read_yaml, YamlError

SHIPPED = resources.files('univseg_core') / 'config_files'

MOST_PROBLEMS, LONGEST_PROBLEM = 30, 1000
"""Of an error: how many are told, and characters of each."""

_quoted = reprlib.Repr()
_quoted.maxstring = _quoted.maxother = _quoted.maxlong = 200


class ConfigError(UnivsegError):
    """A configuration that cannot be used; the message names the key and what was expected."""


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no change after reading."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)


SettingsT = TypeVar('SettingsT', bound=Section)


def read_settings(source: Path | str, kind: str) -> tuple[Path, dict[str, Any]]:
    """
    Return the path and plain values of a YAML file, found as a path or by its name.

    Files that ship lie in the folder `kind` ('train', 'experiments'): 'train/scenes.yaml' and
    'scenes' name the same one. Raises ConfigError where there is none, or where it is no mapping
    or has a key twice.
    """
    shipped = SHIPPED / kind
    for path in (Path(source), SHIPPED / str(source), shipped / f'{source}.yaml'):
        with suppress(OSError):  # such as a name that is too long
            if path.is_file():
                break
    else:
        names = sorted(f'{kind}/{file.name}' for file in shipped.iterdir())
        beside: list[str] = []
        with suppress(OSError, ValueError):
            beside = [str(path) for path in Path(source).parent.glob('*.y*ml')]
        near = did_you_mean(str(source), [*beside, *names, *(Path(name).stem for name in names)])
        raise ConfigError(f'{source}: no such file; configurations that ship: '
                          f'{", ".join(names)}{near}')
    path = Path(str(path))  # a resource's, too
    try:
        values = read_yaml(path)
    except YamlError as error:
        raise ConfigError(f'{path}: not valid YAML: {error}') from error
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read: {error.strerror}') from error
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: expected keys and values, such as "domains:"')
    return path, values


def checked(model: type[SettingsT], values: dict[str, Any], source: Path,
            context: dict[str, Any] | None = None) -> SettingsT:
    """
    Return plain values as a section; ConfigError names `source` and every key at fault.

    The `context` is what validators may go by besides a value.
    """
    try:
        return model.model_validate(values, context=context)
    except ValidationError as error:
        problems = [f'  {shortened(_explain(problem, model), LONGEST_PROBLEM)}'
                    for problem in islice(error.errors(), MOST_PROBLEMS)]
        if error.error_count() > MOST_PROBLEMS:
            problems.append(f'  and {error.error_count() - MOST_PROBLEMS} more')
        raise ConfigError('\n'.join([f'{source}:', *problems])) from None


def override_setting(values: dict[str, Any], override: str) -> None:
    """Change plain values in place by a text such as 'training.steps=100'."""
    key, equals, text = override.partition('=')
    if not equals or not key:
        raise ConfigError(f'override {override!r}: expected KEY=VALUE, such as '
                          'training.steps=100')
    *parents, last = key.split('.')
    for parent in parents:
        if values.get(parent) is None:  # not there, or left empty
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise ConfigError(f'override {override!r}: {parent} has no keys below it')
    try:
        values[last] = parse_yaml(text)
    except YamlError as error:
        raise ConfigError(f'override {override!r}: {text!r} is not a YAML value: {error}'
                          ) from error


def _explain(problem: ErrorDetails, model: type[Section]) -> str:
    """Return one of pydantic's findings as 'key.path: what was expected, got what'."""
    key = '.'.join(str(part) for part in problem['loc'])
    if problem['type'] == 'extra_forbidden':
        valid = _valid_keys(problem['loc'][:-1], model)
        hint = did_you_mean(str(problem['loc'][-1]), valid)
        return f'{key}: unknown key{hint} (valid keys: {", ".join(valid)})'
    if problem['type'] == 'missing':
        return f'{key}: this key is missing'
    if problem['type'] == 'value_error':
        # Those of the whole configuration name their key themselves.
        return ': '.join(filter(None, [key, str(problem['ctx']['error'])]))
    hint = ''
    if problem['type'] == 'literal_error':
        choices = re.findall("'(.*?)'", problem['ctx']['expected'])
        hint = did_you_mean(str(problem['input']), choices)
    return f'{key}: {problem["msg"]}, got {_quoted.repr(problem["input"])}{hint}'


def _valid_keys(location: Sequence[str | int], model: type[Section]) -> list[str]:
    section: Any = model
    for part in location:
        if get_origin(section) is dict:
            section = get_args(section)[1]
        else:
            annotation = section.model_fields[part].annotation
            section = section_of(annotation) or annotation
    return list(section.model_fields)


def section_of(annotation: Any) -> type[Section] | None:
    """Return the section that a field's annotation is, or is beside null; else None."""
    kinds = () if get_origin(annotation) in (dict, list) else (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)),
                None)
