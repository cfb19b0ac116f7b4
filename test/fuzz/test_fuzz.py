"""A few steps of every fuzz target; the long runs stand in docs/explanation/fuzzing.md."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


def fuzz(tmp_path, *arguments):
    report = tmp_path / "report.json"
    command = [sys.executable, RUN, "--findings", tmp_path / "findings", "--report", report]
    done = subprocess.run(
        [str(c) for c in [*command, *arguments]],
        capture_output=True, text=True, check=False, cwd=RUN.parents[2],
    )  # fmt: skip
    assert report.exists(), done.stdout + done.stderr
    return done, json.loads(report.read_text())


@pytest.mark.parametrize(
    ("pattern", "steps", "inputs"),
    [("decoder-*", 4, 7 * 8000), ("stream", 8, 1600), ("cdr", 8, 4000)],
)
def test_packets_and_messages(tmp_path, pattern, steps, inputs):
    done, report = fuzz(tmp_path, "--target", pattern, "--steps", steps, "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["inputs"] == inputs, done.stdout


@pytest.mark.slow
def test_files(tmp_path):
    done, report = fuzz(tmp_path, "--target", "file-*", "metadata", "--steps", 6)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row["inputs"] for row in report["targets"]} == {6}, done.stdout


def test_a_finding_is_reported_saved_and_can_be_repeated(tmp_path, monkeypatch):
    """The net has no hole: a reader that raises something else is found."""
    broken = tmp_path / "sitecustomize.py"
    broken.write_text(
        "import evdistill_core.messages.cdr as cdr\n"
        "whole = cdr.CdrReader.text\n"
        "def text(self, field):\n"
        "    try: return whole(self, field)\n"
        "    except ValueError as error: raise IndexError('broken on purpose') from error\n"
        "cdr.CdrReader.text = text\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{RUN.parents[2]}")
    arguments = ("--target", "stream", "--steps", "100", "--max-findings", "1")
    done, report = fuzz(tmp_path, *arguments)
    assert done.returncode == 1
    (finding,) = report["targets"][0]["findings"]
    saved = [f for f in (tmp_path / "findings").glob("finding-stream-*") if f.stat().st_size]
    texts = [f.read_text() for f in saved if f.suffix == ".txt"]
    assert "broken on purpose" in finding["what"] + "".join(texts)
    done, report = fuzz(tmp_path, *arguments, "--step", finding["step"])
    assert report["targets"][0]["findings"][0]["what"] == finding["what"]
