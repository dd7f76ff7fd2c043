"""Start the segmentation node; it comes to active by itself unless autostart is false."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import FindPackageShare

DEFAULT_PARAMETERS = PathJoinSubstitution(
    [FindPackageShare('univseg_ros'), 'config', 'ros', 'segmentation.yaml'])

# (name, default, description); an argument that is left empty leaves its parameter to params_file.
ARGUMENTS = [
    ('model', '', 'Path of the model file (NAME.univseg)'),
    ('params_file', DEFAULT_PARAMETERS, "YAML file of the node's parameters; arguments given "
     'beside it win'),
    ('namespace', '', 'Namespace of the node, for example the name of the robot'),
    ('image', 'image', 'Camera topic; with image_transport compressed, without /compressed'),
    ('image_transport', '', 'raw or compressed'),
    ('domains', '', 'Domains to begin with, separated by commas, for example outdoor,indoor'),
    ('device', '', 'Where the model runs: auto, cpu, cuda, cuda:1'),
    ('autostart', '', 'true: the node configures and activates itself; false: a lifecycle manager '
     'does it'),
    ('use_sim_time', '', 'true: the time is that of /clock (simulation, bags)'),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
]


def overrides(arguments: dict[str, str]) -> dict[str, object]:
    """Return the node's parameters that launch arguments give, which are not empty."""
    parameters = {name: arguments[name] for name in ('model', 'image_transport', 'device')
                  if arguments[name]}
    if arguments['domains']:
        names = arguments['domains'].split(',')
        parameters['active_domains'] = [name.strip() for name in names]
    for name in ('autostart', 'use_sim_time'):
        if arguments[name]:
            parameters[name] = _boolean(name, arguments[name])
    return parameters


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in ('true', 'false'):
        raise ValueError(f'launch argument {name}:={text}: expected true or false')
    return text.lower() == 'true'


def start_node(context: LaunchContext) -> list[LifecycleNode]:
    """Return the node with the parameters that the launch arguments ask for."""
    arguments = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    return [LifecycleNode(
        package='univseg_ros',
        executable='segmentation_node',
        name='univseg',
        namespace=arguments['namespace'],
        parameters=[arguments['params_file'], overrides(arguments)],
        remappings=[('image', arguments['image'])],
        ros_arguments=['--log-level', arguments['log_level']],
        output='both',
    )]


def generate_launch_description() -> LaunchDescription:
    """Return the launch arguments and the node."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, default, description in ARGUMENTS),
        OpaqueFunction(function=start_node),
    ])
