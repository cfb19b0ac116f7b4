"""The versions of constraints-ros.txt, which stand beside ROS 2: NumPy 1.26 and its OpenCV."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PINS = re.findall(r"^\S+==\S+$", (ROOT / "constraints-ros.txt").read_text(), re.MULTILINE)
TESTED = (
    "test/messages", "test/events/test_decoders.py", "test/drawing/test_drawing.py",
    "test/inference/test_postprocess.py",
)  # fmt: skip


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A folder with those versions alone, which goes before all others."""
    folder = tmp_path_factory.mktemp("ros")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, *PINS],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"pip cannot install {PINS} here: {done.stderr.strip()[-200:]}")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def test_numpy_is_that_of_ros_and_opencv_goes_with_it():
    numpy, opencv = PINS
    assert numpy.startswith("numpy==1.26.")
    assert opencv.startswith("opencv-python-headless==4.")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_robot_runs_passes_with_numpy_1(beside):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
         "-m", "not slow and not ros", *TESTED],
        cwd=ROOT, env=beside, capture_output=True, text=True, timeout=570, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.slow
def test_the_front_doors_open_with_numpy_1(beside):
    code = "import numpy; assert numpy.__version__.startswith('1.26'); import evdistill_core as e; "
    code += "print(len(list(e.Student.load().predict('demo/davis346_street.mcap'))))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=beside, capture_output=True, text=True,
        timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 40
