"""The ROS 2 graph without a ROS install: DDS participant, discovery, raw readers and writers.

Start with `DdsNode`; profiles are in `evdistill_ros.qos`.
"""

from evdistill_ros.dds.endpoints import Publisher, Subscription
from evdistill_ros.dds.graph import Endpoint, Graph
from evdistill_ros.dds.library import DdsError
from evdistill_ros.dds.node import DdsNode

__all__ = ["DdsError", "DdsNode", "Endpoint", "Graph", "Publisher", "Subscription"]
