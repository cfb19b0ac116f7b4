"""The fastest runtime is measured once, and remembered."""

import json
import logging

import numpy as np
import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.inference import choice
from evdistill_core.inference.runner import StudentRunner
from evdistill_core.inference.student import StudentFile


class Timed(StudentRunner):
    """Takes as long as it is told, by a clock of its own."""

    now_ns = 0

    def __init__(self, student, name, takes_ms):
        super().__init__(student)
        self.name, self.takes_ms, self.runs = name, takes_ms, 0

    @property
    def description(self):
        return self.name

    def run(self, input_chw):
        self.runs += 1
        Timed.now_ns += int(self.takes_ms * 1e6)
        return np.zeros((6, 1, 1), np.float32)


@pytest.fixture
def student(student_path):
    return StudentFile.open(student_path)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(choice.time, "perf_counter_ns", lambda: Timed.now_ns)


def choose(student, memory, *, precision="fp32", threads=0, **takes_ms):
    made = {}

    def maker(name, ms):
        def make():
            if ms is None:
                raise ConfigError("not here")
            made[name] = Timed(student, name, ms)
            return made[name]

        return make

    candidates = {name: maker(name, ms) for name, ms in takes_ms.items()}
    runner = choice.fastest(
        student, candidates, precision=precision, threads=threads, memory=memory
    )
    return runner, made


def test_the_fastest_is_taken_and_remembered(student, tmp_path):
    memory = tmp_path / "a" / "runtimes.json"
    runner, made = choose(student, memory, first=10.0, second=4.0)
    assert runner.name == "second"
    assert made["first"].runs > 1
    # Asked again, nothing else is loaded and nothing is measured.
    runner, made = choose(student, memory, first=1.0, second=4.0)
    assert (runner.name, list(made), runner.runs) == ("second", ["second"], 0)
    content = json.loads(memory.read_text())
    assert (content["format"], len(content["entries"])) == (choice.FORMAT, 1)
    assert next(iter(content["entries"].values()))["ms"] == {"first": 10.0, "second": 4.0}


def test_a_little_faster_is_not_enough(student, tmp_path):
    assert choose(student, tmp_path / "m", first=20.0, second=19.2)[0].name == "first"
    # Half of the time, and nobody would notice.
    assert choose(student, tmp_path / "n", first=0.8, second=0.4)[0].name == "first"


def test_what_a_time_depends_on_is_in_the_key(student, recurrent, tmp_path, monkeypatch):
    memory = tmp_path / "m"
    choose(student, memory, first=10.0, second=4.0)
    for change in ({"precision": "bf16"}, {"threads": 2}, {"third": 20.0}):
        _, made = choose(student, memory, **{"first": 3.0, "second": 4.0, **change})
        assert len(made) == 2 + ("third" in change), change
    assert len(choose(recurrent, memory, first=3.0, second=4.0)[1]) == 2
    monkeypatch.setattr(choice, "machine", lambda: "another")
    assert len(choose(student, memory, first=3.0, second=4.0)[1]) == 2


@pytest.fixture
def recurrent(recurrent_student):
    return StudentFile.open(recurrent_student)


def test_a_single_candidate_is_not_measured(student, tmp_path):
    runner, _ = choose(student, tmp_path / "m", first=10.0)
    assert runner.runs == 0
    assert not (tmp_path / "m").exists()


def test_candidates_that_cannot_be_loaded_are_left_out(student, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "evdistill_core"):
        runner, _ = choose(student, tmp_path / "m", first=None, second=4.0)
    assert runner.name == "second"
    assert "runtime first is left out: not here" in caplog.text
    with pytest.raises(ConfigError, match="not here"):
        choose(student, tmp_path / "n", first=None, second=None)


def test_a_remembered_runtime_that_fails_now_is_replaced(student, tmp_path):
    choose(student, tmp_path / "m", first=10.0, second=4.0)
    runner, _ = choose(student, tmp_path / "m", first=10.0, second=None)
    assert runner.name == "first"
    assert choose(student, tmp_path / "m", first=10.0, second=4.0)[0].name == "first"


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[]",
        "{}",
        '{"format": "evdistill-runtimes", "version": 1, "entries": 3}',
        '{"format": "evdistill-runtimes", "version": 99, "entries": {}}',
        '{"format": "evdistill-runtimes", "version": 1, "entries": {"x": 3, "y": {"runtime": 4}}}',
    ],
)
def test_a_damaged_memory_is_made_anew(student, tmp_path, content):
    memory = tmp_path / "m"
    memory.write_text(content)
    assert choose(student, memory, first=10.0, second=4.0)[0].name == "second"
    assert next(iter(json.loads(memory.read_text())["entries"].values()))["runtime"] == "second"
    assert choose(student, memory, first=1.0, second=4.0)[0].runs == 0


def test_a_memory_that_cannot_be_written_costs_a_measurement(student, tmp_path):
    (tmp_path / "file").touch()
    memory = tmp_path / "file" / "m"
    for _ in range(2):
        runner, made = choose(student, memory, first=10.0, second=4.0)
        assert runner.name == "second"
        assert len(made) == 2


def test_an_old_choice_is_forgotten_in_time(student, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "MAX_ENTRIES", 3)
    for threads in range(5):
        choose(student, tmp_path / "m", first=10.0, second=4.0, threads=threads)
    assert len(json.loads((tmp_path / "m").read_text())["entries"]) == 3


def test_where_it_is_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("EVDISTILL_CACHE", str(tmp_path))
    assert choice.memory_path() == tmp_path / "runtimes.json"
    monkeypatch.delenv("EVDISTILL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert choice.memory_path() == tmp_path / "evdistill" / "runtimes.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert choice.memory_path().parts[-3:] == (".cache", "evdistill", "runtimes.json")
