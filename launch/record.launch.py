"""Record cameras into bags: by bag_recorder, or by rosbag2 where that is installed."""

from datetime import datetime
from pathlib import Path

from ament_index_python import get_package_prefix
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from univseg_core.bags.reading import IMAGE_TYPES
from univseg_ros import launching

CONFIG = Path(__file__).parents[1] / 'config' / 'ros'
DIRECTORY = '~/recordings'
BACKENDS = ('univseg', 'rosbag2')
# Of MCAP, which rosbag2 writes by default.
ROSBAG2_COMPRESSIONS = {'none': [], 'zstd': ['--storage-preset-profile', 'zstd_fast']}

END = '60'
"""Seconds that the recorder has to end, in which images that wait for a slow disk are written."""

# (name, default, description); an argument that is left empty leaves its parameter to params_file.
ARGUMENTS = [
    ('topics', '', 'Camera topics, separated by commas; empty: all that are published'),
    ('directory', '', f'Folder of the bags ({DIRECTORY})'),
    ('policy', '', 'Which images are kept: all, rate, novel, uncertain, unfamiliar or flight'),
    ('rate', '', 'With policy rate or unfamiliar: images a second of each topic'),
    ('compression', '', 'none or zstd'),
    ('distribution', '', 'ROS 2 distribution whose rosbag2 is to read the bags, for example '
     'humble; auto: that of this machine'),
    ('max_size', '', 'Megabytes that the bags in the directory may have together; 0: no limit'),
    ('when_full', '', 'What to do where max_size is reached or the disk is full: stop or '
     'drop_oldest'),
    ('params_file', str(CONFIG / 'recorder.yaml'),
     "YAML file of the node's parameters; arguments given beside it win"),
    ('backend', 'univseg', 'univseg: bag_recorder; rosbag2: `ros2 bag record`, without policies, '
     'distribution, max_size, when_full, params_file, autostart and respawn'),
    *launching.COMMON_ARGUMENTS,
]


def overrides(arguments: dict[str, str]) -> dict[str, object]:
    """Return the node's parameters that launch arguments give, which are not empty."""
    parameters = {name: arguments[name]
                  for name in ('directory', 'policy', 'compression', 'distribution', 'when_full')
                  if arguments[name]}
    if topics := _topics(arguments):
        parameters['topics'] = topics
    if arguments['max_size']:
        if not arguments['max_size'].isdecimal():
            raise launching.bad_argument('max_size', arguments['max_size'], 'megabytes')
        parameters['max_size'] = int(arguments['max_size'])
    if arguments['rate']:
        try:
            parameters['rate'] = float(arguments['rate'])
        except ValueError as error:
            raise launching.bad_argument('rate', arguments['rate'], 'images a second') from error
    return parameters | launching.flags(arguments)


def rosbag2_command(arguments: dict[str, str], now: datetime) -> list[str]:
    """Return the call of rosbag2 that does what launch arguments ask for."""
    for name, without in {'policy': 'all', 'distribution': 'auto', 'max_size': '0',
                          'when_full': 'stop', 'autostart': 'true',
                          'respawn': 'false'}.items():
        if arguments[name] not in ('', without):
            raise launching.bad_argument(
                name, arguments[name], f'nothing but {without}: rosbag2 has no such thing; '
                'backend:=univseg has')
    if Path(arguments['params_file']) != CONFIG / 'recorder.yaml':
        raise launching.bad_argument('params_file', arguments['params_file'],
                                     'none: rosbag2 does not read it; backend:=univseg does')
    compression = arguments['compression'] or 'none'
    if compression not in ROSBAG2_COMPRESSIONS:
        raise launching.bad_argument('compression', compression, 'none or zstd')
    directory = Path(arguments['directory'] or DIRECTORY).expanduser()
    namespace = arguments['namespace'].strip('/')
    topics = [topic if topic.startswith('/') else f'/{namespace}/{topic}'.replace('//', '/')
              for topic in _topics(arguments)]
    return [
        'ros2', 'bag', 'record', '--output', str(directory / f'camera_{now:%Y_%m_%d-%H_%M_%S}'),
        *ROSBAG2_COMPRESSIONS[compression],
        '--log-level', arguments['log_level'].lower(), '--disable-keyboard-controls',
        *(['--use-sim-time'] if launching.flags(arguments).get('use_sim_time') else []),
        *(['--topics', *topics] if topics else ['--topic-types', *IMAGE_TYPES])]


def _topics(arguments: dict[str, str]) -> list[str]:
    return [name.strip() for name in arguments['topics'].split(',') if name.strip()]


def start_recorder(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the node, or the call of rosbag2, that the launch arguments ask for."""
    arguments = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    if arguments['backend'] not in BACKENDS:
        raise launching.bad_argument('backend', arguments['backend'],
                                     f'one of {", ".join(BACKENDS)}')
    # An argument of former versions; launch ignores in silence what is not declared.
    if (storage := context.launch_configurations.get('storage')) not in (None, '', 'mcap'):
        raise launching.bad_argument('storage', storage, 'nothing: bags are MCAP files, and no '
                                     'others any more; `ros2 bag convert` makes sqlite3 files of '
                                     'them')
    params_file = launching.checked_file(arguments)
    log_level = launching.checked_log_level(arguments)
    environment, told = launching.dds_environment(
        arguments['dds_profile'], CONFIG / 'fastdds_large_images.xml')
    log = [LogInfo(msg=told)] if told else []
    end = {'sigterm_timeout': END, 'sigkill_timeout': END}
    if arguments['backend'] == 'rosbag2':
        command = rosbag2_command(arguments, datetime.now())
        try:
            get_package_prefix('ros2bag')
        except LookupError as error:
            raise launching.bad_argument(
                'backend', 'rosbag2', 'univseg: the package ros2bag is not installed') from error
        return [*log, ExecuteProcess(cmd=command, additional_env=environment, output='both',
                                     **end)]
    node = LifecycleNode(
        package='univseg_ros',
        executable='bag_recorder',
        name='bag_recorder',
        namespace=arguments['namespace'],
        parameters=[params_file, overrides(arguments)],
        ros_arguments=['--log-level', log_level],
        additional_env=environment,
        output='both',
        **end,
        **launching.respawn(arguments),
    )
    return [*log, *launching.transitions(node, arguments), node]


def generate_launch_description() -> LaunchDescription:
    """Return the launch arguments and the recorder."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, default, description in ARGUMENTS),
        OpaqueFunction(function=start_recorder),
    ])
