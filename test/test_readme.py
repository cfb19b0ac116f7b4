"""The README's commands, run as they stand in a folder of their own."""

import re

import commands
import pytest
from commands import ROOT, run

PAGE = ROOT / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = commands.blocks(PAGE)


@pytest.fixture
def workplace(tmp_path):
    for name in ("demo", "evdistill_core", "config"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_every_block_of_commands_is_tested():
    fences = len(re.findall(r"^```sh$", TEXT, re.MULTILINE))
    named = re.findall(r"<!-- tested by (.+?) -->\n```sh", TEXT)
    assert len(named) + len(BLOCKS) == fences
    assert set(BLOCKS) == {"live", "as it is"}
    for path in re.findall(r"test/[\w./]*\w", " ".join(named)):
        assert (ROOT / path).exists(), path


def test_what_the_readme_points_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_its_lines_of_python_run():
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]
    shown = []
    exec(code, {"print": lambda *a: shown.append(a)})
    assert len(shown) > 40


@pytest.mark.slow
def test_recordings(workplace):
    out = run(BLOCKS["as it is"], workplace)
    assert "78,830" in out
    for name in ("overlay.mp4", "overlay.png", "masks.mcap", "report.json"):
        assert (workplace / "out" / "street" / name).is_file()


@pytest.mark.slow
def test_live(workplace):
    run(BLOCKS["live"], workplace)
