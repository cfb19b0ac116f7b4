"""The Python of a robot as `evdistill doctor` sees it."""

import importlib.metadata

import pytest

from evdistill_ros.standalone.doctor_python import SYSTEM_PYTHON, check_python

OURS = importlib.metadata.version("numpy")
ABSENT = {
    m: (1, f"ModuleNotFoundError: No module named '{m}'")
    for m in ("rclpy", "sensor_msgs", "cv_bridge")
}


def looked(tmp_path, *, system_numpy="1.26.4", is_own=True, **modules):
    """Return the findings by topic, with modules that answer as told and are absent else."""

    def run(python, program):
        if python == SYSTEM_PYTHON:
            return (0, system_numpy) if system_numpy else (127, "not there")
        name = next(m for m in ABSENT if m in program)
        return modules.get(name, ABSENT[name])

    return {f.topic: f for f in check_python(run=run, stdlib=tmp_path, is_own=is_own)}


def test_without_ros_all_is_well(tmp_path):
    found = looked(tmp_path)
    assert {f.level for f in found.values()} == {"ok"}
    assert found["NumPy"].text == OURS
    assert "ROS" not in found


def test_a_python_of_the_system_needs_an_environment(tmp_path):
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    assert looked(tmp_path)["Python"].level == "ok"  # one stands in it already
    found = looked(tmp_path, is_own=False)["Python"]
    assert found.level == "warn"
    assert "venv --system-site-packages" in found.cure


@pytest.mark.parametrize(("system", "level"), [("9.9.9", "warn"), (OURS, "ok"), ("", "ok")])
def test_another_numpy_than_that_of_ros(tmp_path, system, level):
    found = looked(tmp_path, system_numpy=system, rclpy=(0, ""))
    assert found["NumPy"].level == level
    assert found["ROS"].text == "rclpy"
    if level == "warn":
        assert f"{OURS} here, 9.9.9 in the system" in found["NumPy"].text
        assert "constraints-ros.txt" in found["NumPy"].cure


def test_a_broken_cv_bridge_is_named_with_its_reason(tmp_path):
    said = "Traceback ...\nAttributeError: _ARRAY_API not found"
    found = looked(tmp_path, rclpy=(0, ""), sensor_msgs=(0, ""), cv_bridge=(1, said))
    assert found["cv_bridge"].level == "warn"
    assert "AttributeError: _ARRAY_API not found" in found["cv_bridge"].text
    assert "constraints-ros.txt" in found["cv_bridge"].cure
    assert found["ROS"].text == "rclpy, sensor_msgs.msg"


def test_a_crash_is_a_finding_too(tmp_path):
    found = looked(tmp_path, cv_bridge=(-11, ""))
    assert "exit code -11" in found["cv_bridge"].text


def test_this_python_is_looked_at_for_real():
    found = {f.topic: f for f in check_python()}
    assert found["NumPy"].text.startswith(OURS)
    assert "error" not in {f.level for f in found.values()}
