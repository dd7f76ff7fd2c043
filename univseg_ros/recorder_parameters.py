"""The recorder's parameters: one table, from which they are declared and judged."""

from collections.abc import Sequence
import re
from typing import Any

from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name
from univseg_core.bags.distributions import METADATA_VERSIONS
from univseg_core.recording.policies import CONFIDENCE, POLICIES, PolicyParameter, RECOGNITION
from univseg_ros.flight_conditions import CONDITIONS, DIAGNOSTICS, DOMAIN
from univseg_ros.parameter_table import AUTOSTART, BOND, ParameterSpec, table_objection

ANY = ['']
"""The value of a list of topics that stands for those that are discovered."""

COMPRESSIONS = {'none': '', 'zstd': 'zstd'}
THIS = 'auto'
"""The value of `distribution` that stands for the one in which the recorder runs."""

WHEN_FULL = ('stop', 'drop_oldest')
LARGEST = 100_000_000
"""The most megabytes of a bag, 100 TB."""

_KEEPS = '; '.join(entry.keeps if entry.keeps == name else f'{entry.keeps} ({name})'
                   for name, entry in POLICIES.items())


def _by(needs: str) -> str:
    return ' or '.join(name for name, entry in POLICIES.items() if entry.needs == needs)


def _of_policies() -> dict[str, tuple[list[str], PolicyParameter]]:
    """Return the parameters of all policies by name, and which have each."""
    found: dict[str, tuple[list[str], PolicyParameter]] = {}
    for policy, entry in POLICIES.items():
        for name, each in entry.parameters.items():
            found.setdefault(name, ([], each))[0].append(policy)
    return found


PARAMETERS = {
    'topics': ParameterSpec(
        ANY, "Camera topics to record, raw or compressed; [''] stands for all that are published, "
        "but for what segmentation nodes make.",
        'inactive'),
    'directory': ParameterSpec(
        '~/recordings', 'Folder of the bags; each has a folder of its own in it.',
        'unconfigured'),
    'name': ParameterSpec(
        'camera', "Beginning of the bags' names, before the date.",
        'inactive'),
    'compression': ParameterSpec(
        'none', "Compression of the files' chunks.",
        'inactive', choices=tuple(COMPRESSIONS)),
    'distribution': ParameterSpec(
        THIS, 'ROS 2 distribution whose rosbag2 is to read the bags, and newer ones; auto: that '
        'of this machine.',
        'inactive', choices=(THIS, *METADATA_VERSIONS)),
    'policy': ParameterSpec(
        'all', f'Which images are kept: {_KEEPS}.',
        'inactive', choices=tuple(POLICIES)),
    **{name: ParameterSpec(each.default, f'With policy {" or ".join(policies)}: '
                           f'{each.description}', 'inactive', bounds=each.bounds)
       for name, (policies, each) in _of_policies().items()},
    'confidence_topics': ParameterSpec(
        ANY, f"With policy {_by(CONFIDENCE)}, and flight where flight_on has confidence: topics "
        "of the model's confidence; [''] stands for those of all segmentation nodes.",
        'inactive'),
    'recognition_topics': ParameterSpec(
        ANY, f"With policy {_by(RECOGNITION)}: topics of the model's recognition; [''] stands for "
        'those of all segmentation nodes.',
        'inactive'),
    'flight_on': ParameterSpec(
        [DOMAIN, DIAGNOSTICS], 'With policy flight: the triggers, beside the service ~/write: '
        'confidence (its mean falls below flight_below), domain (that of a node becomes none), '
        "diagnostics (a status becomes an error); ['']: none.",
        'inactive'),
    'flight_domains': ParameterSpec(
        ANY, "With policy flight: topics on which nodes say their domain; [''] stands for those "
        'of all segmentation nodes.',
        'inactive'),
    'flight_diagnostics': ParameterSpec(
        ANY, 'With policy flight: names of the statuses on /diagnostics that count, or of the '
        "nodes that they are of; [''] stands for all but the recorder's own.",
        'inactive'),
    'max_size': ParameterSpec(
        0, "Megabytes that the recorder's bags in the directory may have together; 0: no limit.",
        'inactive', bounds=(0, LARGEST)),
    'min_free': ParameterSpec(
        1000, 'Megabytes of the disk that are left free; 0: none.',
        'inactive', bounds=(0, LARGEST)),
    'when_full': ParameterSpec(
        'stop', 'What to do where max_size or min_free is reached: stop, or drop the oldest file '
        "of the recorder's bags.",
        'inactive', choices=WHEN_FULL),
    'split_size': ParameterSpec(
        1000, 'Megabytes of a file after which a new one begins; 0: no limit. With max_size, it '
        'is a quarter of that at most.',
        'inactive', bounds=(0, LARGEST)),
    'split_time': ParameterSpec(
        0.0, 'Seconds after which a new file begins; 0: no limit.',
        'inactive', bounds=(0.0, 86400.0)),
    'queue_size': ParameterSpec(
        256, 'Megabytes of images that may wait for the disk; what comes then is counted, and not '
        f'kept. With policy {_by(CONFIDENCE)} or {_by(RECOGNITION)}, as many more may wait for '
        'the model.',
        'inactive', bounds=(1, 100_000)),
    'depth': ParameterSpec(
        20, 'Images of a topic that the middleware keeps for the node.',
        'inactive', bounds=(1, 1000)),
    'image_timeout': ParameterSpec(
        5.0, 'Seconds without an image of a topic after which the log and /diagnostics say why; '
        '0: never.',
        bounds=(0.0, 3600.0)),
    'bond': BOND,
    'autostart': AUTOSTART,
}
"""The parameters of the node by name."""

STORAGE = 'storage', 'mcap'
"""
A parameter of former versions, and the value that it may still have.

It is declared, too: rclpy ignores in silence what is not, and a robot that asks for sqlite3 would
not be told.
"""


def objection(name: str, value: Any, *, configured: bool = False, active: bool = False) -> str:
    """
    Say why a parameter cannot take a value; an empty text means that it can.

    `configured` and `active` tell the node's state. Types and ranges are judged by rclpy.
    """
    if name == STORAGE[0] and value != STORAGE[1]:
        return (f'{name}: {value!r}: bags are MCAP files, and no others any more; leave this '
                'parameter out. `ros2 bag convert` makes sqlite3 files of them')
    spec = PARAMETERS.get(name)
    if spec is None:
        return ''
    if reason := table_objection(name, value, spec, configured=configured, active=active):
        return reason
    if name in ('topics', 'confidence_topics', 'recognition_topics', 'flight_domains'):
        return _topics_objection(name, value)
    if name == 'flight_on' and (unknown := set(value) - {*CONDITIONS, *ANY}):
        return f'flight_on: {sorted(unknown)[0]!r} is not one of {", ".join(CONDITIONS)}'
    if name == 'directory' and not value:
        return 'directory: expected the path of a folder'
    if name == 'name' and not re.fullmatch(r'[\w-]+', value, re.ASCII):
        return f'name: {value!r}: expected letters, digits, _ and -'
    return ''


def _topics_objection(name: str, topics: Sequence[str]) -> str:
    if list(topics) in ([], ANY):
        return ''
    for topic in topics:
        try:
            validate_topic_name(topic)
        except InvalidTopicNameException as error:
            return f'{name}: {topic!r} cannot be a topic: {error}'.splitlines()[0]
    if len(set(topics)) != len(topics):
        return f'{name}: a topic is named twice in {list(topics)}'
    return ''
