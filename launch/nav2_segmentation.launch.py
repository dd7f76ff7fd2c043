"""
Start the segmentation node instead of the one of Nav2's tutorial on semantic segmentation.

Its masks come on /segmentation/mask and so on, where the tutorial's costmaps expect them. All
other arguments of segmentation.launch.py work, too.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import SetRemap
from univseg_ros import launching

PACKAGE = Path(__file__).parents[1]

ARGUMENTS = [
    ('domain', 'outdoor', 'Domain of the model whose outputs the costmap gets'),
    ('domains', LaunchConfiguration('domain'),
     'Domains to begin with, as in segmentation.launch.py'),
    ('image', '/rgbd_camera/image', 'Camera topic'),
    ('use_sim_time', 'true', 'true: the time is that of /clock (simulation, bags)'),
    # Not params_file, which is Nav2's own where a launch file of Nav2 includes this one.
    ('segmentation_params_file', str(PACKAGE / 'config' / 'ros' / 'nav2_tutorial.yaml'),
     "YAML file of the node's parameters; arguments given beside it win"),
]


def set_remaps(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return what gives the outputs of the domain the tutorial's topics."""
    domain = LaunchConfiguration('domain').perform(context)
    return [SetRemap(*names) for names in launching.output_remappings(domain, '/segmentation')]


def generate_launch_description() -> LaunchDescription:
    """Return segmentation.launch.py with the tutorial's topics."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, default, description in ARGUMENTS),
        GroupAction([
            OpaqueFunction(function=set_remaps),
            IncludeLaunchDescription(
                str(PACKAGE / 'launch' / 'segmentation.launch.py'),
                launch_arguments={
                    'params_file': LaunchConfiguration('segmentation_params_file'),
                    # Nav2's own is of nodes that its lifecycle manager knows.
                    'autostart': 'true',
                }.items()),
        ]),
    ])
