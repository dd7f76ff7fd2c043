"""Start the segmentation node with the domain indoor; all arguments of segmentation.launch.py."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription

PACKAGE = Path(__file__).parents[1]


def generate_launch_description() -> LaunchDescription:
    """Return segmentation.launch.py with the parameter file of this domain."""
    return LaunchDescription([
        DeclareLaunchArgument(
            'params_file',
            default_value=str(PACKAGE / 'config' / 'ros' / 'indoor.yaml'),
            description="YAML file of the node's parameters; arguments given beside it win"),
        IncludeLaunchDescription(str(PACKAGE / 'launch' / 'segmentation.launch.py')),
    ])
