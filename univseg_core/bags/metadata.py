"""metadata.yaml of the bags that the recorder writes, as rosbag2 of a distribution has it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from univseg_core.bags.distributions import (
    DISTRIBUTION_NAME,
    METADATA_VERSIONS,
    NAMED_QOS,
    qos_text,
    TYPE_HASHES,
)
from univseg_core.bags.reading import METADATA
from univseg_core.bags.topics import Contents, Topic
from univseg_core.files import write_text
from univseg_core.files.yaml_text import read_yaml
import yaml

OWN = {'recorded_by': 'univseg_ros bag_recorder'}
"""What the metadata of the recorder's own bags say, beside what else there is, and no others."""


def write_metadata(folder: Path, files: Sequence[tuple[str, Contents]]) -> None:
    """
    Write the metadata of a bag, whole or not at all.

    `files` are the names of the bag's MCAP files in order, and what they hold; the last one's
    distribution and description are those of the bag.
    """
    distribution = files[-1][1].distribution
    version = METADATA_VERSIONS[distribution]
    topics = {name: topic for _, contents in files for name, topic in contents.topics.items()}
    counts = sum((contents.counts for _, contents in files), Counter())
    facts = {
        'version': version,
        'storage_identifier': 'mcap',
        **_times([contents for _, contents in files]),
        'topics_with_message_count': [
            {'topic_metadata': _topic(topic, distribution), 'message_count': counts[name]}
            for name, topic in topics.items()],
        # Of messages or files: the chunks of a file tell of their own.
        'compression_format': '',
        'compression_mode': '',
        'relative_file_paths': [name for name, _ in files],
        'files': [{'path': name, **_times([contents])} for name, contents in files],
        # Where the version knows of none, it is not looked at.
        'custom_data': {**files[-1][1].description, **OWN},
    }
    if version >= DISTRIBUTION_NAME:
        facts['ros_distro'] = distribution
    _write(folder, facts)


def read_own_metadata(folder: Path) -> dict | None:
    """Return the metadata of a finished bag of the recorder's; None of any other folder."""
    try:
        facts = read_yaml(folder / METADATA)['rosbag2_bagfile_information']
        said = facts['custom_data']
        return facts if {key: said[key] for key in OWN} == OWN else None
    except (OSError, KeyError, TypeError, ValueError):
        return None


def leave_out_file(folder: Path, facts: dict, name: str, counts: dict[str, int]) -> None:
    """Write a bag's metadata without one of its files, in which `counts` are those of topics."""
    files = [file for file in facts['files'] if file['path'] != name]
    begin = min(file['starting_time']['nanoseconds_since_epoch'] for file in files)
    end = max(file['starting_time']['nanoseconds_since_epoch']
              + file['duration']['nanoseconds'] for file in files)
    for topic in facts['topics_with_message_count']:
        topic['message_count'] -= counts.get(topic['topic_metadata']['name'], 0)
    facts |= {
        'files': files,
        'relative_file_paths': [file['path'] for file in files],
        'starting_time': {'nanoseconds_since_epoch': begin},
        'duration': {'nanoseconds': end - begin},
        'message_count': sum(file['message_count'] for file in files),
    }
    _write(folder, facts)


def _write(folder: Path, facts: dict) -> None:
    write_text(folder / METADATA, yaml.safe_dump(
        {'rosbag2_bagfile_information': facts}, sort_keys=False))


def _topic(topic: Topic, distribution: str) -> dict:
    version = METADATA_VERSIONS[distribution]
    facts = {'name': topic.name, 'type': topic.type, 'serialization_format': 'cdr',
             'offered_qos_profiles': (list(topic.qos) if version >= NAMED_QOS else
                                      qos_text(topic.qos, distribution))}
    if version >= TYPE_HASHES:
        facts['type_description_hash'] = topic.type_hash()
    return facts


def _times(files: Sequence[Contents]) -> dict:
    begin = min((file.begin for file in files if file.begin is not None), default=0)
    end = max((file.end for file in files if file.end is not None), default=0)
    return {'duration': {'nanoseconds': end - begin},
            'starting_time': {'nanoseconds_since_epoch': begin},
            'message_count': sum(file.counts.total() for file in files)}
