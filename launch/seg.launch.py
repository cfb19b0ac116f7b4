"""Segment the events of one camera: `ros2 launch evdistill_ros seg.launch.py`.

Several cameras in one graph: one launch each, with its own `camera` and `namespace`.
"""

from evdistill_ros.nodes.launching import describe_node
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return describe_node("segmentation", "seg.yaml")
