"""The package of docs/how-to/extending.md, installed by pip and used through the command line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE = Path(__file__).parent / "package"
DEMO = ROOT / "demo" / "davis346_street.mcap"
BY_ENTRY_POINT = {
    "network": "two-convolutions",
    "representation": "recent-counts",
    "layout": "side-by-side",
    "runtime": "mirrored",
}
BY_OBJECT = {
    "network": "evdistill_example.network:TwoConvolutions",
    "representation": "evdistill_example.representation:recent_counts",
    "layout": "evdistill_example.layout:side_by_side",
    "runtime": "evdistill_example.runtime:Mirrored",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return the folder into which pip installed the package."""
    source = tmp_path_factory.mktemp("source")
    for path in PACKAGE.rglob("*"):
        if path.suffix in (".py", ".toml"):
            target = source / path.relative_to(PACKAGE)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    target = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
         "--no-index", "--target", target, source],
        check=True, capture_output=True,
    )  # fmt: skip
    return target


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return a folder of two images in the layout of the package."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "day").mkdir()
    rng = np.random.default_rng(0)
    for k in range(2):
        label = np.zeros((72, 96), np.uint8)
        label[30:50, 20 + 9 * k : 60 + 9 * k] = 1
        label[:8] = 255
        grey = np.where(label == 1, 220, 60) + rng.normal(0, 9, label.shape)
        colours = np.repeat(np.clip(grey, 0, 255)[..., None], 3, axis=2).astype(np.uint8)
        cv2.imwrite(str(folder / "day" / f"{k}.jpg"), colours)
        cv2.imwrite(str(folder / "day" / f"{k}.ids.png"), label)
    return folder


def experiment(names, images):
    simulation = {
        "images": {"root": str(images), "split": "day", "layout": names["layout"]},
        "height": 32,
        "width": 48,
    }
    return {
        "name": "own",
        "steps": 2,
        "batch_size": 2,
        "network": {"name": names["network"], "options": {"width": 4}},
        "input": {"kind": names["representation"], "window_us": 20_000, "scale": 1.0},
        "data": {"train": [{"name": "stills", "simulation": simulation}]},
        "threads": 1,
        "workers": 0,
    }


def command(installed, *arguments, allowed=""):
    """Run ``evdistill`` as a user does who installed the package."""
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{installed}",
        "EVDISTILL_PLUGINS": allowed,
    }
    return subprocess.run(
        [sys.executable, "-m", "evdistill_core", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


def succeed(*arguments, **more):
    done = command(*arguments, **more)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def refused(*arguments, **more):
    done = command(*arguments, **more)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    return line


def test_pip_installs_the_entry_points(installed):
    (entries,) = installed.glob("*.dist-info/entry_points.txt")
    text = entries.read_text()
    for kind, name in BY_ENTRY_POINT.items():
        assert f"[evdistill.{kind}s]\n{name} = {BY_OBJECT[kind]}" in text


@pytest.mark.slow
@pytest.mark.parametrize("names", [BY_ENTRY_POINT, BY_OBJECT], ids=["entry points", "objects"])
def test_train_export_and_run_with_parts_of_ones_own(installed, images, tmp_path, names):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(experiment(names, images)))
    run, student, out = tmp_path / "run", tmp_path / "own.evstudent", tmp_path / "out"
    succeed(installed, "train", tmp_path / "own.yaml", "--out", run)
    # What a file names by package.module:function is code from elsewhere: the user allows it.
    allow = {"allowed": "evdistill_example"} if names is BY_OBJECT else {}
    if allow:
        said = refused(installed, "export", run / "last.pt", student)
        assert "last.pt names the network" in said
        assert "EVDISTILL_PLUGINS=evdistill_example" in said
    succeed(installed, "export", run / "last.pt", student, **allow)
    runtime = f"runtime:={names['runtime']}"
    arguments = ["run", DEMO, "--end", "0.3", "--student", student, "-p", runtime]
    succeed(installed, *arguments, "--out", out, **allow)
    report = json.loads((out / "report.json").read_text())
    assert report["windows"] > 10
    assert f" on {names['network']} on ONNX Runtime" in report["student"]
    assert report["student"].endswith("mirrored")
    nowhere = tmp_path / "no package here"
    said = refused(nowhere, "run", DEMO, "--student", student, "--out", tmp_path / "o", **allow)
    missing = "no module" if allow else "unknown representation 'recent-counts'; known: counts2"
    assert missing in said


def test_the_code_of_the_documentation_is_that_of_the_package():
    text = (ROOT / "docs" / "how-to" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- (\S+) -->\n```(?:python|toml)\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 5
    for name, block in blocks:
        assert block in (PACKAGE / name).read_text(encoding="utf-8"), name
