"""What the launch files have in common; nothing here needs more than Python."""

import os
from pathlib import Path

FAST_DDS_2 = 'FASTRTPS_DEFAULT_PROFILES_FILE'
FAST_DDS_3 = 'FASTDDS_DEFAULT_PROFILES_FILE'
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')

COMMON_ARGUMENTS = [
    ('namespace', '', 'Namespace of the node, for example the name of the robot'),
    ('autostart', '', 'true: the node configures and activates itself; false: a lifecycle manager '
     'does it'),
    ('use_sim_time', '', 'true: the time is that of /clock (simulation, bags)'),
    ('log_level', 'info', ', '.join(LOG_LEVELS)),
    ('dds_profile', '', 'Fast DDS profile of the node: large_images or the path of an XML file; '
     'the camera needs it as well'),
]
"""(name, default, description) of launch arguments that every node has."""


def flags(arguments: dict[str, str]) -> dict[str, bool]:
    """Return the parameters autostart and use_sim_time, where arguments give them."""
    parameters = {}
    for name in ('autostart', 'use_sim_time'):
        if arguments[name]:
            if arguments[name].lower() not in ('true', 'false'):
                raise bad_argument(name, arguments[name], 'true or false')
            parameters[name] = arguments[name].lower() == 'true'
    return parameters


def checked_file(arguments: dict[str, str]) -> str:
    """Return the path of the parameter file, and see that the level of the log is one."""
    path = Path(arguments['params_file']).expanduser()
    if not path.is_file():
        raise bad_argument('params_file', arguments['params_file'], 'a YAML file; there is none')
    if arguments['log_level'].lower() not in LOG_LEVELS:
        raise bad_argument('log_level', arguments['log_level'], f'one of {", ".join(LOG_LEVELS)}')
    return str(path)


def dds_environment(profile: str, large_images: Path) -> tuple[dict[str, str], str]:
    """
    Return the environment variable that gives the node a profile, and what to log of it.

    `large_images` is the file of the profile of that name.
    """
    if not profile:
        return {}, ''
    path = large_images if profile == 'large_images' else Path(profile)
    path = path.expanduser().absolute()
    if not path.is_file():
        raise bad_argument('dds_profile', profile,
                           f'large_images or an XML file; there is no {path}')
    middleware = os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp')
    if 'fastrtps' not in middleware:
        return {}, f'dds_profile is ignored: it is for Fast DDS; RMW_IMPLEMENTATION={middleware}'
    for variable in (FAST_DDS_2, FAST_DDS_3):
        if os.environ.get(variable):
            return {}, f'dds_profile is ignored: {variable} is set to {os.environ[variable]}'
    old = os.environ.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy')
    variable = FAST_DDS_2 if old else FAST_DDS_3
    return {variable: str(path)}, f'{variable} of the node is {path}; the camera needs it as well'


def bad_argument(name: str, value: str, expected: str) -> ValueError:
    """Return the error for a launch argument."""
    return ValueError(f'launch argument {name}:={value}: expected {expected}')
