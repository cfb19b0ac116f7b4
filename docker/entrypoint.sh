#!/bin/bash
# Make ROS 2, the environment of the libraries and the workspace known, then run the command.
set -e
source /opt/ros/jazzy/setup.bash
source /opt/venv/bin/activate
source /opt/ws/install/setup.bash
exec "$@"
