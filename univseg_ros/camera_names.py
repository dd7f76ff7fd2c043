"""What cameras can be called."""

from univseg_core.domains import NAME_PATTERN

RESERVED_NAMES = {'qos_overrides'}
"""What no camera can be called: rclpy has parameters below it."""

LONGEST_NAME = 64
"""Letters of a camera's name: ROS has topics of up to 247, with the node's and the domain's."""


def is_camera_name(name: str) -> bool:
    """Return whether a camera can be called that: a topic, and parameters, are below it."""
    return bool(NAME_PATTERN.fullmatch(name)) and name not in RESERVED_NAMES and (
        len(name) <= LONGEST_NAME)
