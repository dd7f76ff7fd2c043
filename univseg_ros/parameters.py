"""The node's parameters: one table, from which they are declared and judged."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from univseg_core.domains import NAME_PATTERN
from univseg_core.inference import PRECISIONS
from univseg_ros.image_input import RELIABILITIES, TRANSPORTS

FIRST_DOMAIN = ['']
"""The value of `active_domains` that stands for the model's first domain."""


@dataclass(frozen=True)
class ParameterSpec:
    """
    A parameter: its default (whose type is the parameter's type), meaning and constraints.

    `choices` are the values that a text may have, `bounds` the range of a number; empty, all are
    allowed. `changes` says when it may be set: one of CHANGES.
    """

    default: bool | int | float | str | list[str]
    description: str
    changes: str = 'always'
    choices: tuple[str, ...] = ()
    bounds: tuple[int, int] | tuple[float, float] | tuple[()] = ()


CHANGES = {
    'start': 'Read once, when the node starts.',
    'unconfigured': 'Can be set while the node is unconfigured.',
    'inactive': 'Can be set while the node is not active.',
    'always': 'Can be set at any time.',
}

PARAMETERS = {
    'model': ParameterSpec(
        '', 'Path of the model file (NAME.univseg).',
        'unconfigured'),
    'device': ParameterSpec(
        'auto', 'Where the model runs: auto (a CUDA GPU where there is one), cpu, cuda, cuda:1.',
        'unconfigured'),
    'precision': ParameterSpec(
        'auto', 'Arithmetic of the convolutions; auto takes bf16 where the device is good at it.',
        'unconfigured', choices=PRECISIONS),
    'inference_size': ParameterSpec(
        0, "Longest side in pixels at which the network sees an image; 0: the model's own. Masks "
        "always have the image's size.",
        bounds=(0, 8192)),
    'image_transport': ParameterSpec(
        'raw', 'raw subscribes to image, compressed to image/compressed (after remapping image).',
        'inactive', choices=tuple(TRANSPORTS)),
    'reliability': ParameterSpec(
        'auto', 'Reliability that is asked of the image topic; auto matches its publishers.',
        'inactive', choices=RELIABILITIES),
    'depth': ParameterSpec(
        1, 'Images that the middleware keeps for the node. Only the newest is segmented; more '
        'than 1 helps a large image through on a lossy connection.',
        'inactive', bounds=(1, 100)),
    'active_domains': ParameterSpec(
        FIRST_DOMAIN, "Domains whose masks are published; before the model is loaded, [''] stands "
        'for its first one.'),
    'confidence_threshold': ParameterSpec(
        0.0, 'Probability of the top class below which a pixel of the mask is 255 (unknown).',
        bounds=(0.0, 1.0)),
    'max_rate': ParameterSpec(
        0.0, 'Frames a second that are segmented at most; 0: as many as come.',
        bounds=(0.0, 1000.0)),
    'max_age': ParameterSpec(
        0.0, "Seconds of the node's clock (/clock with use_sim_time) after which an image is too "
        'old to be segmented, counted from its header stamp; 0: none is.',
        bounds=(0.0, 3600.0)),
    'image_timeout': ParameterSpec(
        5.0, 'Seconds without an image after which the log and /diagnostics say why; 0: never.',
        bounds=(0.0, 3600.0)),
    'autostart': ParameterSpec(
        True, 'Configure and activate at start; false where a lifecycle manager does it.',
        'start'),
}
"""The parameters of the node by name."""


def declare(node: Node) -> None:
    """
    Declare all parameters of the table on a node.

    Raises rclpy's ParameterException where the value given at start is not acceptable.
    """
    for name, spec in PARAMETERS.items():
        node.declare_parameter(name, spec.default, _descriptor(spec))


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


def objection(name: str, value: object, domains: Collection[str] | None, *,
              active: bool = False) -> str:
    """
    Say why a parameter cannot take a value; an empty text means that it can.

    `domains` are the names of the loaded model's domains, None while no model is loaded; `active`
    says that the node is. Types and ranges are judged by rclpy.
    """
    spec = PARAMETERS.get(name)
    if spec is None:
        return ''
    if value is None:
        return f"{name}: no value was given (YAML's [] is none; the empty choice is [''])"
    if spec.changes == 'unconfigured' and domains is not None:
        return f'{name} can only be set while the node is unconfigured: deactivate it and clean up'
    if spec.changes == 'inactive' and active:
        return f'{name} can only be set while the node is not active: deactivate it'
    if spec.choices and value not in spec.choices:
        return f'{name}: {value!r} is not one of {", ".join(spec.choices)}'
    # rclpy lets a millionth more through.
    if spec.bounds and not spec.bounds[0] <= value <= spec.bounds[1]:
        return f'{name}: {value} is not from {spec.bounds[0]:g} to {spec.bounds[1]:g}'
    if name == 'active_domains':
        return _domains_objection(value, domains)
    return ''


def _domains_objection(names: Sequence[str], domains: Collection[str] | None) -> str:
    if domains is None:
        if list(names) in ([], FIRST_DOMAIN):
            return ''
        for name in names:
            if not NAME_PATTERN.fullmatch(name):
                return (f'active_domains: {name!r} cannot be the name of a domain: expected '
                        'lower-case letters, digits and _, starting with a letter')
    else:
        valid = f'this model has {", ".join(domains)}'
        if not names:
            return f'active_domains: expected at least one domain; {valid}'
        for name in names:
            if name not in domains:
                return f'active_domains: unknown domain {name!r}; {valid}'
    if len(set(names)) != len(names):
        return f'active_domains: a domain is named twice in {list(names)}'
    return ''
