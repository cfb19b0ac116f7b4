"""Subcommands of ``evdistill`` that join a ROS 2 graph: play, live, demo."""
