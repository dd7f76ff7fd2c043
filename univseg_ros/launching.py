"""What the launch files have in common; only `transitions` needs more than Python."""

import os
from pathlib import Path
from typing import Any

from univseg_core.machine.fast_dds import FAST_DDS_2, FAST_DDS_3, profile_variable
from univseg_ros.camera_names import is_camera_name

NAV2_OUTPUTS = ('mask', 'confidence', 'label_info', 'overlay', 'mask/compressed', 'camera_info')
"""What the segmentation node of Nav2's tutorial publishes, and what belongs beside a mask."""

LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')

COMMON_ARGUMENTS = [
    ('namespace', '', 'Namespace of the node, for example the name of the robot'),
    ('autostart', '', 'true: the node configures and activates itself; launch: the launch file '
     'asks it to; false: a lifecycle manager does'),
    ('use_sim_time', '', 'true: the time is that of /clock (simulation, bags)'),
    ('log_level', 'info', ', '.join(LOG_LEVELS)),
    ('dds_profile', '', 'Fast DDS profile of the node: large_images or the path of an XML file; '
     'the camera needs it as well'),
    ('respawn', 'false', 'true: the node is started anew whenever it ends, until launch does'),
    ('respawn_delay', '1.0', 'Seconds before that'),
]
"""(name, default, description) of launch arguments that every node has."""


def flags(arguments: dict[str, str]) -> dict[str, bool]:
    """Return the parameters autostart and use_sim_time, where arguments give them."""
    parameters = {}
    if arguments['autostart'].lower() == 'launch':
        parameters['autostart'] = False
    elif arguments['autostart']:
        parameters['autostart'] = _flag(arguments, 'autostart', 'true, launch or false')
    if arguments['use_sim_time']:
        parameters['use_sim_time'] = _flag(arguments, 'use_sim_time')
    return parameters


def respawn(arguments: dict[str, str]) -> dict[str, Any]:
    """Return the options of a launched process that say whether it is started anew."""
    if not _flag(arguments, 'respawn'):
        return {}
    if arguments['autostart'].lower() == 'launch':
        # Its request would go to the node that has died, which DDS remembers for a while, and be
        # waited for without end.
        raise bad_argument('respawn', 'true', 'false with autostart:=launch; with autostart:=true '
                           'a node that is started anew comes to active')
    try:
        delay = float(arguments['respawn_delay'])
    except ValueError:
        delay = -1.0
    if not 0 <= delay < float('inf'):
        raise bad_argument('respawn_delay', arguments['respawn_delay'], 'seconds')
    return {'respawn': True, 'respawn_delay': delay}


def transitions(node: Any, arguments: dict[str, str]) -> list[Any]:
    """Return the actions that configure and activate a LifecycleNode with autostart:=launch."""
    if arguments['autostart'].lower() != 'launch':
        return []
    from launch.actions import EmitEvent, RegisterEventHandler
    from launch.event_handlers import OnProcessStart
    from launch.events import matches_action
    from launch_ros.event_handlers import OnStateTransition
    from launch_ros.events.lifecycle import ChangeState
    from lifecycle_msgs.msg import Transition

    def change(transition: int) -> EmitEvent:
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node),
                                           transition_id=transition))

    return [
        RegisterEventHandler(OnProcessStart(
            target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)])),
        RegisterEventHandler(OnStateTransition(
            target_lifecycle_node=node, start_state='configuring', goal_state='inactive',
            entities=[change(Transition.TRANSITION_ACTIVATE)])),
    ]


def cameras(text: str) -> dict[str, str]:
    """
    Return the topic of each camera that an argument names: `front=/front/image_raw,left`.

    A camera without a topic has NAME/image.
    """
    topics: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(','))):
        name, equals, topic = part.partition('=')
        if not is_camera_name(name) or (equals and not topic) or name in topics:
            raise bad_argument('cameras', text, 'names, each once, with or without a topic: '
                               'front=/front/image_raw,left')
        topics[name] = topic or f'{name}/image'
    return topics


def output_remappings(domain: str, prefix: str) -> list[tuple[str, str]]:
    """Return the remappings that publish a domain's outputs right below a prefix."""
    return [(f'~/{domain}/{name}', f'{prefix}/{name}') for name in NAV2_OUTPUTS]


def _flag(arguments: dict[str, str], name: str, expected: str = 'true or false') -> bool:
    value = arguments[name].lower()
    if value not in ('true', 'false'):
        raise bad_argument(name, arguments[name], expected)
    return value == 'true'


def checked_file(arguments: dict[str, str]) -> str:
    """Return the path of the parameter file."""
    path = Path(arguments['params_file']).expanduser()
    if not path.is_file():
        raise bad_argument('params_file', arguments['params_file'], 'a YAML file; there is none')
    return str(path)


def checked_log_level(arguments: dict[str, str]) -> str:
    """Return the level of the node's log."""
    if arguments['log_level'].lower() not in LOG_LEVELS:
        raise bad_argument('log_level', arguments['log_level'], f'one of {", ".join(LOG_LEVELS)}')
    return arguments['log_level']


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
    variable = profile_variable(os.environ.get('ROS_DISTRO'))
    return {variable: str(path)}, f'{variable} of the node is {path}; the camera needs it as well'


def bad_argument(name: str, value: str, expected: str) -> ValueError:
    """Return the error for a launch argument."""
    return ValueError(f'launch argument {name}:={value}: expected {expected}')
