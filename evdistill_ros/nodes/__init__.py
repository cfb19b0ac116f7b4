"""The rclpy nodes and what they and the launch files need: wiring only."""
