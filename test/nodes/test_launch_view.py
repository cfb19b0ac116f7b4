"""`view:=true` of the launch files: RViz with the topics of the node, or what is missing.

RViz itself opens a window; a program that writes down how it was called stands in for it.
"""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
# Only what starts RViz: the node has tests of its own.
LAUNCH = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from evdistill_ros.nodes.launching import _rviz

def generate_launch_description():
    names = {"view": "true", "namespace": "robot1", "name": "eyes", "image": "/cam/image_raw",
             "use_sim_time": "false"}
    declared = [DeclareLaunchArgument(n, default_value=v) for n, v in names.items()]
    return LaunchDescription([*declared, OpaqueFunction(function=_rviz, args=["segmentation"])])
"""


def package(prefix, name):
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True, exist_ok=True)
    (index / name).touch()
    (prefix / "lib" / name).mkdir(parents=True, exist_ok=True)


def launch(tmp_path, *arguments, has_rviz):
    (tmp_path / "view.launch.py").write_text(LAUNCH)
    prefix = tmp_path / "prefix"
    package(prefix, "evdistill_ros")
    called = tmp_path / "called"
    if has_rviz:
        package(prefix, "rviz2")
        program = prefix / "lib" / "rviz2" / "rviz2"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {called}\n')
        program.chmod(0o755)
    environment = os.environ | {
        "AMENT_PREFIX_PATH": f"{prefix}:{os.environ.get('AMENT_PREFIX_PATH', '')}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        "ROS_LOG_DIR": str(tmp_path / "log"),
    }
    done = subprocess.run(
        ["ros2", "launch", str(tmp_path / "view.launch.py"), *arguments],
        env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr, called.read_text().split() if called.exists() else []


def test_rviz_gets_the_layout_and_the_topics_of_the_node(tmp_path, rmw):
    _, words = launch(tmp_path, has_rviz=True)
    assert words[0] == "-d"
    assert words[1].endswith("share/evdistill_ros/rviz/segmentation.rviz")
    assert "/segmentation/overlay:=/robot1/eyes/overlay" in words
    assert "/segmentation/mask_color:=/robot1/eyes/mask_color" in words
    assert "/event_camera/image_raw:=/cam/image_raw" in words


def test_without_rviz_the_node_starts_and_the_cure_is_told(tmp_path, rmw):
    said, words = launch(tmp_path, has_rviz=False)
    assert words == []
    assert "view:=true needs rviz2" in said
    assert "sudo apt install ros-$ROS_DISTRO-rviz2" in said


def test_nobody_asks_and_nothing_is_said(tmp_path, rmw):
    said, words = launch(tmp_path, "view:=false", has_rviz=True)
    assert words == []
    assert "rviz2" not in said


def test_the_layouts_name_no_topic_that_is_not_renamed():
    known = {
        f"/{t}/{n}" for t in ("segmentation", "recognition") for n in ("overlay", "mask_color")
    }
    for layout in (ROOT / "rviz").glob("*.rviz"):
        lines = layout.read_text().splitlines()
        topics = {line.split()[-1] for line in lines if line.strip().startswith("Value: /")}
        assert topics <= {*known, "/event_camera/image_raw"}, layout.name
