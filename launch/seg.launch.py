"""Segment the events of one camera: `ros2 launch evdistill_ros seg.launch.py`.

Several cameras in one graph: one launch each, with its own `camera` and `namespace`.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription


def generate_launch_description() -> LaunchDescription:
    camera = LaunchConfiguration("camera")
    arguments = [
        DeclareLaunchArgument(
            "camera", default_value="event_camera", description="Name of the camera driver's node."
        ),
        DeclareLaunchArgument(
            "events", default_value=["/", camera, "/events"], description="Topic of the events."
        ),
        DeclareLaunchArgument(
            "image",
            default_value=["/", camera, "/image_raw"],
            description="Pictures of the same camera, the background of the overlay.",
        ),
        DeclareLaunchArgument(
            "student", default_value="", description="Student file; empty: as in params_file."
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution(
                [FindPackageShare("evdistill_ros"), "config", "seg.yaml"]
            ),
            description="Parameters of the node.",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Of the node."),
        DeclareLaunchArgument("name", default_value="segmentation", description="Of the node."),
        DeclareLaunchArgument(
            "autostart",
            default_value="true",
            description="Configure and activate the node; false: a lifecycle manager does.",
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", description="Take the time from /clock."
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_node)])


def _node(context: LaunchContext) -> list[Node]:
    # An empty `student` must not override the file's, so it is only passed when given.
    student = LaunchConfiguration("student").perform(context)
    own = [{"student": student}] if student else []
    common = {name: _boolean(context, name) for name in ("autostart", "use_sim_time")}
    node = Node(
        package="evdistill_ros",
        executable="segmentation_node",
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
