import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from evdistill_core.cli.main import build_app
from evdistill_core.foundation.errors import OutputError, RecordingError
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.summary import summarise


def run(*arguments, command="convert"):
    result = CliRunner().invoke(build_app(), [command, *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_it_says_what_it_wrote(text_file, tmp_path):
    result = run(text_file, tmp_path / "a.mcap", "--start", "0.1", "--end", "0.2")
    assert "100 events in 10 packets, 0 triggers, 0 images" in result.stdout
    with open_recording(tmp_path / "a.mcap") as recording:
        assert summarise(recording).first_us == 100_000
    result = run(tmp_path / "a.mcap", tmp_path / "b.npz")
    assert "100 events, 0 triggers" in result.stdout


def test_options_reach_the_bag(text_file, tmp_path):
    run(
        text_file, tmp_path / "a.mcap", "--events-topic", "/cam/ev", "--frame-id", "cam",
        "--packet-ms", "50",
    )  # fmt: skip
    with open_recording(tmp_path / "a.mcap") as recording:
        assert recording.info.topic == "/cam/ev"
        assert recording.info.topics[0].message_count == 6


def test_what_is_left_out_and_what_is_guessed_is_told(text_file, tmp_path, shared_data):
    result = run(shared_data / "bags" / "evt3_hd_trigger", tmp_path / "a.mcap")
    assert "note: 2 trigger edges left out" in result.stderr
    text_file.write_text("1 2 3 0\n")
    assert "warning: the file does not hold" in run(text_file, tmp_path / "b.npz").stderr


def test_errors_are_ours(text_file, tmp_path):
    with pytest.raises(RecordingError, match=r"cannot write '\.avi' files"):
        run(text_file, tmp_path / "a.avi")
    result = run(text_file, tmp_path / "a.mcap", "--encoding", "evt2")
    assert result.exit_code == 2
    assert "is not one of 'libcaer_cmp', 'evt3'" in " ".join(result.stderr.split())


def test_a_recording_as_target_may_have_been_meant_as_a_source(text_file, tmp_path):
    other = tmp_path / "b.npz"
    run(text_file, other)
    before = other.read_bytes()
    with pytest.raises(OutputError, match=r"b\.npz .* is a recording: .* a folder with --out"):
        run(text_file, other)
    for command in ("cut", "view"):
        with pytest.raises(OutputError, match=r"is a recording: name the file to make last"):
            run(text_file, other, command=command)
    assert other.read_bytes() == before
    run(text_file, other, "--end", "0.1", "--overwrite")
    assert other.read_bytes() != before


def test_a_folder_of_bags_is_several_recordings(text_file, tmp_path):
    run(text_file, tmp_path / "many" / "a.mcap")
    run(text_file, tmp_path / "many" / "b.mcap")
    assert (
        "2 of 2 recordings"
        in run(tmp_path / "many", "--format", "npz", "-o", tmp_path / "o").stdout
    )
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["a.npz", "b.npz"]


@pytest.mark.parametrize("suffix", [".mcap", ".npz"])
def test_ctrl_c_leaves_nothing(tmp_path, suffix):
    """The source takes seconds to convert, so the interrupt comes in the middle."""
    source, out = tmp_path / "a.txt", tmp_path / "out"
    source.write_text("8 4\n" + "1 2 3 0\n" * 3_000_000)
    command = [sys.executable, "-m", "evdistill_core", "convert", source, out / f"a{suffix}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out.is_dir() and list(out.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(out.iterdir())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(out.iterdir()) == []
