"""What the launch files of the nodes share: their arguments and the node they start."""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare


def describe_node(task: str, params_file: str) -> LaunchDescription:
    """Return the launch of one node.

    Args:
        task: of its student: name of the node, and start of its executable's.
        params_file: file of its parameters in the package's ``config``.
    """
    camera = LaunchConfiguration("camera")
    config = PathJoinSubstitution([FindPackageShare("evdistill_ros"), "config", params_file])
    arguments = {
        "camera": ("event_camera", "Name of the camera driver's node."),
        "events": (["/", camera, "/events"], "Topic of the events."),
        "image": (
            ["/", camera, "/image_raw"],
            "Pictures of the same camera, the background of the overlay.",
        ),
        "student": ("", f"Student file of {task}; empty: as in params_file."),
        "params_file": (config, "Parameters of the node."),
        "namespace": ("", "Of the node."),
        "name": (task, "Of the node."),
        "autostart": (
            "true",
            "Configure and activate the node; false: a lifecycle manager does.",
        ),
        "use_sim_time": ("false", "Take the time from /clock."),
    }
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in arguments.items()
    ]
    start = OpaqueFunction(function=_node, args=[f"{task}_node"])
    return LaunchDescription([*declared, start])


def _node(context: LaunchContext, executable: str) -> list[Node]:
    # An empty `student` must not override the file's, so it is only passed when given.
    student = LaunchConfiguration("student").perform(context)
    own = [{"student": student}] if student else []
    common = {name: _boolean(context, name) for name in ("autostart", "use_sim_time")}
    node = Node(
        package="evdistill_ros",
        executable=executable,
        name=LaunchConfiguration("name"),
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), common, *own],
        remappings=[
            ("~/events", LaunchConfiguration("events")),
            ("~/image", LaunchConfiguration("image")),
        ],
        output="screen",
    )
    return [node]


def _boolean(context: LaunchContext, name: str) -> bool:
    return LaunchConfiguration(name).perform(context).lower() in {"true", "1", "yes"}
