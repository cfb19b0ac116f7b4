"""The recognition rows of the accuracy benchmark: what is scored, what recordings tell."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from evdistill_core.events.array import Events

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "benchmarks" / "accuracy"


def run_of(seed, right, seen=2):
    def scored(flags):
        return {"top1": 100 * float(np.mean(flags)), "right": "".join("01"[f] for f in flags)}

    return {"seed": seed, "sets": {"all": scored(right), "unseen": scored(right[seen:])}}


def test_differences_are_paired_over_recordings_and_common_seeds(modules, capsys):
    import recognition

    rng = np.random.default_rng(0)
    worse = [int(v) for v in rng.random(200) < 0.7]
    better = [max(v, int(k % 10 == 0)) for k, v in enumerate(worse)]
    entries = [
        {"name": "source-x", "title": "base", "runs": [run_of(1, worse), run_of(2, worse)]},
        {"name": "self-x", "title": "more", "runs": [run_of(1, better)]},
    ]
    for entry in entries:
        entry.update(recognition.summarise(entry))
    assert entries[0]["seeds"] == [1, 2]
    low, high = entries[0]["interval_95"]["all"]
    assert low < np.mean(entries[0]["scores"]["all"]) < high
    recognition.print_tables(entries)
    line = next(text for text in capsys.readouterr().out.splitlines() if "more" in text)
    expected = 100 * (np.mean(better[2:]) - np.mean(worse[2:]))
    assert f"{expected:+.1f} [" in line
    # Better or equal at every recording: a paired interval has nothing below zero.
    assert "[+" in line


def test_statistics_see_direction_polarity_and_noise(modules):
    from recognition_statistics import statistics

    rng = np.random.default_rng(0)
    window_us, count = 300_000, 3000
    t = np.sort(rng.integers(0, window_us, count))
    # A bar of two edges: right, down, left; ahead is p = 0, and noise of p = 1 everywhere.
    leg, share = t // 100_000, (t % 100_000) / 100_000
    p = rng.integers(0, 2, count)
    ahead = np.where(p == 0, 4, -4)
    x = np.select([leg == 0, leg == 1, leg == 2], [12 + 6 * share + ahead, 18, 18 - ahead])
    y = 16 + np.where(leg == 1, ahead, 0)
    noisy = rng.random(count) < 0.05
    x[noisy], y[noisy] = rng.integers(0, 34, noisy.sum()), rng.integers(0, 34, noisy.sum())
    p[noisy] = 1
    columns = (x.astype(int), y.astype(int), t, p)
    figures = statistics([Events.from_columns(*columns, width=34, height=34)], window_us)
    assert figures["events"] == count
    assert figures["p = 0 ahead in saccade 1, columns"] == pytest.approx(8, abs=1)
    assert figures["p = 0 ahead in saccade 2, rows"] == pytest.approx(8, abs=1)
    assert figures["p = 0 ahead in saccade 3, columns"] == pytest.approx(-8, abs=1)
    assert figures["share of p = 1 in corners"] == 1
    assert 1 <= figures["peak of saccade 1"] < 1.3
    assert figures["noise in the quietest corner, Hz"] < 5


def write_mnist(folder, count=30):
    folder.mkdir()
    images = np.zeros((count, 28, 28), np.uint8)
    for k in range(count):
        images[k, 4:24, 4 + k % 10 : 12 + k % 10] = 255
    header = struct.pack(">IIII", 0x803, count, 28, 28)
    (folder / "images").write_bytes(header + images.tobytes())
    labels = struct.pack(">II", 0x801, count) + bytes(k % 10 for k in range(count))
    (folder / "labels").write_bytes(labels)


def write_nmnist(folder, count=6):
    (folder / "events").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for k in range(1, count + 1):
        t, p = np.sort(rng.integers(0, 90_000, 200)), rng.integers(0, 2, 200)
        x, y = rng.integers(0, 34, (2, 200))
        rows = np.stack([x, y, (p << 7) | (t >> 16), (t >> 8) & 255, t & 255], 1)
        (folder / "events" / f"{k}.bs2").write_bytes(rows.astype(np.uint8).tobytes())
    (folder / "labels.txt").write_text("".join(f"{k} {k % 10}\n" for k in range(1, count + 1)))


def shrunk(tmp_path):
    """The shipped configuration with pictures, recordings and budgets of a test."""
    content = yaml.safe_load((HERE / "recognition.yaml").read_text(encoding="utf-8"))
    images = {"root": str(tmp_path / "mnist"), "layout": "mnist"}
    content |= {"images": images, "held_out": images | {"limit": 4}, "seen": 4, "name": "try"}
    content["nmnist"] = str(tmp_path / "nmnist")
    for simulator in content["simulators"].values():
        simulator["moving_stills"] |= {"images": images, "unique": 4}
    for name in ("teacher", "student"):
        network = {"name": "onboard-cls", "options": {"width": 0.25, "stages": 2}}
        content[name] |= {"steps": 2, "batch_size": 2, "network": network}
    content["seeds"] = [1]
    return content


def test_every_faithful_term_has_a_row_without_it_and_the_table_says_what_it_is_worth(
    modules, capsys
):
    import recognition
    from rows import EVDISTILL_2021

    for whole in ("evdistill-2021", "evdistill-2021-scaled"):
        removed = [r for n, r in recognition.ROWS.items() if n.startswith(f"{whole}-without-")]
        lost = [set(EVDISTILL_2021) - set(row.terms) for row in removed]
        assert sorted(term for terms in lost for term in terms) == sorted(EVDISTILL_2021)
        for row in removed:
            assert all(EVDISTILL_2021[n] == w for n, w in row.terms.items())
            assert row.transfer == recognition.ROWS[whole].transfer
    right = [1, 1, 1, 0] * 50
    entries = [
        {"name": "evdistill-2021", "title": "whole", "runs": [run_of(1, right), run_of(2, right)]},
        {
            "name": "evdistill-2021-without-gan",
            "title": "less",
            "runs": [run_of(1, [1, 0, 1, 0] * 50), run_of(2, right)],
        },
    ]
    for entry in entries:
        entry.update(recognition.summarise(entry))
    recognition.print_tables(entries)
    lines = capsys.readouterr().out.splitlines()
    assert not [text for text in lines if text.startswith("| less")]
    (line,) = [text for text in lines if text.startswith("| gan |")]
    assert "| +12.5 [+" in line
    assert "| +25.0, +0.0 |" in line


def test_rows_without_a_simulator_are_compared_with_every_other(modules, capsys):
    import recognition

    entries = [
        {"name": "self-mismatched", "title": "other", "runs": [run_of(1, [1, 0, 1, 0] * 50)]},
        {"name": "evdistill-self", "title": "ours", "runs": [run_of(1, [1, 1, 1, 0] * 50)]},
    ]
    for entry in entries:
        entry.update(recognition.summarise(entry))
    recognition.print_tables(entries)
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("| ours minus | all, seen | the unseen fold |")
    assert lines[at + 2].startswith("| other | +25.0 [+")
    assert len([text for text in lines[at + 2 :] if text.startswith("|")]) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_rows_run_and_are_not_run_again(modules, tmp_path):
    from recognition import ROWS

    # One row without a term stands for all of them.
    names = [n for n in ROWS if "-without-" not in n] + ["evdistill-2021-without-gan"]
    write_mnist(tmp_path / "mnist")
    write_nmnist(tmp_path / "nmnist")
    config, results = tmp_path / "recognition.yaml", tmp_path / "results.json"
    config.write_text(yaml.safe_dump(shrunk(tmp_path)), encoding="utf-8")
    command = [sys.executable, str(HERE / "run.py"), "--config", str(config)]
    command += ["--work", str(tmp_path / "work"), "--results", str(results)]

    def run(*more):
        return subprocess.run(
            [*command, *more],
            capture_output=True,
            text=True,
            check=True,
            env=environment(),
            timeout=280,
        ).stdout

    chosen = ("--rows", ",".join(names))
    first = run(*chosen)
    entries = json.loads(results.read_text())
    assert {e["task"] for e in entries} == {"recognition"}
    assert [e["name"] for e in entries] == names
    for entry in entries:
        (scored,) = entry["runs"]
        assert len(scored["sets"]["all"]["right"]) == 6
        assert len(scored["sets"]["unseen"]["right"]) == 2
        assert entry["label_free"]
        assert f"| {entry['title']} | 1 |" in first or "-without-" in entry["name"]
    # Rows that adapt are trained with all recordings and with those of the fold.
    kept = {p.name for p in (tmp_path / "work" / "runs").iterdir() if p.is_dir()}
    for row in ("self-calibrated", "onboard-mismatched", "evdistill-2021-without-gan"):
        assert len([n for n in kept if n.startswith(f"{row}-")]) == 2
    assert len([n for n in kept if n.startswith("source-calibrated-")]) == 1
    written = results.read_bytes()
    assert "| gan | " in first
    assert "seed 1" not in run(*chosen)
    assert results.read_bytes() == written
    assert "EMA self-training" in run("--table")
    run("--rows", "source-calibrated", "--steps", "3")
    longer = json.loads(results.read_text())
    (added,) = [e for e in longer if e not in entries]
    assert added["budget"]["name"].endswith("-3x2")
    assert added["budget"]["steps"] == 3


def test_a_row_that_is_none_is_refused(tmp_path):
    write_mnist(tmp_path / "mnist")
    write_nmnist(tmp_path / "nmnist")
    config = tmp_path / "recognition.yaml"
    config.write_text(yaml.safe_dump(shrunk(tmp_path)), encoding="utf-8")
    command = [sys.executable, str(HERE / "run.py"), "--config", str(config), "--rows", "best"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(), timeout=120
    )
    assert done.returncode != 0
    assert "unknown rows ['best']" in done.stderr


def environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}
