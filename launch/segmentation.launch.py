"""Start the segmentation node; it comes to active by itself unless autostart is false."""

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from rclpy.validate_topic_name import validate_topic_name

CONFIG = Path(__file__).parents[1] / 'config' / 'ros'

FAST_DDS_2 = 'FASTRTPS_DEFAULT_PROFILES_FILE'
FAST_DDS_3 = 'FASTDDS_DEFAULT_PROFILES_FILE'
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')

# (name, default, description); an argument that is left empty leaves its parameter to params_file.
ARGUMENTS = [
    ('model', '', 'Path of the model file (NAME.univseg)'),
    ('params_file', str(CONFIG / 'segmentation.yaml'),
     "YAML file of the node's parameters; arguments given beside it win"),
    ('namespace', '', 'Namespace of the node, for example the name of the robot'),
    ('image', 'image', 'Camera topic; with image_transport compressed, without /compressed'),
    ('image_transport', '', 'raw or compressed'),
    ('domains', '', 'Domains to begin with, separated by commas, for example outdoor,indoor'),
    ('device', '', 'Where the model runs: auto, cpu, cuda, cuda:1'),
    ('precision', '', 'auto, fp32 or bf16'),
    ('autostart', '', 'true: the node configures and activates itself; false: a lifecycle manager '
     'does it'),
    ('use_sim_time', '', 'true: the time is that of /clock (simulation, bags)'),
    ('log_level', 'info', ', '.join(LOG_LEVELS)),
    ('dds_profile', '', 'Fast DDS profile of the node: large_images or the path of an XML file; '
     'the camera needs it as well'),
]


def overrides(arguments: dict[str, str]) -> dict[str, object]:
    """Return the node's parameters that launch arguments give, which are not empty."""
    parameters = {name: arguments[name]
                  for name in ('model', 'image_transport', 'device', 'precision')
                  if arguments[name]}
    if arguments['domains']:
        names = arguments['domains'].split(',')
        parameters['active_domains'] = [name.strip() for name in names]
    for name in ('autostart', 'use_sim_time'):
        if arguments[name]:
            if arguments[name].lower() not in ('true', 'false'):
                raise _bad(name, arguments[name], 'true or false')
            parameters[name] = arguments[name].lower() == 'true'
    return parameters


def dds_environment(profile: str) -> tuple[dict[str, str], str]:
    """Return the environment variable that gives the node a profile, and what to log of it."""
    if not profile:
        return {}, ''
    path = CONFIG / 'fastdds_large_images.xml' if profile == 'large_images' else Path(profile)
    path = path.expanduser().absolute()
    if not path.is_file():
        raise _bad('dds_profile', profile, f'large_images or an XML file; there is no {path}')
    middleware = os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp')
    if 'fastrtps' not in middleware:
        return {}, f'dds_profile is ignored: it is for Fast DDS; RMW_IMPLEMENTATION={middleware}'
    for variable in (FAST_DDS_2, FAST_DDS_3):
        if os.environ.get(variable):
            return {}, f'dds_profile is ignored: {variable} is set to {os.environ[variable]}'
    old = os.environ.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy')
    variable = FAST_DDS_2 if old else FAST_DDS_3
    return {variable: str(path)}, f'{variable} of the node is {path}; the camera needs it as well'


def _bad(name: str, value: str, expected: str) -> ValueError:
    return ValueError(f'launch argument {name}:={value}: expected {expected}')


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the node with the parameters that the launch arguments ask for."""
    arguments = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    params_file = Path(arguments['params_file']).expanduser()
    if not params_file.is_file():
        raise _bad('params_file', arguments['params_file'], 'a YAML file; there is none')
    if arguments['log_level'].lower() not in LOG_LEVELS:
        raise _bad('log_level', arguments['log_level'], f'one of {", ".join(LOG_LEVELS)}')
    validate_topic_name(arguments['image'])
    environment, told = dds_environment(arguments['dds_profile'])
    node = LifecycleNode(
        package='univseg_ros',
        executable='segmentation_node',
        name='univseg',
        namespace=arguments['namespace'],
        parameters=[str(params_file), overrides(arguments)],
        remappings=[('image', arguments['image'])],
        ros_arguments=['--log-level', arguments['log_level']],
        additional_env=environment,
        output='both',
    )
    return [*([LogInfo(msg=told)] if told else []), node]


def generate_launch_description() -> LaunchDescription:
    """Return the launch arguments and the node."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, default, description in ARGUMENTS),
        OpaqueFunction(function=start_node),
    ])
