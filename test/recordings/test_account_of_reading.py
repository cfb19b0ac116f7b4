"""What was read is what was used and what was left out, for every format, damaged or not."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from evdistill_core.cli.main import build_app
from evdistill_core.data.recording_index import index_recording
from evdistill_core.events.account import (
    LEFT_OUT,
    EventAccount,
    account_of_camera,
    account_of_reading,
    account_of_stream,
)
from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.summary import summarise

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
import mutations
import seeds

FILES = sorted(seeds.files())


def check(account):
    assert account.read == account.used + sum(account.left_out.values())
    assert set(account.left_out) == set(LEFT_OUT)
    assert min(account.left_out.values()) >= 0
    assert account.left_out["outside_span"] == 0


@pytest.mark.parametrize("kind", FILES)
def test_every_event_of_a_damaged_file_is_used_or_left_out(kind, tmp_path):
    whole = seeds.files()[kind]
    rng = np.random.default_rng(FILES.index(kind))
    path = tmp_path / f"a.{kind}"
    read = 0
    for turn in range(25):
        path.write_bytes(mutations.mutate(whole, rng, [whole]) if turn else whole)
        try:
            with open_recording(path) as recording:
                summary = summarise(recording)
                check(account_of_reading(recording.counters, summary.events))
                read += summary.events
        except EvdistillError:
            continue
    assert read > 0


def test_info_has_a_key_for_each_reason(tmp_path):
    path = tmp_path / "a.txt"
    rows = [f"{i * 0.001:.6f} {i % 30} {i % 20} {i % 2}" for i in range(100)]
    path.write_text("30 20\n" + "\n".join([*rows, "0.2 99 5 1"]) + "\n")
    done = CliRunner().invoke(build_app(), ["info", str(path), "--json"])
    account = EventAccount(**json.loads(done.stdout)["event_account"])
    check(account)
    assert (account.read, account.used, account.left_out["out_of_frame"]) == (101, 100, 1)
    done = CliRunner().invoke(build_app(), ["info", str(path)])
    assert "1 of 101 events left out: 1 outside the sensor's frame" in " ".join(done.stdout.split())


def test_convert_says_what_it_did_not_write(tmp_path):
    path = tmp_path / "a.txt"
    rows = [f"{i * 0.001:.6f} {i % 30} {i % 20} {i % 2}" for i in range(100)]
    path.write_text("30 20\n" + "\n".join([*rows, "0.2 99 5 1"]) + "\n")
    done = CliRunner().invoke(
        build_app(), ["convert", str(path), str(tmp_path / "b.npz"), "--json"]
    )
    account = json.loads(done.stdout)["event_account"]
    assert (account["read"], account["used"]) == (101, 100)


def test_a_training_says_what_its_recording_lost_each_time_it_is_opened(tmp_path, caplog):
    path = tmp_path / "a.txt"
    rows = [f"{i * 0.001:.6f} {i % 30} {i % 20} {i % 2}" for i in range(100)]
    path.write_text("30 20\n" + "\n".join([*rows, "0.2 99 5 1"]) + "\n")
    for _ in range(2):  # read, then from the cache
        caplog.clear()
        indexed = index_recording(path, tmp_path / "cache")
        check(indexed.account)
        assert (indexed.account.read, indexed.account.used) == (101, 100)
        assert caplog.messages == ["a.txt: 1 of 101 events left out: 1 outside the sensor's frame"]


def test_what_a_camera_lost_is_in_the_accounts_of_record_and_live():
    counters = {"events": 70, "out_of_frame": 4, "bad_time": 2, "lost_events": 5, "time_jumps": 1}
    recorded = account_of_camera(counters, 70)
    check(recorded)
    assert recorded.lines() == [
        "11 of 81 events left out: 4 outside the sensor's frame, 2 with impossible times, "
        "5 lost: they were not read or written fast enough",
        "1 jumps of time",
    ]
    live = {f"camera_{name}": count for name, count in counters.items()}
    live |= {"stream_events": 70, "stream_out_of_frame": 3, "window_used": 70}
    account = account_of_stream(live | {"events_in_windows": 70})
    check(account)
    assert (account.read, account.left_out["out_of_frame"], account.left_out["lost"]) == (84, 7, 5)


def test_an_account_is_told_in_words():
    nothing = account_of_reading({"events": 5}, 5)
    assert nothing.lines() == []
    some = account_of_reading({"events": 5, "out_of_frame": 2, "lost_messages": 1}, 4)
    assert some.left_out["outside_span"] == 1
    assert some.lines() == [
        "2 of 6 events left out: 2 outside the sensor's frame",
        "1 messages missing",
    ]
