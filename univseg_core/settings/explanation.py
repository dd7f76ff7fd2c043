"""What each key of a configuration means, told from the sections that check it."""

from collections.abc import Iterator, Mapping, Sequence
import difflib
import inspect
from itertools import zip_longest
import json
import re
import textwrap
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, Literal, NamedTuple, Union

from pydantic.fields import FieldInfo
from univseg_core.settings.config import RunConfig
from univseg_core.settings.file import ConfigError, Section, section_of
from univseg_core.settings.kinds import ExistingFile, Folder, Images, MANY, ModelFile, Weights
import yaml

WIDTH = 99
REQUIRED = 'required'
LIMITS = {'ge': '≥', 'gt': '>', 'le': '≤', 'lt': '<'}


class Key(NamedTuple):
    """
    One key of a configuration.

    `name` is dotted, with NAME for a domain's; `values` says of which kind and in which range a
    value is ('' for a section, which has keys below it), `default` what holds when it is left out
    ('required' for nothing).
    """

    name: str
    values: str
    default: str
    meaning: str


def all_keys() -> list[Key]:
    """Return every key that takes a value, in the order of a written configuration."""
    return [key for key in _keys_below(RunConfig, '') if key.values]


def explain(name: str | None = None, width: int = 120) -> str:
    """
    Return a table, `width` columns wide, of all keys or, for one, it and what is below it.

    A domain's keys may be asked for by NAME or by a domain's own name: domains.yard.train.
    Raises ConfigError, with the closest keys, where there is none of that name.
    """
    keys = keys_of(name)
    return _table(keys, width) if name is None else '\n\n'.join(map(_entry, keys))


def keys_of(name: str | None) -> list[Key]:
    """Return all keys that take a value or, for one, it and what is below it; see `explain`."""
    if name is None:
        return all_keys()
    keys = _keys_below(RunConfig, '')
    asked = re.sub(r'^domains\.[^.]+', 'domains.NAME', name)
    found = [key for key in keys if key.name == asked or key.name.startswith(f'{asked}.')]
    if not found:
        raise ConfigError(f'{name}: unknown key; {_hint(name, [key.name for key in keys])}')
    return found


class Setting(NamedTuple):
    """
    What a configuration has under a dotted key, beside the key's default; both as text.

    `default` is 'required' where a key has none, and both it and `meaning` are '' where this
    version has no such key.
    """

    name: str
    value: str
    default: str
    meaning: str

    @property
    def changed(self) -> bool:
        """Return whether the value is another one than a default that there is."""
        return self.value != self.default != REQUIRED


def beside_defaults(values: Mapping[str, Any]) -> list[Setting]:
    """Return all plain values of a configuration, of another version, too, and the defaults."""
    known = {key.name: key for key in all_keys()}

    def below(part: Mapping[str, Any], prefix: str) -> Iterator[Setting]:
        for key, value in part.items():
            name = f'{prefix}{key}'
            entry = known.get(re.sub(r'^domains\.[^.]+', 'domains.NAME', name))
            if entry is None and isinstance(value, Mapping) and value:
                yield from below(value, f'{name}.')
            else:
                yield Setting(name, _text(value), *((entry.default, entry.meaning) if entry
                                                    else ('', '')))

    return list(below(values, ''))


def annotated_yaml(config: RunConfig, ascii_values: bool = False) -> str:
    """
    Return a configuration as YAML, every default written out, with each key's meaning above it.

    It is read back as the same configuration; see `commented_yaml`.
    """
    return commented_yaml(config.model_dump(mode='json'), ascii_values)


def commented_yaml(values: dict[str, Any], ascii_values: bool = False) -> str:
    """
    Return plain values of a configuration as YAML, with each key's meaning above it.

    A value that is not its key's default is followed, in the comment, by that default.
    `ascii_values` escapes other characters in values.
    """
    meanings = {key.name: key for key in _keys_below(RunConfig, '')}
    lines: list[str] = []
    told = set()

    def write(values: dict, prefix: str, indent: str) -> None:
        for key, value in values.items():
            name = f'{prefix}{key}'
            entry = meanings.get(name)
            if entry and name not in told:  # of two domains, the first tells for both
                told.add(name)
                lines.extend(_comment(entry, value, indent))
            if isinstance(value, dict) and value:
                lines.append(f'{indent}{key}:')
                below = 'domains.NAME.' if prefix == 'domains.' else f'{name}.'
                write(value, below, f'{indent}  ')
            else:
                flow = None if isinstance(value, list) else False
                text = yaml.safe_dump({key: value}, default_flow_style=flow, width=WIDTH - 4,
                                      allow_unicode=not ascii_values)
                lines.append(textwrap.indent(text.rstrip('\n'), indent))
            if not indent:
                lines.append('')

    write(values, '', '')
    return '\n'.join(lines).rstrip('\n') + '\n'


