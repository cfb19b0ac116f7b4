"""What `pip install .` and `colcon build` put where."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def source(project_copy, tmp_path):
    """The project, for a build that leaves files in it."""
    return shutil.copytree(project_copy, tmp_path / "source")


def expected_files():
    launch = [f"share/evdistill_ros/launch/{p.name}" for p in ROOT.glob("launch/*.launch.py")]
    config = [f"share/evdistill_ros/config/{p.name}" for p in ROOT.glob("config/*.yaml")]
    rviz = [f"share/evdistill_ros/rviz/{p.name}" for p in ROOT.glob("rviz/*.rviz")]
    train = [f"share/evdistill_ros/config/train/{p.name}" for p in ROOT.glob("config/train/*.yaml")]
    assert launch
    assert config
    return [
        *launch, *config, *train, *rviz,
        "share/evdistill_ros/package.xml",
        "share/ament_index/resource_index/packages/evdistill_ros",
    ]  # fmt: skip


def test_pip_installs_both_packages_launch_config_and_the_command(source, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
         "--no-index", "-w", tmp_path, source],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entries = configparser.ConfigParser()
        (entry_file,) = [n for n in names if n.endswith("entry_points.txt")]
        entries.read_string(archive.read(entry_file).decode())
    for package in ("evdistill_core", "evdistill_ros"):
        tracked = [p.relative_to(source).as_posix() for p in source.glob(f"{package}/**/*.py")]
        assert set(tracked) <= set(names)
    assets = [p.relative_to(source).as_posix() for p in source.glob("evdistill_core/assets/*")]
    assert set(assets) <= set(names)
    for name in expected_files():
        assert any(n.endswith(f".data/data/{name}") for n in names), name
    assert entries["console_scripts"]["evdistill"] == "evdistill_core.cli.main:main"


def test_an_editable_install_is_a_path_and_warns_of_nothing(source, tmp_path):
    code = "import setuptools.build_meta as b, sys; b.build_editable(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Warning" not in done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [n for n in archive.namelist() if n.endswith(".pth")]
        assert archive.read(path).decode().strip() == str(source)


def _installed_by(target, tmp_path):
    """The extras that pip installs for a target of the Makefile, in a folder without .venv."""
    done = subprocess.run(
        ["make", "-n", target, f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    # A make inside make prints what it would install too, since nothing was.
    return sorted(set(re.findall(r'-e "\.\[(.*)\]"', done.stdout)))


def test_make_run_installs_less_than_make_test(tmp_path):
    assert _installed_by("run", tmp_path) == ["dds,view"]
    assert _installed_by("test", tmp_path) == ["dds,view,train,test,docs"]


def test_make_test_completes_what_make_run_installed(tmp_path):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    for stamp in ("bin/python", ".installed-demo"):
        (tmp_path / "venv" / stamp).touch()
    assert _installed_by("run", tmp_path) == []
    assert _installed_by("test", tmp_path) == ["dds,view,train,test,docs"]


@pytest.mark.ros
@pytest.mark.slow
def test_colcon_builds_the_same(source, tmp_path):
    colcon = shutil.which("colcon")
    if colcon is None:
        pytest.skip("colcon is not installed")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [colcon, "--log-base", tmp_path / "log", "build", "--base-paths", source,
         "--build-base", tmp_path / "build", "--install-base", tmp_path / "install"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    prefix = tmp_path / "install" / "evdistill_ros"
    for name in expected_files():
        assert (prefix / name).is_file(), name
    for script in ("evdistill", "segmentation_node", "recognition_node", "replay_recorder"):
        assert os.access(prefix / "lib" / "evdistill_ros" / script, os.X_OK), script
    for package in ("evdistill_core", "evdistill_ros"):
        assert list(prefix.glob(f"lib/python3*/site-packages/{package}/__init__.py")), package
