"""Tests on a real ROS 2: each runs in a process of its own with the installation sourced.

An installation is taken from the environment when one is sourced, else the newest in /opt/ros.
Without one the tests are skipped and say so. Each test runs under every RMW that is installed, or
under that of RMW_IMPLEMENTATION.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from domains import domain_of_a_test
from ros_vendors import vendors

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

INSIDE = "EVDISTILL_ROS_TEST"
PACKAGES = ("rclpy", "launch_ros", "event_camera_msgs", "vision_msgs")
TEST_S = 270
"""Longest time of a test without a mark of its own. The limits around it are longer, from the
inside out: pytest in the process inside, that process, the test as it is seen from here."""


_scratch = tempfile.TemporaryDirectory(prefix="evdistill-ros-")


def find_setup() -> Path | None:
    """Return setup.bash of the newest installation in /opt/ros."""
    found = sorted(Path("/opt/ros").glob("*/setup.bash"))
    return found[-1] if found else None


def _sourced() -> bool:
    return all(importlib.util.find_spec(p) is not None for p in PACKAGES)


def pytest_collection_modifyitems(items):
    # The process inside keeps its own time; one that is cut off from here ends the whole run.
    for item in items:
        here = Path(__file__).parent in item.path.parents
        if here and not os.environ.get(INSIDE):
            item.add_marker(pytest.mark.timeout(_limit_s(item) + 60), append=False)


def _limit_s(item) -> float:
    marks = [m.args[0] for m in item.iter_markers("timeout")]
    return marks[-1] if marks else TEST_S  # the last: we put ours before it


def pytest_generate_tests(metafunc):
    if metafunc.definition.get_closest_marker("ros") is None:
        return
    if os.environ.get(INSIDE):  # RMW_IMPLEMENTATION says which; names need no part for it
        metafunc.parametrize("rmw", vendors(), ids=[pytest.HIDDEN_PARAM], indirect=True)
    else:
        metafunc.parametrize("rmw", vendors(), indirect=True)


@pytest.fixture(autouse=True)
def rmw(request):
    """The RMW that a test marked ros runs under; read by ROS at its first use in the process."""
    return getattr(request, "param", "")


def pytest_runtest_protocol(item, nextitem):
    # pytest asks this hook for every test of the run, not only for those of this folder.
    here = Path(__file__).parent in item.path.parents
    if not here or os.environ.get(INSIDE) or item.get_closest_marker("ros") is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    item.ihook.pytest_runtest_logreport(report=_run_outside(item))
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # What the test before has left standing for this module: nobody else takes it down.
    item.session._setupstate.teardown_exact(nextitem)
    return True


def _run_outside(item) -> pytest.TestReport:
    began = time.monotonic()
    setup = find_setup()
    if setup is None and not _sourced():
        reason = "no ROS 2 here: nothing sourced, and no /opt/ros/*/setup.bash"
        text, outcome = (item.location[0], item.location[1], reason), "skipped"
    else:
        text, outcome = _run(item, setup)
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome=outcome,
        longrepr=text,
        when="call",
        duration=time.monotonic() - began,
    )


def _name_inside(item) -> str:
    """Return the name that the test has in the process inside, where the RMW is no part of it.

    What stays is in the order of this process: with one parameter beside the RMW there is none.
    """
    rest = item.callspec.id.replace(item.callspec.params["rmw"], "", 1).strip("-")
    return f"{item.originalname}[{rest}]" if rest else item.originalname


def _run(item, setup):
    source = "" if _sourced() or setup is None else f"source {setup} && "
    node = f"{Path(item.path).relative_to(REPOSITORY)}::{_name_inside(item)}"
    limit_s = _limit_s(item)
    command = f'{source}exec "$0" -m pytest -q -x -p no:cacheprovider --timeout {limit_s:g} "$1"'
    environment = {
        **os.environ,
        INSIDE: "1",
        "EVDISTILL_TINY_STUDENT": str(Path(_scratch.name) / "tiny.evstudent"),
        "EVDISTILL_TINY_RECOGNISER": str(Path(_scratch.name) / "tiny-cls.evstudent"),
        # A domain that nobody else uses, on this machine alone.
        "ROS_DOMAIN_ID": str(domain_of_a_test()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "RMW_IMPLEMENTATION": item.callspec.params["rmw"],
    }
    process = subprocess.Popen(
        ["bash", "-c", command, sys.executable, node],
        cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=limit_s + 30)
    except subprocess.TimeoutExpired:
        # With what it started, which would keep the pipe open and us waiting.
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        return f"took more than {limit_s + 30} s: {said}", "failed"
    if process.returncode == 0 and " skipped" in said.splitlines()[-1]:
        reason = next((s for s in said.splitlines() if s.startswith("SKIPPED")), "skipped")
        return (item.location[0], item.location[1], reason), "skipped"
    return (None, "passed") if process.returncode == 0 else (said, "failed")


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The package installed as colcon does it; the prefix is added to the ament path."""
    import shutil

    folder = tmp_path_factory.mktemp("install")
    source, prefix = folder / "src", folder / "prefix"
    skip = shutil.ignore_patterns(".*", "out", "build", "*.egg-info", "__pycache__", "test")
    shutil.copytree(REPOSITORY, source, ignore=skip)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "install", "--prefix", str(prefix),
         "--single-version-externally-managed", "--record", str(folder / "record.txt")],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    os.environ["AMENT_PREFIX_PATH"] = f"{prefix}:{os.environ['AMENT_PREFIX_PATH']}"
    site = next(prefix.glob("lib/python*/site-packages"))
    # The modules come from here, where their compiled kernels are cached; test_install.py tests
    # that the installed ones are the same.
    os.environ["PYTHONPATH"] = f"{REPOSITORY}:{site}:{os.environ.get('PYTHONPATH', '')}"
    return prefix


@pytest.fixture
def packets():
    """The event packets of the demo recording's first second."""
    from evdistill_core.recordings.opening import open_recording

    path = REPOSITORY / "demo" / "davis346_street.mcap"
    if not path.exists():
        pytest.skip(f"no {path}")
    with open_recording(path) as recording:
        return [p for _, p in zip(range(100), recording.packets(), strict=False)]


@pytest.fixture
def graph():
    from ros_graph import Graph

    graph = Graph()
    yield graph
    graph.close()
