"""Start the segmentation node with the domain outdoor; all arguments of segmentation.launch.py."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Return segmentation.launch.py with the parameter file of this domain."""
    share = FindPackageShare('univseg_ros')
    return LaunchDescription([
        DeclareLaunchArgument(
            'params_file',
            default_value=PathJoinSubstitution([share, 'config', 'ros', 'outdoor.yaml']),
            description="YAML file of the node's parameters; arguments given beside it win"),
        IncludeLaunchDescription(
            PathJoinSubstitution([share, 'launch', 'segmentation.launch.py'])),
    ])
