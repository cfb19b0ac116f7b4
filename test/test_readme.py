"""The README's commands, run as they stand in a folder of their own."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from domains import domain_of_a_test

from evdistill_core.perception import parameters

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- run: (.+?) -->\n```sh\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def workplace(tmp_path):
    for name in ("demo", "evdistill_core"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def run(block, folder, timeout_s=300):
    """Run the lines of a block; every line must succeed, as for somebody who types them."""
    commands = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ROS_DOMAIN_ID": str(domain_of_a_test()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    with subprocess.Popen(
        ["bash", "-euc", f"set -o pipefail\n{BLOCKS[block]}\nwait"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            out, errors = shell.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)  # the shell and the command that it waits for
            raise
    assert shell.returncode == 0, f"{out[-3000:]}\n{errors[-3000:]}"
    return out


def test_every_block_of_commands_is_tested():
    fences = len(re.findall(r"^```sh$", TEXT, re.MULTILINE))
    named = re.findall(r"<!-- tested by (.+?) -->\n```sh", TEXT)
    assert len(named) + len(BLOCKS) == fences
    assert set(BLOCKS) == {"live", "as it is", "with tiny images"}
    for path in re.findall(r"test/[\w./]*\w", " ".join(named)):
        assert (ROOT / path).exists(), path


def test_what_the_readme_points_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_the_defaults_it_names_are_those_of_the_node():
    table = TEXT.split("| parameter | default | meaning |")[1].split("\n\n")[0]
    told = {}
    for names, values in re.findall(r"^\| (`.+?) \| (.+?) \|", table, re.MULTILINE):
        told |= dict(zip(re.findall(r"`(\w+)`", names), values.split(", "), strict=False))
    numbers = {k: float(v) for k, v in told.items() if re.fullmatch(r"-?[\d.]+", v)}
    assert numbers == {k: parameters.defaults()[k] for k in numbers}
    assert len(numbers) >= 3
    assert set(told) <= set(parameters.defaults())


@pytest.mark.slow
def test_recordings(workplace):
    out = run("as it is", workplace)
    assert "78,830" in out
    for name in ("overlay.mp4", "overlay.png", "masks.mcap", "report.json"):
        assert (workplace / "out" / "street" / name).is_file()


@pytest.mark.slow
def test_live(workplace):
    run("live", workplace)


@pytest.mark.slow
@pytest.mark.timeout(930)  # simulating, training, scoring and export, each in a process of its own
def test_training(workplace, make_camvid):
    for split in ("train", "val", "test"):
        make_camvid(workplace / "data" / "camvid", split)
    for path in (workplace / "config").glob("*/street6*.yaml"):
        config = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(shrunk(config)))
    run("with tiny images", workplace, timeout_s=900)
    assert (workplace / "runs" / "street6-base" / "report.html").is_file()
    assert (workplace / "out" / "evaluation" / "report.html").is_file()
    assert (workplace / "out" / "mine" / "report.json").is_file()


def shrunk(config):
    """The experiment with a few small windows and two steps."""
    small = {
        "steps": 2, "batch_size": 2, "count": 2, "unique": 4, "height": 64, "width": 96,
        "warmup_steps": 1, "validate_every": 2, "checkpoint_every": 1, "workers": 0,
    }  # fmt: skip
    if isinstance(config, dict):
        return {k: small.get(k, shrunk(v)) for k, v in config.items()}
    return [shrunk(v) for v in config] if isinstance(config, list) else config
