"""Recognise what a camera sees: `ros2 launch evdistill_ros recognition.launch.py student:=FILE`.

Several cameras in one graph: one launch each, with its own `camera` and `namespace`.
"""

from evdistill_ros.nodes.launching import describe_node
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return describe_node("recognition", "recognition.yaml")
