"""Where the values come from that a node's parameters have at start, and which came to nothing."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
import re
from typing import Any

from univseg_core.errors import did_you_mean
from univseg_core.files import read_text
from univseg_core.files.yaml_text import parse_yaml

ALL_NODES = '/**'
COMMAND_LINE = 'the command line'
MOST_KEYS = 5
"""Keys of a file that are named where none of them is the node's."""

Given = tuple[str, str, str]
"""A source, the key of its nodes as ROS has it (a name, with * and ** for others), a parameter."""


def given_parameters(arguments: Sequence[str]) -> tuple[list[Given], list[str]]:
    """Return what --params-file and -p of a command give, in order, and the files."""
    given: list[Given] = []
    files = []
    for option, value in _ros_options(arguments):
        if option == '--params-file':
            files.append(value)
            given += [(value, key, name) for key, name in _in_file(Path(value))]
        elif option in ('-p', '--param'):
            key, _, name = value.partition(':=')[0].rpartition(':')
            given.append((COMMAND_LINE, f'/{key.lstrip("/")}' if key else ALL_NODES, name))
    return given, files


def what_was_taken(arguments: Sequence[str], node: str, declared: Collection[str]
                   ) -> tuple[str, list[str]]:
    """
    Say which parameters of a node were taken from where, and what of it came to nothing.

    `node` is the name with its namespace, `declared` are its parameters.
    """
    given, files = given_parameters(arguments)
    # As rclpy does it: by key, in the order in which they first came, the last one of each.
    by_key: dict[str, dict[str, str]] = {}
    for source, key, name in given:
        by_key.setdefault(key, {})[name] = source
    sources: dict[str, str] = {}
    for key, values in by_key.items():
        if fits(key, node):
            sources |= values
    complaints = [_no_key(path, [key for source, key, _ in given if source == path], node)
                  for path in files]
    taken: dict[str, list[str]] = {}
    for name, source in sources.items():
        if name in declared or _is_of_ros(name):
            taken.setdefault(source, []).append(name)
    complaints += [_no_parameter(source, key, name, declared) for source, key, name in given
                   if fits(key, node) and name not in declared and not _is_of_ros(name)]
    text = '; '.join(f'from {_told(source)}: {", ".join(names)}'
                     for source, names in taken.items())
    return text and f'parameters {text}', list(dict.fromkeys(filter(None, complaints)))


def sources_of(arguments: Sequence[str], parameter: str) -> str:
    """Say which files of a command, or its own line, give a parameter, to whatever node."""
    return ', '.join(dict.fromkeys(_told(source) for source, _, name in
                                   given_parameters(arguments)[0] if name == parameter))


def fits(key: str, node: str) -> bool:
    """Return whether parameters below a key are those of a node, given with its namespace."""
    # rclpy's own rule: "/*" stands for one name, and so "/**" for any number.
    try:
        return re.fullmatch(key.replace('/*', r'(/\w+)'), node) is not None
    except re.error:
        return False


def _ros_options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each argument between --ros-args and --, and the one that follows."""
    ros = False
    for argument, following in zip(arguments, [*arguments[1:], ''], strict=True):
        if argument == '--ros-args':
            ros = True
        elif argument == '--':
            ros = False
        elif ros:
            yield argument, following


def _in_file(path: Path) -> list[tuple[str, str]]:
    try:
        # Launch writes a list as a tuple of Python; ROS does not look at tags.
        document = parse_yaml(read_text(path).replace('!!python/tuple', ''))
    except (OSError, ValueError):  # ROS itself has complained of it
        return []
    return list(_below('', document))


def _below(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == 'ros__parameters':
                yield from ((key, parameter) for parameter in _names('', inner))
            else:
                yield from _below(f'{key}/{str(name).strip("/")}', inner)


def _names(prefix: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _names(f'{prefix}.{name}' if prefix else str(name), inner)
    else:
        yield prefix


def _no_key(path: str, keys: Collection[str], node: str) -> str:
    keys = list(dict.fromkeys(keys))
    if any(fits(key, node) for key in keys):
        return ''
    there = ', '.join(keys[:MOST_KEYS]) + (' …' if len(keys) > MOST_KEYS else '')
    return (f'{_told(path)}: nothing in it is for this node, {node}: '
            f'{f"its keys are {there}" if keys else "it has no ros__parameters"}; expected {node} '
            f'or {ALL_NODES}')


def _no_parameter(source: str, key: str, name: str, declared: Collection[str]) -> str:
    question = did_you_mean(name, declared)
    if ('*' in key and source != COMMAND_LINE and not question
            and name.partition('.')[0] not in declared):
        return ''  # it may well be another node's
    return f'{_told(source)}: there is no parameter {name}{question}'


def _is_of_ros(name: str) -> bool:
    return name.startswith('qos_overrides.') or name in (
        'use_sim_time', 'start_type_description_service')


def _told(source: str) -> str:
    # ros2 launch makes a file of what the launch file says itself.
    return 'the launch file' if Path(source).name.startswith('launch_params_') else source
