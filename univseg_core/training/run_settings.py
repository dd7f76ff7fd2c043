"""When two configurations are those of one run, and where they differ."""

from collections.abc import Mapping
from typing import Any

from univseg_core.pictures.label_meaning import VOID

MAY_CHANGE = ('accelerator', 'checkpoint_every', 'loggers', 'recognise', 'workers')
"""Keys of `training` that decide nothing of what is learned."""

LABELLED = ('train', 'train_also', 'validation')
"""Keys of a domain that name folders of label maps."""


def differing_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """
    Return 'key: OLD there, NEW now' for each setting on which a run's result depends.

    Both are plain values of whole configurations, as config.yaml holds them. A key that one lacks,
    which an older version had not, and that names nothing in the other, is no difference; nor is
    an answer about label maps that leaves them what they are without, or how a large model teaches
    where there is none: older versions did not ask.
    """
    before, now = (_without_teaching(flat(_without_needless_answers(each))) for each in (old, new))
    keys = [key for key in dict.fromkeys([*before, *now])
            if key not in {f'training.{name}' for name in MAY_CHANGE}]
    return [f'{key}: {before.get(key, "nothing")} there, {now.get(key, "nothing")} now'
            for key in keys if _named(before.get(key)) != _named(now.get(key))]


def _without_needless_answers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without answers by which label maps are indices, and 255 void."""
    result, domains = dict(values), values.get('domains')
    if isinstance(domains, Mapping):
        result['domains'] = {name: _without_needless(domain) for name, domain in domains.items()}
    return result


def _without_teaching(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat settings without those of a large model where they name none."""
    section = 'objective.distillation.'
    return {key: value for key, value in settings.items()
            if settings.get(f'{section}teacher') or not key.startswith(section)}


def _without_needless(domain: Any) -> Any:
    if not isinstance(domain, Mapping):  # of a config.yaml that somebody has changed
        return domain
    classes = domain.get('classes')
    first = classes[0] if isinstance(classes, list) and classes else None
    needless = {'background': first, 'painted': VOID}
    return {key: _without(value, needless) if key in LABELLED else value
            for key, value in domain.items()}


def _without(value: Any, needless: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_without(each, needless) for each in value]
    if isinstance(value, Mapping):
        return {key: None if each == needless.get(key) else each for key, each in value.items()}
    return value


def _named(value: Any) -> Any:
    """Return what a setting names, without the keys that name nothing; None where it does not."""
    if isinstance(value, list):
        return [_named(each) for each in value] or None
    if isinstance(value, Mapping):
        return {key: each for key, each in value.items() if _named(each) is not None}
    return value


def flat(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Return nested plain values by dotted key; lists and empty sections stay as they are."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            result |= flat(value, f'{prefix}{key}.')
        else:
            result[f'{prefix}{key}'] = value
    return result
