"""What ``evdistill`` itself does: version, errors, did you mean, interrupts, pipes."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evdistill_core.cli import _verbosity, info
from evdistill_core.cli._command import with_empty_values
from evdistill_core.cli._errors import explain
from evdistill_core.cli.main import run
from evdistill_core.foundation.extras import EXTRAS
from evdistill_core.foundation.version import VERSION

ROOT = Path(__file__).parents[2]


def test_the_version_names_python_and_the_extras(capsys):
    assert run(["--version"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"evdistill {VERSION}"
    assert f"Python {platform.python_version()}" in out
    for extra in EXTRAS:
        assert f"extra {extra}: " in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["inof", "x"], "there is no command 'inof'; did you mean 'info'?"),
        (["convert", "a", "b", "--strat", "1"], "no option --strat; did you mean '--start'?"),
        (["play", "a", "--source-topic", "/x"], "no option --source-topic (any more); did you mean "
         "--topic?"),
        (["doctor", "--topic", "/x"], "no option --topic (any more); did you mean --events?"),
        (["view", "a", "b.png", "--kind", "surfaces"], "did you mean 'surface'?"),
        (["run", "a", "out"], "missing option '--out': run takes recordings, name the folder for"),
        (["info", "a", "--end", "0.5s"], "'--end': must be a number, got '0.5s' (see"),
        (["train", "a", "--steps", "0"], "'--steps': must be at least 1, got '0' (see"),
        (["train", "a", "--steps", "1.5"], "'--steps': must be a whole number, got '1.5' (see"),
        (["evaluate", "a", "b", "--device", "gpu"], "did you mean 'cuda'?"),
        (["cut", "a"], "Write the file to make after a, or name it with --out"),
        (["simulate", "a", "b", "--seed", "x"], "invalid value for '--seed'"),
        (["run", "a", "-o", "b", "-p", "min_score=1"], "did you mean 'min_score:=1'?"),
        (["run", "a", "-o", "b", "-p", ":=1"], "given as NAME:=VALUE, got ':=1'\n"),
        (["view", "a", "b.png", "--window-ms", "nan"], "'--window-ms': must be a finite"),
        (["convert", "a", "b.mcap", "--packet-ms", "inf"], "'--packet-ms': must be a finite"),
        (["run", "a", "--out", ""], "'--out' / '-o': must not be empty (see"),
        (["run", "a", "--out="], "'--out' / '-o': must not be empty (see"),
        (["info", ""], "'RECORDING': must not be empty (see"),
        (["evaluate", "a", "b", "--activity-radius", "-1"], "must be at least 0, got '-1'"),
        (["run", "a", "-o", "b", "-p", "min_scor:=1"], "did you mean 'min_score'?\n"),
    ],
)  # fmt: skip
def test_misspelt_words_get_the_nearest(capsys, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 1
    assert err.startswith("evdistill")


def test_no_arguments_show_the_help(capsys):
    assert run([]) in (0, 2)  # typer 0.19 calls that no mistake
    assert "Recordings:" in "".join(capsys.readouterr())


def test_a_mistake_of_ours_is_one_line_and_its_traceback_is_kept(
    capsys, monkeypatch, tmp_path, text_file
):
    def fail(*_, **__):
        raise KeyError("a mistake")

    monkeypatch.setattr(info, "describe", fail)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert run(["info", str(text_file)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("evdistill info: error: unexpected KeyError: 'a mistake'")
    (kept,) = tmp_path.glob("evdistill-*.log")
    assert str(kept) in err
    assert "in fail" in kept.read_text()
    assert run(["info", str(text_file), "--verbose"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert len(list(tmp_path.glob("evdistill-*.log"))) == 1


@pytest.mark.parametrize("place", ["before", "after"])
def test_verbose_shows_log_lines_wherever_it_stands(capsys, text_file, place):
    words = ["info", str(text_file)]
    assert run(["-v", *words] if place == "before" else [*words, "-v"]) == 0
    err = capsys.readouterr().err
    assert "DEBUG evdistill_core" in err
    assert str(text_file) in err
    assert _verbosity.is_shown()


def test_what_is_no_mistake_of_a_user_is_not_explained():
    assert explain(KeyError("x")) is None
    assert explain(ModuleNotFoundError("No module", name="evdistill_core.gone")) is None
    text, code = explain(ModuleNotFoundError("No module", name="torch.nn"))
    assert (text, code) == (
        'this needs torch, which is not installed: pip install "evdistill_ros[train]"', 1
    )  # fmt: skip
    assert "libGL" in explain(ImportError("libGL.so.1: cannot open", name="cv2"))[0]
    assert "out of memory" in explain(MemoryError())[0]
    assert explain(FileNotFoundError(2, "No such file", "a", None, "b"))[0].startswith("b: ")


def evdistill(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "evdistill_core", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def test_a_closed_pipe_ends_quietly(text_file):
    reader, writer = os.pipe()
    os.close(reader)
    process = evdistill("info", text_file, "--json", stdout=writer)
    os.close(writer)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_told(text_file):
    with Path("/dev/full").open("w") as full:
        process = evdistill("info", text_file, "--json", stdout=full)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert err.startswith("evdistill info: error: No space left on device")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "command",
    [("convert",), ("cut", "--end", "1"), ("run",), ("view",), ("hot-pixels",)],
    ids=lambda command: command[0],
)
def test_a_signal_is_said_in_one_line_and_leaves_no_file(
    capsys, tmp_path, monkeypatch, text_file, *, command, number, code
):
    """It comes when the file is complete, but has not got its name yet."""

    def signalled(_):
        parts.extend(p.name for p in out.iterdir())
        signal.raise_signal(number)
        signal.raise_signal(number)  # launchers send it several times

    parts, out = [], tmp_path / "out"
    monkeypatch.setattr(os, "fsync", signalled)
    target = {"view": out / "a.png", "run": out, "hot-pixels": out / "a.txt"}
    words = [command[0], text_file, "--out", target.get(command[0], out / "a.npz"), *command[1:]]
    assert run(list(map(str, words))) == code
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == "evdistill: interrupted"
    assert "Traceback" not in err
    assert parts
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "found"),
    [("evdistill hot", "hot-pixels"), ("evdistill view --ki", "--kind"),
     ("evdistill view --kind sur", "surface")],
)  # fmt: skip
def test_the_shell_completes_commands_options_and_choices(typed, found):
    done = subprocess.run(
        [sys.executable, "-c", "from evdistill_core.cli.main import main; main()"],
        env=os.environ | {
            "PYTHONPATH": str(ROOT), "_EVDISTILL_COMPLETE": "complete_bash", "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) - 1),
        },
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert found in done.stdout.split(), done


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["--view"], ["--view="]),
        (["--view", "--loop"], ["--view=", "--loop"]),
        (["--view", "street.mcap"], ["--view=", "street.mcap"]),
        (["--view", ":9000"], ["--view", ":9000"]),
        (["--view", "9000"], ["--view", "9000"]),
        (["--view", "b2024.mcap"], ["--view=", "b2024.mcap"]),
        (["--view", "/camera1"], ["--view=", "/camera1"]),
        (["--view", "robot:80", "a.mcap"], ["--view", "robot:80", "a.mcap"]),
        (["--view=0.0.0.0", "x"], ["--view=0.0.0.0", "x"]),
        (["-p", "window_us:=5", "--view"], ["-p", "window_us:=5", "--view="]),
        (["--view", "-p", "window_us:=5"], ["--view=", "-p", "window_us:=5"]),
        (["--", "--view"], ["--", "--view"]),
        (["--view", "a.rrd", "--loop"], ["--view", "a.rrd", "--loop"]),
    ],
)
def test_an_option_with_a_value_in_brackets_may_stand_alone(words, read):
    assert with_empty_values(words, {"--view"}) == read


def test_a_word_behind_such_an_option_is_told_how_to_belong_to_it(capsys):
    assert run(["live", "--view", "my-robot"]) == 2
    assert "write --view=VALUE" in " ".join(capsys.readouterr().err.split())


def test_a_value_behind_a_flag_is_told_which_option_takes_it(capsys):
    assert run(["export", "a.pt", "b.evstudent", "--int8", "c.mcap"]) == 2
    assert "--int8 takes no value; --int8-from does" in " ".join(capsys.readouterr().err.split())
