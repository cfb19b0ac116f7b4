"""ROS 2 messages as bytes: CDR, layouts, schemas. No ROS needed."""
