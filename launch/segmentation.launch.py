"""Start the segmentation node; it comes to active by itself unless autostart is false."""

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from rclpy.validate_topic_name import validate_topic_name
from univseg_ros import launching

CONFIG = Path(__file__).parents[1] / 'config' / 'ros'

# (name, default, description); an argument that is left empty leaves its parameter to params_file.
ARGUMENTS = [
    ('model', '', 'Path of the model file (NAME.univseg), or of an exported one (NAME.onnx); '
     'demo: the small model that ships'),
    ('params_file', str(CONFIG / 'segmentation.yaml'),
     "YAML file of the node's parameters; arguments given beside it win"),
    ('image', 'image', 'Camera topic; with image_transport compressed, without /compressed'),
    ('cameras', '', 'Cameras, separated by commas, each with its topic or with NAME/image: '
     'front=/front/image_raw,left; empty: one without a name, whose topic is image'),
    ('image_transport', '', 'raw or compressed'),
    ('domains', '', 'Domains to begin with, separated by commas, for example outdoor,indoor; '
     'auto: the node decides by the images'),
    ('device', '', 'Where the model runs: auto, cpu, cuda, cuda:1'),
    ('backend', '', 'What runs the encoder: auto, torch, onnxruntime, openvino'),
    ('precision', '', 'auto, fp32, bf16, fp16, int8'),
    *launching.COMMON_ARGUMENTS,
]


def overrides(arguments: dict[str, str]) -> dict[str, object]:
    """Return the node's parameters that launch arguments give, which are not empty."""
    parameters = {name: arguments[name]
                  for name in ('model', 'image_transport', 'device', 'backend', 'precision')
                  if arguments[name]}
    if arguments['domains']:
        names = arguments['domains'].split(',')
        parameters['active_domains'] = [name.strip() for name in names]
    if cameras := launching.cameras(arguments['cameras']):
        parameters['cameras'] = list(cameras)
    return parameters | launching.flags(arguments)


def remappings(arguments: dict[str, str]) -> list[tuple[str, str]]:
    """Return which topics the node's camera images come from."""
    topics = launching.cameras(arguments['cameras'])
    if not topics:
        return [('image', arguments['image'])]
    if arguments['image'] != 'image':
        raise launching.bad_argument('image', arguments['image'], 'none beside cameras, which '
                                     'have their topics: cameras:=front=/front/image_raw')
    return [(f'{name}/image', topic) for name, topic in topics.items()]


def dds_environment(profile: str) -> tuple[dict[str, str], str]:
    """Return the environment variable that gives the node a profile, and what to log of it."""
    return launching.dds_environment(profile, CONFIG / 'fastdds_large_images.xml')


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the node with the parameters that the launch arguments ask for."""
    arguments = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    params_file = launching.checked_file(arguments)
    log_level = launching.checked_log_level(arguments)
    topics = remappings(arguments)
    for _, topic in topics:
        validate_topic_name(topic)
    environment, told = dds_environment(arguments['dds_profile'])
    node = LifecycleNode(
        package='univseg_ros',
        executable='segmentation_node',
        name='univseg',
        namespace=arguments['namespace'],
        parameters=[params_file, overrides(arguments)],
        remappings=topics,
        ros_arguments=['--log-level', log_level],
        additional_env=environment,
        output='both',
        **launching.respawn(arguments),
    )
    return [*([LogInfo(msg=told)] if told else []), *launching.transitions(node, arguments), node]


def generate_launch_description() -> LaunchDescription:
    """Return the launch arguments and the node."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, default, description in ARGUMENTS),
        OpaqueFunction(function=start_node),
    ])
