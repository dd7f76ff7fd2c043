"""The segmentation node's parameters: one table, from which they are declared and judged."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from univseg_core.domains import Domain, NAME_PATTERN
from univseg_core.errors import did_you_mean
from univseg_core.inference.backends import BACKENDS, PRECISIONS
from univseg_core.inference.domain_decision import DecisionRule
from univseg_ros.camera_names import is_camera_name, LONGEST_NAME, RESERVED_NAMES
from univseg_ros.image_input import RELIABILITIES, TRANSPORTS
from univseg_ros.parameter_table import (
    AUTOSTART,
    BOND,
    ParameterSpec,
    state_objection,
    table_objection,
    type_objection,
)
from univseg_ros.place import AUTO
from univseg_ros.traversable import NO_CLASS, traversable_objection

NO_CAMERAS = ['']
"""The value of `cameras` that stands for one camera without a name."""

FIRST_DOMAIN = ['']
"""The value of `active_domains` that stands for the model's first domain."""

PARAMETERS = {
    'model': ParameterSpec(
        '', 'Path of the model file (NAME.univseg), or of what `univseg export` made of it '
        '(NAME.onnx), or of a finished run; demo: the small model that ships.',
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
        'auto', 'Arithmetic of the convolutions; auto: of an exported model what it was made for, '
        'of a model file bf16 or fp16 where the device is good at it, and else fp32.',
        'unconfigured', choices=PRECISIONS),
    'inference_size': ParameterSpec(
        0, "Longest side in pixels at which the network sees an image; 0: the model's own. Masks "
        "always have the image's size.",
        bounds=(0, 8192), per_camera=True),
    'cameras': ParameterSpec(
        NO_CAMERAS, "Names of the cameras: NAME/image is subscribed to, masks are published on "
        "~/NAME/DOMAIN/mask. [''] stands for one without a name: image, ~/DOMAIN/mask.",
        'start'),
    'image_transport': ParameterSpec(
        'raw', 'raw subscribes to image, compressed to image/compressed (after remapping image).',
        'inactive', choices=tuple(TRANSPORTS), per_camera=True),
    'reliability': ParameterSpec(
        'auto', 'Reliability that is asked of the image topic; auto matches its publishers.',
        'inactive', choices=RELIABILITIES, per_camera=True),
    'depth': ParameterSpec(
        1, 'Images that the middleware keeps for the node. Only the newest is segmented; more '
        'than 1 helps a large image through on a lossy connection.',
        'inactive', bounds=(1, 100), per_camera=True),
    'active_domains': ParameterSpec(
        FIRST_DOMAIN, "Domains whose masks are published; before the model is loaded, [''] stands "
        "for its first one. ['auto']: the images tell which.", per_camera=True),
    'confidence_threshold': ParameterSpec(
        0.0, 'Probability of the top class below which a pixel of the mask is 255 (unknown).',
        bounds=(0.0, 1.0), per_camera=True),
    'traversable': ParameterSpec(
        NO_CLASS, 'Classes, as CLASS or DOMAIN/CLASS, that ~/DOMAIN/traversable shows; '
        "[''] stands for none."),
    'max_rate': ParameterSpec(
        0.0, 'Frames a second that are segmented at most; 0: as many as come.',
        bounds=(0.0, 1000.0), per_camera=True),
    'max_age': ParameterSpec(
        0.0, "Seconds of the node's clock (/clock with use_sim_time) after which an image is too "
        'old to be segmented, counted from its header stamp; 0: none is.',
        bounds=(0.0, 3600.0), per_camera=True),
    'auto_frames': ParameterSpec(
        DecisionRule.frames, 'Frames over which the evidence for a domain is averaged, where '
        'active_domains is auto: a change of place shows after some of them.',
        bounds=(1, 1000)),
    'auto_switch': ParameterSpec(
        DecisionRule.switch, 'Averaged evidence at which auto takes another domain, or none.',
        bounds=(0.5, 0.95)),
    'auto_stay': ParameterSpec(
        DecisionRule.stay, 'Averaged evidence for the present domain below which auto leaves it, '
        'though there is not enough for another one; auto_switch at most.',
        bounds=(0.0, 0.95)),
    'auto_unfamiliar': ParameterSpec(
        DecisionRule.unfamiliar, 'Unfamiliarity beyond which auto takes an image to be of none of '
        'the domains; 1 % of the training images are above 1. Less is stricter.',
        bounds=(0.1, 100.0)),
    'image_timeout': ParameterSpec(
        5.0, 'Seconds without an image after which the log and /diagnostics say why; 0: never.',
        bounds=(0.0, 3600.0), per_camera=True),
    'bond': BOND,
    'autostart': AUTOSTART,
}
"""The parameters of the node by name."""


def objection(name: str, value: Any, domains: Mapping[str, Domain] | None, *, active: bool = False,
              camera: str = '', auto: str = '') -> str:
    """
    Say why a parameter cannot take a value; an empty text means that it can.

    `domains` are those of the loaded model by name, None while no model is loaded; `active`
    says that the node is, `camera` whose parameter of that name it is, `auto` why the model
    cannot tell domains. None takes back what a camera has of its own. Types and ranges of
    parameters that are no camera's are judged by rclpy.
    """
    spec = PARAMETERS.get(name)
    if spec is None or (camera and not spec.per_camera):
        return ''
    full = f'{camera}.{name}' if camera else name
    if camera and value is None:  # its own is taken back
        return state_objection(full, spec, configured=domains is not None, active=active)
    if camera and (reason := type_objection(full, value, spec)):
        return reason
    if reason := table_objection(full, value, spec, configured=domains is not None,
                                 active=active):
        return reason
    if name == 'active_domains':
        return _domains_objection(full, value, domains, auto)
    if name == 'cameras':
        return _cameras_objection(value)
    if name == 'traversable':
        return traversable_objection(value, domains)
    return ''


def rule_objection(switch: float, stay: float) -> str:
    """Say why these thresholds contradict each other; an empty text means that they do not."""
    if stay > switch:
        return (f'auto_stay {stay:g} is above auto_switch {switch:g}: a domain would be left as '
                'soon as it is taken; set both at once, or first the one that makes room')
    return ''


def _cameras_objection(names: Sequence[str]) -> str:
    if list(names) == NO_CAMERAS:
        return ''
    for name in names:
        if not is_camera_name(name):
            return (f'cameras: {name!r} cannot be the name of a camera: expected lower-case '
                    f'letters, digits and _, starting with a letter, {LONGEST_NAME} at most'
                    + (f', and not {name}' if name in RESERVED_NAMES else ''))
    if len(set(names)) != len(names):
        return f'cameras: a camera is named twice in {list(names)}'
    return ''


def _domains_objection(name: str, names: Sequence[str], domains: Collection[str] | None,
                       auto: str) -> str:
    if list(names) == AUTO:
        return auto and f'{name}: {auto}'
    if AUTO[0] in names:
        return f"{name}: 'auto' stands alone, or not at all"
    if domains is None:
        if list(names) in ([], FIRST_DOMAIN):
            return ''
        for each in names:
            if not NAME_PATTERN.fullmatch(each):
                return (f'{name}: {each!r} cannot be the name of a domain: expected '
                        'lower-case letters, digits and _, starting with a letter')
    else:
        valid = f'this model has {", ".join(domains)}'
        if not names:
            return f'{name}: expected at least one domain; {valid}'
        for each in names:
            if each not in domains:
                return f'{name}: unknown domain {each!r}; {valid}{did_you_mean(each, domains)}'
    if len(set(names)) != len(names):
        return f'{name}: a domain is named twice in {list(names)}'
    return ''
