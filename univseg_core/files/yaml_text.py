"""YAML → plain values, or YamlError, whatever the text is; limits are checked beforehand."""

from pathlib import Path
from typing import Any

from univseg_core.errors import shortened, UnivsegError
from univseg_core.files import read_text
from univseg_core.files.limits import LimitError
import yaml

DEEPEST = 50
"""Levels of values within values."""

MOST_VALUES = 200_000
"""Values in a text, and those it stands for: what an alias repeats is counted again."""

MOST_DIGITS, LONGEST_NUMBER = 300, 1000
"""Digits of a whole number (more do not fit a float), and characters of one as it is written."""

LONGEST_KEY = 15
"""Characters of a number that is a key: of larger ones, Python's hashes can be made alike."""


class YamlError(UnivsegError):
    """A text that is not YAML, or whose values cannot be made or are too many."""


def read_yaml(path: Path) -> Any:
    """
    Return the plain values of a YAML file in UTF-8, with or without a byte order mark.

    Raises YamlError as `parse_yaml` does, and for a file of more than limits.TEXT bytes;
    LimitError where that is no number; OSError where it cannot be read.
    """
    try:
        text = read_text(path)
    except LimitError:  # of the environment, not of the file
        raise
    except ValueError as error:
        raise YamlError(str(error).removeprefix(f'{path}: ')) from error
    return parse_yaml(text)


def parse_yaml(text: str) -> Any:
    """
    Return the plain values of a YAML text.

    Raises YamlError, which names the line, where it is no YAML, has a key twice, a number or date
    that is none, or values so deep or, by aliases, so many that they cannot be meant.
    """
    try:
        _count_written(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {}, 0)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise YamlError(shortened(str(error), 1000)) from error
    except RecursionError:
        raise YamlError(f'values more than {DEEPEST} deep in each other') from None
    except Exception as error:  # as in `construct_object`, but of values that are made later
        raise YamlError(f'damaged: {error!r}') from error


class _Loader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, but a repeated key and numbers that are too long are errors."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        for key in (key for key, _ in pairs if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise _error(key, f'the key {shortened(key.value)!r} is there twice')
            if _kind(key) == 'int' and len(key.value) > LONGEST_KEY:
                raise _error(key, f'a number of {len(key.value)} characters as a key')
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        is_number = _kind(node) in ('int', 'float')
        if is_number and len(node.value) > LONGEST_NUMBER:
            raise _error(node, f'a number of {len(node.value)} characters')
        try:
            value = super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:  # PyYAML's are of many types
            raise _error(node, f'{_words(node)} is no {_kind(node)}') from error
        if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
            raise _error(node, f'a number of more than {MOST_DIGITS} digits')
        return value


def _count_written(text: str) -> None:
    """Raise where a text has too many values to make any of them."""
    loader, count = _Loader(text), 0
    try:
        while (event := loader.get_event()) is not None:
            count += isinstance(event, yaml.NodeEvent)
            if count > MOST_VALUES:
                raise yaml.MarkedYAMLError(problem=f'more than {MOST_VALUES} values',
                                           problem_mark=event.start_mark)
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int | None], depth: int) -> int:
    """Return for how many values a node stands, those of aliases with it; raise if too many."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if depth >= DEEPEST:
        raise _error(node, f'values more than {DEEPEST} deep in each other')
    if id(node) not in known:
        known[id(node)] = None  # until they are counted: an alias in its own value
        children = (child for item in node.value
                    for child in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = 1 + sum(_count(child, known, depth + 1) for child in children)
    count = known[id(node)]
    if count is None:
        raise _error(node, 'a value that holds itself')
    if count > MOST_VALUES:
        raise _error(node, f'with its aliases it stands for {count} values; expected '
                     f'{MOST_VALUES} at most')
    return count


def _words(node: yaml.Node) -> str:
    return repr(shortened(node.value)) if isinstance(node, yaml.ScalarNode) else 'this'


def _kind(node: yaml.Node) -> str:
    """Return what a node's tag calls it: int, timestamp …."""
    return str(node.tag).rpartition(':')[2]


def _error(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
