"""When two configurations are those of one run, and where they differ."""

from collections.abc import Mapping
from typing import Any

MAY_CHANGE = ('accelerator', 'checkpoint_every', 'workers')
"""Keys of `training` that decide nothing of what is learned."""


def differing_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """
    Return 'key: OLD there, NEW now' for each setting of which a run's result depends.

    Both are plain values of whole configurations, as config.yaml holds them. A key that one lacks,
    which an older version had not, and that names nothing in the other, is no difference.
    """
    before, now = flat(old), flat(new)
    keys = [key for key in dict.fromkeys([*before, *now])
            if key not in {f'training.{name}' for name in MAY_CHANGE}]
    return [f'{key}: {before.get(key, "nothing")} there, {now.get(key, "nothing")} now'
            for key in keys if _named(before.get(key)) != _named(now.get(key))]


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
