"""The recorder's parameters: one table, from which they are declared and judged."""

from collections.abc import Sequence
import re
from typing import Any

from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name
from univseg_ros.parameter_table import ParameterSpec, table_objection

ANY = ['']
"""The value of a list of topics that stands for those that are discovered."""

COMPRESSIONS = {'none': '', 'zstd': 'zstd'}
POLICIES = ('all', 'rate', 'novel', 'uncertain')
WHEN_FULL = ('stop', 'drop_oldest')
LARGEST = 100_000_000
"""The most megabytes of a bag, 100 TB."""

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
    'policy': ParameterSpec(
        'all', 'Which images are kept: all; some a second (rate); those that differ from the '
        'last one kept (novel); those of which the model is unsure (uncertain).',
        'inactive', choices=POLICIES),
    'rate': ParameterSpec(
        1.0, 'With policy rate: images a second of each topic, at most.',
        'inactive', bounds=(0.001, 1000.0)),
    'novel_bits': ParameterSpec(
        4, 'With policy novel: bits of 64 of the dHash in which an image must differ by more.',
        'inactive', bounds=(0, 63)),
    'uncertain_below': ParameterSpec(
        0.8, 'With policy uncertain: mean confidence below which an image is kept.',
        'inactive', bounds=(0.0, 1.0)),
    'confidence_topics': ParameterSpec(
        ANY, "With policy uncertain: topics of the model's confidence; [''] stands for those of "
        'all segmentation nodes.',
        'inactive'),
    'patience': ParameterSpec(
        2.0, 'With policy uncertain: seconds that an image waits for its confidence.',
        'inactive', bounds=(0.1, 60.0)),
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
        'kept. With policy uncertain, as many more may wait for the model.',
        'inactive', bounds=(1, 100_000)),
    'depth': ParameterSpec(
        20, 'Images of a topic that the middleware keeps for the node.',
        'inactive', bounds=(1, 1000)),
    'image_timeout': ParameterSpec(
        5.0, 'Seconds without an image of a topic after which the log and /diagnostics say why; '
        '0: never.',
        bounds=(0.0, 3600.0)),
    'autostart': ParameterSpec(
        True, 'Configure and activate at start; false where a lifecycle manager does it.',
        'start'),
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
    if name in ('topics', 'confidence_topics'):
        return _topics_objection(name, value)
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
