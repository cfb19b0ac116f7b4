"""The rclpy classes of messages, and how to get those that are missing."""

from __future__ import annotations

import importlib
from typing import Any

from evdistill_core.foundation.errors import ConfigError

_SOURCES = {
    "dvs_msgs": "https://github.com/ros-event-camera/dvs_msgs",
    "prophesee_event_msgs": "https://github.com/ros-event-camera/prophesee_event_msgs",
    "event_array_msgs": "https://github.com/ros-event-camera/event_array_msgs",
    "dv_ros2_msgs": "https://github.com/Telios/dv-ros2",
    "evk4_msg": "https://github.com/ricard-inho/prophesee_ros2_pipeline",
}
"""Message packages that no distribution of ROS 2 ships."""


def message_class(type_name: str) -> Any:
    """Return the rclpy class of a message type.

    Raises:
        ConfigError: its package is not installed; the message says how to install it.
    """
    package, _, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the ROS package {package} with {type_name} is not installed: {_how_to_get(package)}"
        ) from error


def _how_to_get(package: str) -> str:
    if package in _SOURCES:
        return (
            f"git clone {_SOURCES[package]} src/{package} && colcon build --packages-select "
            f"{package} && source install/setup.bash"
        )
    return f"sudo apt install ros-$ROS_DISTRO-{package.replace('_', '-')}"
