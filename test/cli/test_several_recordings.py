"""Several recordings, or a folder of them, in `info`, `convert` and `run`."""

import json

import pytest

from evdistill_core.cli._several import names_of
from evdistill_core.cli.main import run
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.summary import summarise


@pytest.fixture
def folder(tmp_path, text_file):
    """Two recordings, a damaged one, and a file that is none."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    content = text_file.read_text()
    (folder / "a.txt").write_text(content)
    (folder / "b.txt").write_text(content)
    (folder / "notes.md").write_text("# nothing")
    (tmp_path / "damaged.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(64))
    return folder


def test_info_of_a_folder_is_one_object(folder, capsys):
    assert run(["info", str(folder), "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert [r["events"] for r in facts["recordings"]] == [300, 300]
    assert facts["failed"] == []
    assert "1 in" in err
    assert "left out, no recordings: notes.md" in err
    assert err.strip().endswith("2 of 2 recordings read")


def test_info_of_one_recording_is_that_object(folder, capsys):
    assert run(["info", str(folder / "a.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == 300


def test_info_of_a_span(folder, capsys):
    arguments = ["info", str(folder / "a.txt"), "--json", "--start", "0.1", "--end", "0.15"]
    assert run(arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["events"], facts["first_us"]) == (50, 100_000)
    assert run(["info", str(folder / "a.txt"), "--start", "2", "--end", "1"]) == 2
    assert "--end must lie after --start" in capsys.readouterr().err
    for option, value in (("--start", "nan"), ("--start", "inf"), ("--end", "inf")):
        assert run(["info", str(folder / "a.txt"), option, value]) == 2
        assert f"'{option}': must be a finite number, got {value}" in capsys.readouterr().err


def test_one_that_fails_does_not_stop_the_others(folder, tmp_path, capsys):
    damaged = str(tmp_path / "damaged.mcap")
    out = tmp_path / "bags"
    arguments = ["convert", damaged, str(folder), "--out", str(out), "--format", "npz"]
    assert run(arguments) == 1
    printed = capsys.readouterr()
    assert sorted(p.name for p in out.iterdir()) == ["a.npz", "b.npz"]
    with open_recording(out / "b.npz") as recording:
        assert summarise(recording).events == 300
    assert printed.out.splitlines()[-1] == "2 of 3 recordings converted, 1 failed: damaged.mcap"
    assert printed.err.count(": error: ") == 1
    assert printed.err.count(damaged) == 1
    assert run([*arguments, "--json"]) == 2  # a.npz is there
    assert "a.npz is there already" in capsys.readouterr().err
    assert run([*arguments, "--json", "--overwrite"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert [r["events"] for r in facts["recordings"]] == [300, 300]
    assert [f["path"] for f in facts["failed"]] == [damaged]


def test_run_makes_a_folder_for_each(folder, tmp_path, tiny_student, capsys):
    out = tmp_path / "out"
    arguments = ["run", str(folder), "--out", str(out), "--student", str(tiny_student), "-q"]
    assert run([*arguments, "--end", "0.2", "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)["recordings"]
    assert [r["windows"] for r in reports] == [4, 4]
    assert sorted(p.name for p in out.iterdir()) == ["a", "b"]
    loud = [*(w for w in arguments if w != "-q"), "--end", "0.2", "--overwrite", "--no-pictures"]
    assert run(loud) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line in {str(folder / n) for n in ("a.txt", "b.txt")}] == [
        str(folder / "a.txt"), str(folder / "b.txt")
    ]  # fmt: skip
    assert (out / "b" / "masks.mcap").is_file()
    assert run(arguments) == 2
    assert "holds a result already (report.json)" in capsys.readouterr().err
    empty = ["run", str(folder / "a.txt"), "--out", str(tmp_path / "none"), "--start", "9"]
    assert run([*empty, "--student", str(tiny_student), "-q"]) == 2
    assert "no events in that span" in capsys.readouterr().err
    assert not list((tmp_path / "none").iterdir())


def test_what_cannot_be_done_for_several_is_refused(folder, tmp_path, capsys):
    assert run(["info", str(folder), "--plot", str(tmp_path / "a.png")]) == 2
    assert "--plot shows one recording" in capsys.readouterr().err
    assert run(["convert", str(folder / "a.txt"), str(tmp_path / "a.npz"), "--format", "h5"]) == 2
    assert "--format h5 does not fit" in capsys.readouterr().err
    assert run(["convert", str(folder / "a.txt")]) == 2
    assert "where does the result go?" in capsys.readouterr().err
    assert run(["cut", str(folder / "a.txt"), "b.npz", "--out", "c.npz"]) == 2
    assert "two names" in capsys.readouterr().err


def test_names_of_results_differ(tmp_path):
    for name in ("x/events.h5", "y/events.h5", "z/y/events.h5", "y/bag.d/metadata.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    paths = [tmp_path / "x/events.h5", tmp_path / "y/events.h5", tmp_path / "z/y/events.h5"]
    assert list(names_of(paths).values()) == ["x_events", "y_events", "y_events_2"]
    assert names_of([tmp_path / "y/bag.d"]) == {tmp_path / "y/bag.d": "bag.d"}
