"""Commands of the tutorials and of pages for training, run as they stand."""

import re
import shutil

import commands
import pytest
import yaml
from commands import ROOT, run

TUTORIALS = ROOT / "docs" / "tutorials"


@pytest.fixture
def workplace(tmp_path):
    for name in ("demo", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


FEW_STEPS = {"steps": 2, "warmup_steps": 1}
SMALL = FEW_STEPS | {
    "batch_size": 2, "count": 2, "unique": 4, "height": 64, "width": 96, "validate_every": 2,
    "checkpoint_every": 1, "workers": 0,
}  # fmt: skip


def shrunk(config, values):
    """Return an experiment with other values wherever it has such a key."""
    if isinstance(config, dict):
        return {k: values.get(k, shrunk(v, values)) for k, v in config.items()}
    return [shrunk(v, values) for v in config] if isinstance(config, list) else config


def shrink(pattern, workplace, values):
    for path in (workplace / "config").glob(pattern):
        path.write_text(yaml.safe_dump(shrunk(yaml.safe_load(path.read_text()), values)))


@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda p: p.stem)
def test_every_block_of_a_tutorial_is_run_or_installs(page):
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"(?<!-->\n)```sh\n(.*?)```", text, re.DOTALL):
        assert block.strip() == "make run"  # tested by test/test_install.py and test_demo.py


@pytest.mark.slow
@pytest.mark.timeout(630)
def test_first_masks(workplace):
    for block in commands.blocks(TUTORIALS / "first-masks.md").values():
        run(block, workplace)
    for name in ("street", "nano", "long"):
        assert (workplace / "out" / "first" / name / "overlay.png").is_file()


@pytest.mark.slow
@pytest.mark.timeout(930)
def test_own_student(workplace):
    """The tutorial as it stands, with the steps of its profiles cut to two."""
    shrink("train/*-tiny.yaml", workplace, FEW_STEPS)
    for block in commands.blocks(TUTORIALS / "own-student.md").values():
        run(block, workplace, timeout_s=900)
    assert (workplace / "out" / "drawn.png").is_file()
    assert (workplace / "out" / "mine" / "report.json").is_file()


@pytest.mark.slow
@pytest.mark.timeout(630)
def test_evaluate_a_bag(workplace):
    for block in commands.blocks(TUTORIALS / "evaluate-a-bag.md").values():
        out = run(block, workplace, timeout_s=600)
    assert "mIoU near events" in out
    assert (workplace / "out" / "scores" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(930)  # simulating, training, scoring and export, each in a process of its own
def test_training(workplace, make_camvid):
    for split in ("train", "val", "test"):
        make_camvid(workplace / "data" / "camvid", split)
    shrink("*/street6*.yaml", workplace, SMALL)
    block = commands.blocks(ROOT / "docs" / "how-to" / "training.md")["with tiny images"]
    run(block, workplace, timeout_s=900)
    assert (workplace / "runs" / "street6-base" / "report.html").is_file()
    assert (workplace / "runs" / "other" / "last.pt").is_file()
    assert (workplace / "out" / "evaluation" / "report.html").is_file()
    assert (workplace / "my.evstudent").is_file()
