"""A bag in, results and a report out: `ros2 launch evdistill_ros replay.launch.py bag:=FOLDER`.

Every window is computed (keep_windows), as `evdistill run` does on the same bag; the student says
whether masks or classes come out. With `labels` the report holds a score.
"""

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from evdistill_ros.nodes.launching import check_replay, end, end_with_failure
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    share = FindPackageShare("evdistill_ros")
    arguments = [
        DeclareLaunchArgument("bag", description="Bag to play."),
        DeclareLaunchArgument("student", default_value="", description="Student file; empty: own."),
        DeclareLaunchArgument(
            "node",
            default_value="auto",
            choices=["auto", "seg", "recognition"],
            description="What works on the events; auto: what student and params_file are for.",
        ),
        DeclareLaunchArgument(
            "events", default_value="/event_camera/events", description="Event topic in the bag."
        ),
        DeclareLaunchArgument(
            "image",
            default_value="/event_camera/image_raw",
            description="Picture topic in the bag, background of the overlay.",
        ),
        DeclareLaunchArgument("rate", default_value="1.0", description="Speed of playing."),
        DeclareLaunchArgument(
            "out", default_value="out/replay", description="Folder of results.mcap and report.json."
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            description="What the node logs: debug, info, warn, error or fatal.",
        ),
        DeclareLaunchArgument(
            "labels",
            default_value="",
            description="What is true: a bag with masks or boxes, or a CSV file of classes.",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([share, "config", "replay.yaml"]),
            description="Parameters of the node.",
        ),
    ]
    names = ("student", "events", "image", "params_file", "log_level")
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            [share, "/launch/", LaunchConfiguration("node"), ".launch.py"]
        ),
        launch_arguments={
            **{name: LaunchConfiguration(name) for name in names},
            "use_sim_time": "true",
        }.items(),
    )
    player = ExecuteProcess(
        cmd=["ros2", "bag", "play", LaunchConfiguration("bag"), "--start-paused", "--clock",
             "--disable-keyboard-controls", "--rate", LaunchConfiguration("rate")],
        output="log",
    )  # fmt: skip
    recorder = Node(
        package="evdistill_ros",
        executable="replay_recorder",
        parameters=[{"kind": _text("node"), "out": _text("out"), "labels": _text("labels")}],
        output="screen",
    )
    ends = [
        OnProcessExit(target_action=player, on_exit=end_with_failure),
        OnProcessExit(target_action=recorder, on_exit=end),
    ]
    handlers = [RegisterEventHandler(end) for end in ends]
    check = OpaqueFunction(
        function=check_replay, args=["node", "student", "params_file", "bag", "events", "labels"]
    )
    return LaunchDescription([*arguments, check, *handlers, node, player, recorder])


def _text(name: str) -> ParameterValue:
    return ParameterValue(LaunchConfiguration(name), value_type=str)
