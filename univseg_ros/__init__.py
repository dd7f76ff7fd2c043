"""The ROS 2 package; without ROS, univseg_core does all the rest."""

from importlib.util import find_spec

if find_spec('rclpy') is None:
    raise ModuleNotFoundError(
        "univseg_ros needs ROS 2 (rclpy): source a distribution's setup.bash, or install it from "
        "PyPI with pip install '.[ros]'")
