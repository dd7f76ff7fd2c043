# What the containers start: the node with the model that is mounted, and launch arguments.
. "/opt/ros/$ROS_DISTRO/setup.bash"
. /ws/install/setup.bash
exec ros2 launch univseg_ros segmentation.launch.py "model:=$MODEL" "$@"
