"""ROS 2 front ends of evdistill: rclpy nodes, and the same topics over bare DDS."""
