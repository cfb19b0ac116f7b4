"""Cameras without ROS: iniVation's through dv-processing, in a process of its own."""
