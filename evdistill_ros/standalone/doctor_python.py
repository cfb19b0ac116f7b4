"""Looks at the Python that a node runs in: who owns it, and whether ROS works beside our NumPy."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from evdistill_ros.standalone.finding import Finding

SYSTEM_PYTHON = "/usr/bin/python3"
VENV = "python3 -m venv --system-site-packages venv && source venv/bin/activate"
CONSTRAINTS = (
    'pip install -c constraints-ros.txt "evdistill_ros[dds]", in an environment of its own'
)
MODULES = {
    "rclpy": "the rclpy node cannot start; evdistill live can",
    "sensor_msgs.msg": "the rclpy node cannot start; evdistill live can",
    "cv_bridge": "the rclpy node reads camera images without it",
}
"""Module of ROS -> what does not work without it."""
# cv_bridge is imported lazily inside; only a conversion shows that it works.
_TRIALS = {
    "cv_bridge": "import numpy, cv_bridge; cv_bridge.CvBridge().cv2_to_imgmsg("
    "numpy.zeros((1, 1, 3), 'u1'), 'bgr8'); from cv_bridge.boost.cv_bridge_boost import cvtColor2",
}
_TRIAL_S = 30.0

Run = Callable[[str, str], tuple[int, str]]
"""Takes a Python and a program; returns exit code and standard error."""


def run_python(python: str, program: str) -> tuple[int, str]:
    """Run a program; 127 and the reason when that Python is not there or takes too long."""
    try:
        done = subprocess.run(
            [python, "-c", program], capture_output=True, text=True, timeout=_TRIAL_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, done.stdout + done.stderr


def check_python(
    *,
    run: Run = run_python,
    stdlib: Path | None = None,
    is_own: bool = sys.prefix != sys.base_prefix,
) -> Iterator[Finding]:
    """Look at the environment, at NumPy, and at each module of ROS that the rclpy node needs.

    Args:
        run: runs trials in processes of their own: what is broken may crash.
        stdlib: folder of the standard library, where a system marks its Python as its own.
        is_own: this is a virtual environment.
    """
    marked = (stdlib or Path(sysconfig.get_path("stdlib"))) / "EXTERNALLY-MANAGED"
    version = ".".join(map(str, sys.version_info[:3]))
    if marked.exists() and not is_own:
        yield Finding(
            "warn", "Python", f"{version} of the system: pip does not install into it", VENV
        )
    else:
        yield Finding("ok", "Python", f"{version} in {sys.prefix}")
    broken = []
    there = []
    for module, loss in MODULES.items():
        code, said = run(sys.executable, _TRIALS.get(module, f"import {module}"))
        if not code:
            there.append(module)
        elif f"No module named '{module.split('.')[0]}'" not in said:
            lines = said.strip().splitlines() or [f"exit code {code}"]
            broken.append(Finding("warn", module, f"does not work: {lines[-1]}; {loss}"))
    yield _numpy(run, has_ros=bool(there or broken), is_broken=bool(broken))
    for finding in broken:
        yield Finding(finding.level, finding.topic, finding.text, CONSTRAINTS)
    if there:
        yield Finding("ok", "ROS", ", ".join(there))


def _numpy(run: Run, *, has_ros: bool, is_broken: bool) -> Finding:
    ours = importlib.metadata.version("numpy")
    code, said = run(SYSTEM_PYTHON, "import numpy; print(numpy.__version__)")
    theirs = said.strip().splitlines()[-1] if not code and said.strip() else ""
    if has_ros and theirs and theirs.split(".")[0] != ours.split(".")[0]:
        # ROS from packages is compiled against the NumPy of the system's Python.
        return Finding(
            "warn", "NumPy", f"{ours} here, {theirs} in the system that ROS was built for"
            f"{'' if is_broken else '; what was tried works all the same'}",
            CONSTRAINTS,
        )  # fmt: skip
    return Finding("ok", "NumPy", ours)
