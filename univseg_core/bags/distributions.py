"""What rosbag2 of each ROS 2 distribution reads: the version of metadata.yaml, QoS profiles."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

from univseg_core.files.yaml_text import parse_yaml
import yaml

METADATA_VERSIONS = {'humble': 5, 'iron': 7, 'jazzy': 9, 'kilted': 9, 'lyrical': 9, 'rolling': 9}
"""The version of metadata.yaml that each distribution writes; it reads older ones, no newer."""

NEWEST = 'jazzy'
"""What is written where no distribution is known: the first one of the newest version."""

TYPE_HASHES, DISTRIBUTION_NAME, NAMED_QOS = 7, 8, 9
"""The versions from which on there are these; before, QoS profiles are a text with numbers."""

# In the order of rmw's enumerations.
_POLICIES = {
    'history': ('system_default', 'keep_last', 'keep_all', 'unknown'),
    'reliability': ('system_default', 'reliable', 'best_effort', 'unknown', 'best_available'),
    'durability': ('system_default', 'transient_local', 'volatile', 'unknown', 'best_available'),
    'liveliness': ('system_default', 'automatic', 'manual_by_node', 'manual_by_topic', 'unknown',
                   'best_available'),
}

Qos = Mapping[str, Any]
"""A QoS profile, whose policies have names."""


def this_distribution() -> str:
    """Return the distribution whose environment this is; NEWEST where none, or an unknown one."""
    name = os.environ.get('ROS_DISTRO', '')
    return name if name in METADATA_VERSIONS else NEWEST


def qos_text(profiles: Sequence[Qos], distribution: str) -> str:
    """Return QoS profiles in YAML, as the files of a bag have them."""
    if METADATA_VERSIONS[distribution] < NAMED_QOS:
        profiles = [_numbered(profile) for profile in profiles]
    return yaml.safe_dump([dict(profile) for profile in profiles], sort_keys=False).strip()


def qos_from_text(text: str) -> tuple[tuple[Qos, ...], str]:
    """Return what `qos_text` made a text of: the profiles, and a distribution of that form."""
    profiles = parse_yaml(text) or ()
    if any(isinstance(profile['history'], int) for profile in profiles):
        return tuple(_named(profile) for profile in profiles), 'iron'
    return tuple(profiles), NEWEST


def _numbered(profile: Qos) -> Qos:
    return {key: _POLICIES[key].index(value) if key in _POLICIES else value
            for key, value in profile.items()}


def _named(profile: Qos) -> Qos:
    return {key: _POLICIES[key][value] if key in _POLICIES else value
            for key, value in profile.items()}
