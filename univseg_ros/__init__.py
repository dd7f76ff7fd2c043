"""The ROS 2 package; without ROS, univseg_core does all the rest."""
