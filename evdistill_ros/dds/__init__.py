"""The ROS 2 graph without a ROS install: DDS participant, discovery, raw readers and writers."""
