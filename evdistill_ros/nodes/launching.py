"""What the launch files share: arguments, the nodes they start, and what decides between those.

`ros2 launch` runs this in its own Python, which may lack all that the nodes need: nothing of the
core is imported here.
"""

from __future__ import annotations

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    SetLaunchConfiguration,
)
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.substitutions import Command, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare


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
        "camera_info": (
            ["/", camera, "/camera_info"],
            "Its calibration, for ~/camera_info; not read if camera_info_url names a file.",
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
            ("~/camera_info_in", LaunchConfiguration("camera_info")),
        ],
        output="screen",
    )
    return [node]


def _boolean(context: LaunchContext, name: str) -> bool:
    return LaunchConfiguration(name).perform(context).lower() in {"true", "1", "yes"}


def choose_node(context: LaunchContext) -> list[SetLaunchConfiguration]:
    """Replace the ``auto`` of the argument ``node`` by what `evdistill run` would choose."""
    if LaunchConfiguration("node").perform(context) != "auto":
        return []
    asked = [ExecutableInPackage("choose_node", "evdistill_ros")]
    for name in ("student", "params_file"):
        asked += [' "', LaunchConfiguration(name), '"']
    chosen = Command(asked).perform(context).strip()
    return [SetLaunchConfiguration("node", chosen)]


def end_with_failure(event: ProcessExited, context: LaunchContext) -> list[LogInfo | EmitEvent]:
    """End the launch when a process fails that everything else waits for."""
    if not event.returncode or context.is_shutdown:
        return []
    reason = f"{event.process_name} has failed (exit code {event.returncode})"
    return [LogInfo(msg=f"nothing to replay: {reason}"), EmitEvent(event=Shutdown(reason=reason))]
