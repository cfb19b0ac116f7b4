"""What runs without a ROS install, on ``dds/``: live, play, demo, doctor."""
