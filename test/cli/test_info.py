import json

import pytest
from typer.testing import CliRunner

from evdistill_core.cli.info import chart
from evdistill_core.cli.main import build_app
from evdistill_core.foundation.errors import ConfigError, RecordingError
from evdistill_core.messages.vision import Detection2DArray
from evdistill_core.recordings.formats import READ
from evdistill_core.recordings.summary import Summary
from evdistill_core.recordings.writers.mcap import McapWriter

KEYS = {
    "events", "on", "off", "width", "height", "duration_us", "encoding", "sum_x", "sum_y",
    "triggers", "topics", "warnings", "rate", "counters", "format", "topic",
}  # fmt: skip


def run(*arguments):
    result = CliRunner().invoke(build_app(), ["info", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_json_holds_the_facts(text_file):
    facts = json.loads(run(text_file, "--json").stdout)
    assert facts.keys() >= KEYS
    assert (facts["events"], facts["on"], facts["off"]) == (300, 100, 200)
    assert (facts["width"], facts["height"], facts["duration_us"]) == (8, 4, 299_000)
    assert facts["sum_x"] == sum(i % 8 for i in range(300))
    assert facts["sum_y"] == sum(i % 4 for i in range(300))
    rate = facts["rate"]
    assert sum(rate["hz"]) * rate["span_us"] / 1e6 == pytest.approx(300)
    assert facts["counters"]["events"] == 300


def test_text_shows_the_facts_and_a_picture_of_the_rate(text_file):
    shown = run(text_file).stdout
    assert "300  (100 on, 200 off)" in shown
    assert "8 x 4" in shown
    assert "█" in shown
    assert "kev/s" in shown


def test_plot_is_saved_or_its_suffix_refused(text_file, tmp_path):
    run(text_file, "--plot", tmp_path / "rate.png")
    assert (tmp_path / "rate.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="--plot"):
        run(text_file, "--plot", tmp_path / "rate.xyz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "rate.png"]


def test_errors_are_ours(tmp_path):
    with pytest.raises(RecordingError, match="no recording"):
        run(tmp_path / "nowhere")


def test_formats_are_listed_without_a_recording():
    lines = run("--formats").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == [name for name, _ in READ]
    assert all(len(line) <= 100 for line in lines)


def test_the_axis_of_a_span_begins_where_the_span_does(text_file, tmp_path, monkeypatch):
    result = run(text_file, "--start", "0.1005", "--end", "0.2")  # whole bins of 1 ms
    assert result.stdout.splitlines()[-1].split() == ["0.101", "s", "0.201", "s"]
    told = json.loads(run(text_file, "--start", "0.1005", "--json").stdout)
    assert told["rate"]["start_us"] == 101_000  # the first event of the span
    begun = {}
    monkeypatch.setattr("evdistill_core.cli.info.save_plot", lambda *_, **more: begun.update(more))
    run(text_file, "--start", "0.1", "--plot", tmp_path / "rate.png")
    assert begun == {"start_s": 0.1}


def test_a_span_without_events_is_refused(text_file, tmp_path):
    with pytest.raises(RecordingError, match=r"a\.txt holds no events in that span: its start and"):
        run(text_file, "--start", "10", "--plot", tmp_path / "rate.png")
    assert not (tmp_path / "rate.png").exists()
    result = run(text_file, text_file.parent, "--start", "10", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["recordings"] == []


def test_a_date_and_what_topics_and_sums_are(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("8 4\n1744227144732712 1 2 1\n1744227144732812 1 2 1\n")
    shown = " ".join(run(path).stdout.split())
    assert "date 2025-04-09 19:32:24 UTC" in shown
    assert "sum of x 2, sum of y 4" in shown
    path.write_text("8 4\n100 1 2 1\n")
    assert "1970" not in run(path).stdout


def test_results_are_told_as_such(tmp_path):
    with McapWriter(tmp_path / "masks.mcap") as writer:
        writer.write("/segmentation/detections", Detection2DArray.TYPE, b"\0" * 64, 1)
    (told,) = json.loads(run(tmp_path / "masks.mcap", "--json").stdout)["warnings"]
    assert told.startswith("no events: these are results of `evdistill run`")
    assert told.endswith(f"`evdistill report {tmp_path / 'masks.mcap'}`")


def test_no_events_no_chart():
    assert chart(Summary()) == []


def test_golden_values_of_a_real_bag(shared_data):
    facts = json.loads(run(shared_data / "bags" / "evt3_hd_trigger", "--json").stdout)
    assert (facts["sum_x"], facts["sum_y"], facts["on"]) == (42_078_718, 31_656_267, 41_439)
    assert (facts["events"], facts["encoding"]) == (82_469, "evt3")
    assert facts["topics"][0]["message_count"] == 105
