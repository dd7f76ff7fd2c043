"""How Fast DDS, ROS 2's usual middleware, is given a profile."""

FAST_DDS_2 = 'FASTRTPS_DEFAULT_PROFILES_FILE'
FAST_DDS_3 = 'FASTDDS_DEFAULT_PROFILES_FILE'

WITH_FAST_DDS_2 = ('humble', 'iron', 'jazzy')
"""The distributions of ROS 2 that have it; those after them have Fast DDS 3."""

SHIPPED = 'fastdds_large_images.xml'
"""The profile for large images, in config/ros."""


def profile_variable(distribution: str | None) -> str:
    """Return the environment variable that a distribution's Fast DDS reads a profile from."""
    return FAST_DDS_2 if distribution in WITH_FAST_DDS_2 else FAST_DDS_3
