"""A camera and its node: `ros2 launch evdistill_ros camera.launch.py driver:=metavision`.

Needs the driver's package: ros-$ROS_DISTRO-metavision-driver (Prophesee and IDS, Lucid cameras) or
ros-$ROS_DISTRO-libcaer-driver (DAVIS, DVXplorer).
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

CAMERA = LaunchConfiguration("camera")


def generate_launch_description() -> LaunchDescription:
    share, node = FindPackageShare("evdistill_ros"), LaunchConfiguration("node")
    arguments = [
        DeclareLaunchArgument(
            "driver",
            default_value="libcaer",
            choices=["libcaer", "metavision"],
            description="libcaer: DAVIS and DVXplorer; metavision: Prophesee sensors.",
        ),
        DeclareLaunchArgument(
            "camera", default_value="event_camera", description="Name of the driver's node."
        ),
        DeclareLaunchArgument(
            "device_type",
            default_value="davis",
            description="libcaer only: davis, dvxplorer, dvs128.",
        ),
        DeclareLaunchArgument(
            "serial", default_value="", description="Serial number; empty: the first camera found."
        ),
        DeclareLaunchArgument(
            "node",
            default_value="seg",
            choices=["seg", "recognition"],
            description="What works on its events; recognition needs a student.",
        ),
        DeclareLaunchArgument("student", default_value="", description="Student file; empty: own."),
        DeclareLaunchArgument(
            "params_file",
            default_value=[share, "/config/", node, ".yaml"],
            description="Parameters of that node.",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Of that node."),
        DeclareLaunchArgument("log_level", default_value="info", description="Of that node."),
        DeclareLaunchArgument(
            "respawn", default_value="false", description="Start that node again when it has ended."
        ),
        DeclareLaunchArgument(
            "view", default_value="false", description="Start RViz with a layout for that node."
        ),
    ]
    names = ("camera", "student", "params_file", "namespace", "log_level", "respawn", "view")
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource([share, "/launch/", node, ".launch.py"]),
        launch_arguments={name: LaunchConfiguration(name) for name in names}.items(),
    )
    return LaunchDescription([*arguments, *_drivers(), perception])


def _drivers() -> list[Node]:
    libcaer = Node(
        package="libcaer_driver",
        executable="driver_node",
        name=CAMERA,
        parameters=[
            {
                "device_type": LaunchConfiguration("device_type"),
                "serial": ParameterValue(LaunchConfiguration("serial"), value_type=str),
                "encoding": "libcaer_cmp",
                "camera_frame_id": CAMERA,
            }
        ],
        condition=_is_driver("libcaer"),
        output="screen",
    )
    metavision = Node(
        package="metavision_driver",
        executable="driver_node",
        name=CAMERA,
        parameters=[
            {
                "serial": ParameterValue(LaunchConfiguration("serial"), value_type=str),
                "frame_id": CAMERA,
                "event_message_time_threshold": 1.0e-3,
            }
        ],
        condition=_is_driver("metavision"),
        output="screen",
    )
    return [libcaer, metavision]


def _is_driver(name: str) -> IfCondition:
    # Humble has no EqualsSubstitution.
    return IfCondition(PythonExpression(["'", LaunchConfiguration("driver"), f"' == '{name}'"]))
