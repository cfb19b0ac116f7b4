"""What the launch files share: arguments, the nodes they start, and what decides between those.

`ros2 launch` runs this in its own Python, which may lack all that the nodes need: nothing of the
core is imported here.
"""

from __future__ import annotations

import subprocess

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
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
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

RESPAWN_DELAY_S = 2.0


class ReplayError(RuntimeError):
    """A replay cannot be; `ros2 launch` prints the reason and ends with exit code 1."""


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
            "Images of the same camera, the background of the overlay.",
        ),
        "camera_info": (
            ["/", camera, "/camera_info"],
            "Its calibration, for ~/camera_info; not read if camera_info_url names a file.",
        ),
        "student": ("", f"Student file of {task}; empty: as in params_file."),
        "params_file": (config, "Parameters of the node."),
        "namespace": ("", "Namespace of the node."),
        "name": (task, "Name of the node."),
        "autostart": (
            "true",
            "Configure and activate the node; false: a lifecycle manager does.",
        ),
        "use_sim_time": ("false", "Take the time from /clock."),
        "respawn": ("false", "Start the node again when its process has ended."),
        "log_level": ("info", "What the node logs: debug, info, warn, error or fatal."),
        "view": ("false", "Start RViz with a layout for the node."),
    }
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in arguments.items()
    ]
    start = OpaqueFunction(function=_node, args=[f"{task}_node"])
    look = OpaqueFunction(function=_rviz, args=[task])
    return LaunchDescription([*declared, start, look])


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
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        respawn=_boolean(context, "respawn"),
        respawn_delay=RESPAWN_DELAY_S,
        output="screen",
    )
    return [node]


def _rviz(context: LaunchContext, task: str) -> list[Node | LogInfo]:
    """Return RViz with the layout of a task, its topics renamed to those of the node."""
    if not _boolean(context, "view"):
        return []
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        cure = "sudo apt install ros-$ROS_DISTRO-rviz2"
        return [LogInfo(msg=f"view:=true needs rviz2, and the node starts without it: {cure}")]
    parts = [LaunchConfiguration(n).perform(context).strip("/") for n in ("namespace", "name")]
    node = "/" + "/".join(filter(None, parts))
    renamed = [(f"/{task}/{topic}", f"{node}/{topic}") for topic in ("overlay", "mask_color")]
    layout = [FindPackageShare("evdistill_ros"), "rviz", f"{task}.rviz"]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        arguments=["-d", PathJoinSubstitution(layout)],
        parameters=[{"use_sim_time": _boolean(context, "use_sim_time")}],
        remappings=[*renamed, ("/event_camera/image_raw", LaunchConfiguration("image"))],
        output="log",
    )
    return [rviz]


def _boolean(context: LaunchContext, name: str) -> bool:
    return LaunchConfiguration(name).perform(context).lower() in {"true", "1", "yes"}


def check_replay(context: LaunchContext, *names: str) -> list[SetLaunchConfiguration]:
    """Check what a replay is made of, and set ``node`` to what the student is for.

    Args:
        context: of the launch file.
        names: its arguments that the program ``replay_check`` takes.

    Raises:
        ReplayError: something is missing or damaged; nothing has been started then.
    """
    program = ExecutableInPackage("replay_check", "evdistill_ros").perform(context)
    given = [LaunchConfiguration(name).perform(context) for name in names]
    done = subprocess.run([program, *given], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        reason = said.removeprefix("replay: error: ")
        if reason == said:  # it broke off, which is no matter of the bag
            cure = "build the package again if another version of it is installed"
            raise ReplayError(f"{program} failed: {said}; {cure}")
        raise ReplayError(f"nothing to replay: {reason}")
    return [SetLaunchConfiguration("node", done.stdout.strip())]


def end_with_failure(event: ProcessExited, context: LaunchContext) -> None:
    """End the launch when a process fails that everything else waits for.

    Raises:
        ReplayError: it has failed.
    """
    if event.returncode and not context.is_shutdown:
        raise ReplayError(f"{event.process_name} has failed (exit code {event.returncode})")


def end(event: ProcessExited, context: LaunchContext) -> EmitEvent:
    """End the launch when the process is done that everything is for.

    Raises:
        ReplayError: it has failed.
    """
    end_with_failure(event, context)
    return EmitEvent(event=Shutdown(reason="the replay is over"))
