"""Tables of parameters, from which nodes declare and judge theirs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
import json
import textwrap
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node


@dataclass(frozen=True)
class ParameterSpec:
    """
    A parameter: its default (whose type is the parameter's type), meaning and constraints.

    `choices` are the values that a text may have, `bounds` the range of a number; empty, all are
    allowed. `changes` says when it may be set: one of CHANGES. `per_camera` says that each named
    camera may have one of its own.
    """

    default: bool | int | float | str | list[str]
    description: str
    changes: str = 'always'
    choices: tuple[str, ...] = ()
    bounds: tuple[int, int] | tuple[float, float] | tuple[()] = ()
    per_camera: bool = False


CHANGES = {
    'start': 'Read once, when the node starts.',
    'unconfigured': 'Can be set while the node is unconfigured.',
    'inactive': 'Can be set while the node is not active.',
    'always': 'Can be set at any time.',
}


BOND = ParameterSpec(
    True, "Make the bond that Nav2's lifecycle manager waits for, where bondpy is installed.",
    'inactive')

AUTOSTART = ParameterSpec(
    True, 'Configure and activate at start; false where a lifecycle manager does it.', 'start')
"""With BOND, the parameters that all managed nodes have."""


def values(spec: ParameterSpec) -> str:
    """Return what a parameter may be, in words: its choices, its range or its type."""
    if spec.choices:
        return ', '.join(spec.choices)
    if spec.bounds:
        return '…'.join(f'{bound:.9g}' for bound in spec.bounds)
    return {bool: 'true, false', str: 'text', list: 'list of texts'}[type(spec.default)]


def listed(table: Mapping[str, ParameterSpec]) -> str:
    """Return what there is to know of a table's parameters, for a command's --help."""
    lines = []
    for name, spec in table.items():
        default = json.dumps(spec.default)
        lines += [f'  {name}: {values(spec)} (default: {default})',
                  *textwrap.wrap(spec.description, 95, initial_indent='      ',
                                 subsequent_indent='      ')]
    return '\n'.join(lines)


def declare_all(node: Node, table: Mapping[str, ParameterSpec]) -> None:
    """
    Declare all parameters of a table on a node.

    Raises rclpy's ParameterException where the value given at start is not acceptable.
    """
    for name, spec in table.items():
        node.declare_parameter(name, spec.default, _descriptor(spec))


def declare_for_camera(node: Node, camera: str, table: Mapping[str, ParameterSpec]) -> None:
    """
    Declare those of a table that a camera may have of its own: CAMERA.NAME, not set by default.

    Raises as `declare_all` does.
    """
    for name, spec in table.items():
        if spec.per_camera:
            _declare_own(node, camera, name, spec)


def declare_anew(node: Node, names: Collection[str], cameras: Collection[str],
                 table: Mapping[str, ParameterSpec]) -> None:
    """Declare those of some parameters of cameras that were deleted, again without a value."""
    for full in names:
        camera, name = of_camera(full, cameras)
        if camera and name in table and not node.has_parameter(full):
            _declare_own(node, camera, name, table[name], ignore_override=True)


def _declare_own(node: Node, camera: str, name: str, spec: ParameterSpec, *,
                 ignore_override: bool = False) -> None:
    descriptor = _descriptor(spec)
    descriptor.description = f'Of the camera {camera}; not set: {name}. {spec.description}'
    descriptor.dynamic_typing = True  # else it could not be without a value
    node.declare_parameter(f'{camera}.{name}', None, descriptor, ignore_override)


def of_camera(name: str, cameras: Collection[str]) -> tuple[str, str]:
    """Return the camera ('' for none) and the short name of a parameter."""
    camera, _, short = name.partition('.')
    return (camera, short) if short and camera in cameras else ('', name)


def type_objection(name: str, value: Any, spec: ParameterSpec) -> str:
    """Say why a value is of another type than a parameter; an empty text means that it is not."""
    kind: type = type(spec.default)
    if type(value) is not kind or (
            isinstance(value, list) and not {type(each) for each in value} <= {str}):
        kinds = {bool: 'true or false', int: 'an integer', float: 'a number with a decimal point',
                 str: 'a text', list: 'a list of texts'}
        return f'{name}: {value!r} is not {kinds[kind]}'
    return ''


def _descriptor(spec: ParameterSpec) -> ParameterDescriptor:
    constraints = [CHANGES[spec.changes]]
    if spec.choices:
        constraints.append(f'One of: {", ".join(spec.choices)}.')
    descriptor = ParameterDescriptor(
        description=spec.description,
        additional_constraints=' '.join(constraints),
        read_only=spec.changes == 'start')
    if spec.bounds:
        lowest, highest = spec.bounds
        if isinstance(lowest, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=lowest, to_value=highest)]
        else:
            descriptor.integer_range = [
                IntegerRange(from_value=lowest, to_value=highest, step=1)]
    return descriptor


def table_objection(name: str, value: Any, spec: ParameterSpec, *, configured: bool,
                    active: bool) -> str:
    """
    Say why a parameter cannot take a value, as far as the table tells; an empty text means it can.

    `configured` and `active` tell the node's state. Types and ranges are judged by rclpy.
    """
    if value is None:
        return f"{name}: no value was given (YAML's [] is none; the empty choice is [''])"
    if reason := state_objection(name, spec, configured=configured, active=active):
        return reason
    if spec.choices and value not in spec.choices:
        return f'{name}: {value!r} is not one of {", ".join(spec.choices)}'
    # rclpy lets a millionth more through.
    if spec.bounds and not spec.bounds[0] <= value <= spec.bounds[1]:
        return f'{name}: {value} is not from {spec.bounds[0]:g} to {spec.bounds[1]:g}'
    return ''


def state_objection(name: str, spec: ParameterSpec, *, configured: bool, active: bool) -> str:
    """Say why a parameter cannot change in the node's state; an empty text means that it can."""
    if spec.changes == 'unconfigured' and configured:
        return f'{name} can only be set while the node is unconfigured: deactivate it and clean up'
    if spec.changes == 'inactive' and active:
        return f'{name} can only be set while the node is not active: deactivate it'
    return ''
