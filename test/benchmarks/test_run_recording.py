import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "run_recording.py"


@pytest.fixture
def program():
    spec = importlib.util.spec_from_file_location("run_recording", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_stage_is_a_function_of_today(program):
    for owner, name, label in program.STAGES:
        assert callable(getattr(owner, name, None)), label


def test_time_of_a_stage_is_without_the_stages_inside_it(program, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "thread_time", lambda: now[0])

    class Work:
        def outer(self):
            now[0] += 2.0
            self.inner()
            self.inner()
            now[0] += 1.0

        def inner(self):
            now[0] += 10.0

    found = program.Stages()
    found.measure(Work, "outer", "outer")
    found.measure(Work, "inner", "inner")
    Work().outer()
    assert found.seconds == {"outer": 3.0, "inner": 20.0}


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path, tiny_student, shared_data):
    recording = shared_data / "recordings" / "davis346_street_short.aedat4"
    target = tmp_path / "facts.json"
    subprocess.run(
        [sys.executable, PROGRAM, recording, "--student", tiny_student, "--runs", "1",
         "--json", target],
        check=True, timeout=300, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    facts = json.loads(target.read_text())
    assert facts["windows"] == 4
    assert set(facts["whole"]) == {"with pictures", "--no-pictures"}
    stages = facts["stages_cpu_s"]
    assert {"network", "draw", "write the bag", "decode, cut windows"} <= set(stages)
    assert 0 < sum(stages.values()) < facts["whole"]["with pictures"]["cpu_s"] + 5
