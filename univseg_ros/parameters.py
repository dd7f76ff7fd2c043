"""The segmentation node's parameters: one table, from which they are declared and judged."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from univseg_core.domains import Domain, NAME_PATTERN
from univseg_core.inference.backends import BACKENDS, PRECISIONS
from univseg_ros.image_input import RELIABILITIES, TRANSPORTS
from univseg_ros.parameter_table import BOND, ParameterSpec, table_objection
from univseg_ros.traversable import NO_CLASS, traversable_objection

FIRST_DOMAIN = ['']
"""The value of `active_domains` that stands for the model's first domain."""


PARAMETERS = {
    'model': ParameterSpec(
        '', 'Path of the model file (NAME.univseg), or of what `univseg export` made of it '
        '(NAME.onnx).',
        'unconfigured'),
    'device': ParameterSpec(
        'auto', 'Where the model runs: auto (a CUDA GPU where there is one), cpu, cuda, cuda:1; '
        "gpu is Intel's, by OpenVINO.",
        'unconfigured'),
    'backend': ParameterSpec(
        'auto', 'What runs the encoder: torch a model file, onnxruntime or openvino an exported '
        'one; auto takes the fastest that is installed, which it measures once.',
        'unconfigured', choices=('auto', *BACKENDS)),
    'precision': ParameterSpec(
        'auto', 'Arithmetic of the convolutions; auto takes bf16 where the device is good at it, '
        'and else what the file was made for.',
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
    'traversable': ParameterSpec(
        NO_CLASS, 'Classes, as CLASS or DOMAIN/CLASS, of which ~/DOMAIN/traversable shows where '
        "they are; [''] stands for none."),
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
    'bond': BOND,
    'autostart': ParameterSpec(
        True, 'Configure and activate at start; false where a lifecycle manager does it.',
        'start'),
}
"""The parameters of the node by name."""


def objection(name: str, value: Any, domains: Mapping[str, Domain] | None, *,
              active: bool = False) -> str:
    """
    Say why a parameter cannot take a value; an empty text means that it can.

    `domains` are those of the loaded model by name, None while no model is loaded; `active` says
    that the node is. Types and ranges are judged by rclpy.
    """
    spec = PARAMETERS.get(name)
    if spec is None:
        return ''
    if reason := table_objection(name, value, spec, configured=domains is not None,
                                 active=active):
        return reason
    if name == 'active_domains':
        return _domains_objection(value, domains)
    if name == 'traversable':
        return traversable_objection(value, domains)
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