def _keys_below(section: type[Section], prefix: str) -> list[Key]:
    keys = []
    for key, field in section.model_fields.items():
        name = f'{prefix}{key}'
        kind = field.annotation
        if get_origin(kind) is dict:
            keys += [Key(name, '', '', field.description or ''),
                     *_keys_below(get_args(kind)[1], f'{name}.NAME.')]
        elif below := section_of(kind):
            keys += [Key(name, '', '', field.description or _summary(below)),
                     *_keys_below(below, f'{name}.')]
        else:
            default = REQUIRED if field.is_required() else _text(field.get_default(
                call_default_factory=True))
            keys.append(Key(name, _values(field), default, field.description or ''))
    return keys


def _summary(section: type[Section]) -> str:
    text = inspect.cleandoc(section.__doc__ or '').split('\n\n')[0].rstrip('.')
    return text[:1].lower() + text[1:]


def _values(field: FieldInfo) -> str:
    """Return a field's type and range in a user's words: 'int ≥ 1, or null'."""
    # MANY keeps out what nobody means.
    limits = ', '.join(f'{sign} {getattr(limit, name)}' for limit in field.metadata
                       for name, sign in LIMITS.items()
                       if getattr(limit, name, MANY) != MANY)
    kinds = _kinds(field.annotation, field.metadata)
    optional = ', or null' if kinds[-1] == 'null' and len(kinds) > 1 else ''
    text = ' or '.join(kinds[:-1] if optional else kinds)
    return ' '.join(filter(None, [text, limits])) + optional


def _kinds(kind: Any, metadata: Sequence[object] = ()) -> list[str]:
    """Return the alternatives of an annotation, null last."""
    for known, text in ((Folder, 'folder'), (Images, 'folders, bags or videos'),
                        (ExistingFile, 'file'), (ModelFile, 'file or folder of a run'),
                        (Weights, 'imagenet, none or file')):
        if kind is get_args(known)[0] and get_args(known)[1] in metadata:
            return [text]
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _kinds(parts[0], parts[1:])
    if origin in (Union, UnionType):
        kinds = [text for part in parts for text in _kinds(part, metadata)]
        return sorted(kinds, key='null'.__eq__)
    if origin is Literal:
        return [', '.join(map(str, parts))]
    if origin is dict:
        return ['{' + ': '.join(text for part in parts for text in _kinds(part)) + '}']
    if origin is list:
        (item,) = _kinds(parts[0])
        return [f'list of {item}s' if item.isalpha() else f'list of {item}']
    if isinstance(kind, type) and issubclass(kind, Section):
        return ['{' + ', '.join(f'{key}: {_values(field)}'
                                for key, field in kind.model_fields.items()) + '}']
    if origin is tuple:
        return [f'[{", ".join(text for part in parts for text in _kinds(part))}]']
    words = {bool: 'true, false', int: 'int', float: 'float', str: 'text', NoneType: 'null'}
    return [words.get(kind, getattr(kind, '__name__', str(kind)))]


def _text(value: object) -> str:
    """Return a value as one would write it in YAML, on one line."""
    return value if isinstance(value, str) else json.dumps(
        value, default=str, ensure_ascii=False)


def _table(keys: Sequence[Key], width: int) -> str:
    """Return one line a key, with types and meanings wrapped within their columns."""
    rows = [Key('key', 'values', 'default', 'meaning'), *keys]
    name, default = (max(map(len, column)) for column in (
        [row.name for row in rows], [row.default for row in rows]))
    kind = 20
    meaning = max(30, width - name - kind - default - 6)
    return '\n'.join(
        f'{a:{name}}  {b:{kind}}  {c:{default}}  {d}'.rstrip() for row in rows
        for a, b, c, d in zip_longest([row.name], textwrap.wrap(row.values, kind), [row.default],
                                      textwrap.wrap(row.meaning, meaning), fillvalue=''))


def _entry(key: Key) -> str:
    meaning = textwrap.fill(key.meaning, WIDTH, initial_indent='  ', subsequent_indent='  ')
    if not key.values:
        return f'{key.name}\n{meaning}'
    values = textwrap.fill(key.values, WIDTH, initial_indent='  values:  ',
                           subsequent_indent=' ' * 11)
    return '\n'.join([key.name, meaning, values, f'  default: {key.default}'])


def _comment(key: Key, value: object, indent: str) -> list[str]:
    parts = [key.meaning, *filter(None, [key.values])]
    if key.values and key.default not in (REQUIRED, _text(value)):
        parts.append(f'default: {key.default}')
    text = ' · '.join(parts)
    return textwrap.wrap(text, WIDTH, initial_indent=f'{indent}# ',
                         subsequent_indent=f'{indent}# ', break_on_hyphens=False)


def _hint(name: str, names: Sequence[str]) -> str:
    last = [known for known in names if known.rpartition('.')[2] == name.rpartition('.')[2]]
    close = last or difflib.get_close_matches(name, names, n=2, cutoff=0.8)
    if not close:
        # A key alone, without its section: stepz.
        ends = {known.rpartition('.')[2]: known for known in names}
        close = [ends[end] for end in difflib.get_close_matches(
            name.rpartition('.')[2], list(ends), n=2)]
    if close:
        return f'did you mean {" or ".join(close)}?'
    return '`univseg config explain` lists all keys'
