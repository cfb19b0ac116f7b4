"""The accuracy benchmark: splits that keep their distance, scores, and rows that run."""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evdistill_core.foundation.config import from_mapping
from evdistill_core.training.distill_config import TransferConfig
from evdistill_core.training.distill_on import FRAME_TERMS
from evdistill_core.training.stages import load_experiment

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "benchmarks" / "accuracy"


def frames(stems):
    return np.array([int(s.split("_")[1]) for s in stems])


def test_nothing_that_is_used_lies_within_ten_seconds_of_a_test(modules, shared_data):
    from splits import make_splits

    splits = make_splits(shared_data / "camvid")
    used = frames(splits.unlabelled)
    assert all(s.startswith("0016E5") for s in splits.unlabelled)
    for held_out in (*splits.test, splits.run):
        assert all(s.startswith("0016E5") for s in held_out)
        distance_s = np.abs(used[:, None] - frames(held_out)[None]).min() / 30
        assert distance_s >= 10
        assert not set(held_out) & set(splits.unlabelled)
    # Sources are other drives; nothing that judges a teacher trains it.
    assert not any(s.startswith("0016E5") for s in (*splits.source, *splits.source_held_out))
    assert not set(splits.source) & set(splits.source_held_out)
    assert (len(splits.source), len(splits.run)) == (163, 101)
    assert len(splits.unlabelled) >= 100
    assert sum(len(block) for block in splits.test) >= 50


def test_the_target_camera_only_makes_target_windows():
    readers = [
        path.name
        for path in HERE.glob("*.py")
        if "target_camera" in path.read_text() and path.name != "target_camera.py"
    ]
    assert sorted(readers) == ["source_camera.py", "windows.py"]
    assert "import target_camera" not in (HERE / "source_camera.py").read_text()
    uses = [
        line.strip()
        for line in (HERE / "windows.py").read_text().splitlines()
        if "target_camera.SENSOR" in line
    ]
    assert len(uses) == 3  # the digest of the sets, the video, and _target


def test_posteriors_are_summed_not_arg_maxed(modules):
    from scoring import merged

    # road .3 + pavement .3 beat building .4, which the arg-max would choose.
    p = np.full(11, 1e-9)
    p[[3, 4, 1]] = 0.3, 0.3, 0.4
    six = merged(np.log(p).astype(np.float32)[:, None, None])
    assert six[:, 0, 0].argmax() == 0
    assert np.exp(six).sum() == pytest.approx(1, rel=1e-5)


def test_a_paired_interval_is_narrow_where_rows_differ_by_a_constant(modules):
    from scoring import interval, resampled

    rng = np.random.default_rng(0)
    blocks = []
    for _ in range(12):
        hits = rng.integers(100, 10_000, 6)
        wrong = hits * rng.uniform(0.2, 2)  # blocks are of very different difficulty
        counts = np.diag(hits).astype(np.int64)
        counts += np.roll(np.diag(wrong.astype(np.int64)), 1, axis=1)
        blocks.append(counts)
    better = [b + 3 * np.diag(np.diag(b)) for b in blocks]
    one, two = (resampled([[b.ravel().tolist() for b in x]]) for x in (blocks, better))
    assert np.array_equal(one, resampled([[b.ravel().tolist() for b in blocks]]))
    low, _ = interval(two - one)
    assert low > 0
    widths = [np.subtract(*interval(d)[::-1]) for d in (one, two - one)]
    assert widths[1] < widths[0]


def test_what_is_removed_is_told_as_what_it_is_worth(modules, capsys):
    from table import _print_removals

    def entry(name, *scores):
        sets = [{"miou_6": s, "blocks_6": [np.eye(6, dtype=int).ravel().tolist()]} for s in scores]
        runs = [{"seed": i, "sets": {"target_target": s, "run": s}} for i, s in enumerate(sets)]
        return {"name": name, "title": name, "seeds": [*range(len(runs))], "runs": runs}

    entries = [entry("whole", 30.0, 32.0, 31.0), entry("whole-without-part", 29.0, 30.0)]
    _print_removals(entries, {e["name"]: e for e in entries})
    header, _, row = capsys.readouterr().out.strip().splitlines()
    assert "whole (30.0, 32.0, 31.0) without" in header
    # Only seeds that both have; the blocks here are the same, so their interval is nothing.
    assert row == "| part | 29.5 | 29.5 | +1.5 [+0.0, +0.0] | +1.0, +2.0 |"


def test_batch_norm_takes_the_statistics_of_the_target(modules):
    import torch
    from methods import adapt_batch_norm

    network = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Dropout(0.5))
    x = np.random.default_rng(0).normal(3, 2, (64, 1, 8, 8)).astype(np.float32)
    adapt_batch_norm(network, x, torch.device("cpu"))
    assert float(network[0].running_mean) == pytest.approx(3, abs=0.1)
    assert float(network[0].running_var) == pytest.approx(4, abs=0.3)
    assert not network[0].training
    with torch.no_grad():
        seen = network(torch.from_numpy(x))
    assert float(seen.std()) == pytest.approx(1, abs=0.05)


def test_what_the_command_adds_for_frames_is_what_was_measured(modules):
    from rows import FRAMES

    assert FRAME_TERMS == FRAMES


@pytest.mark.parametrize(
    ("name", "row", "smaller"),
    [
        ("evdistill-2021", "evdistill-2021-scaled", {}),
        ("onboard", "wide-translation", {"activity_weighted": False, "affinity_nodes": 8}),
        ("recognition", "self-calibrated", {}),
        ("recognition-evdistill", "evdistill-self", {}),
    ],
)
def test_profiles_have_the_weights_of_the_rows_that_were_measured(modules, name, row, smaller):
    import recognition
    import rows

    config = load_experiment(ROOT / "config" / "train" / f"{name}.yaml")
    known = (rows.ROWS | recognition.ROWS if "recognition" in name else rows.ROWS)[row]
    assert config.terms == dict.fromkeys(config.terms, 0.0) | known.terms
    transfer = from_mapping(TransferConfig, known.transfer)
    assert replace(config.transfer, **smaller) == transfer


def test_the_key_of_a_row_tells_its_start_only_where_it_has_one(modules):
    from rows import ROWS

    assert not {"start", "larger", "network"} & set(ROWS["wide"].facts())
    assert ROWS["wide-teacher-encoder"].facts()["start"] == "teacher"


def test_every_row_is_a_distillation_that_can_be_configured(modules):
    """Terms without their data would be refused after hours of other rows."""
    from rows import ROWS

    from evdistill_core.training.distill_config import FRAME_TERMS, LABELLED_TERMS

    for row in ROWS.values():
        assert set(row.terms) <= set(row.all_terms())
        from_mapping(TransferConfig, row.transfer)
        assert not set(row.terms) & set(LABELLED_TERMS) or row.labelled, row.name
        assert not set(row.terms) & set(FRAME_TERMS) or row.frames, row.name
        assert not row.base or row.base in ROWS
        assert not row.larger or ("kd_ensemble" in row.terms and row.larger in ROWS)


def test_a_set_that_two_runners_miss_is_made_once(modules, tmp_path, monkeypatch):
    import yaml
    from settings import Settings
    from windows import WindowSets

    smoke = yaml.safe_load((HERE / "smoke.yaml").read_text()) | {"work": tmp_path / "work"}
    settings = from_mapping(Settings, smoke)
    made, both = [], threading.Barrier(2)

    def make(sets, folder, plan):
        folder.mkdir()  # fails where the other one is at it
        made.append(folder)
        time.sleep(0.2)

    monkeypatch.setattr(WindowSets, "_make_stills", make)
    monkeypatch.setattr(WindowSets, "plan", lambda sets, name: None)

    def wanted(_):
        sets = WindowSets(settings, None)
        both.wait(10)
        return sets.folder("source")

    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(wanted, range(2)))
    assert folders == made * 2
    assert (folders[0] / "done").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rows_run_and_are_not_run_again(tmp_path, make_camvid):
    train = [f"0001TP_{6690 + 30 * k:06d}" for k in range(3)]
    train += [f"0016E5_{n:05d}" for n in (390, 420, 1290, 1320, 5280, 8190)]
    camvid = tmp_path / "camvid"
    make_camvid(camvid, stems=train)
    make_camvid(camvid, split="test", stems=("0001TP_008550",))
    make_camvid(camvid, split="val", stems=[f"0016E5_{n:05d}" for n in range(7959, 7969, 2)])
    results = tmp_path / "results.json"
    rows = (  # in the order of the table, which is that of the file
        "prior,pictures,source-adabn,pseudo-labels,kd-frames,reconstruct,self-training,"
        "wide-few-reconstructions,onboard,wide-longer,onboard-frames,two-judges,"
        "onboard-labels,source-pseudo,small-onboard-frames"
    )
    command = [sys.executable, str(HERE / "run.py"), "--config", str(HERE / "smoke.yaml")]
    command += ["--camvid", str(camvid), "--work", str(tmp_path / "work"), "--rows", rows]
    command += ["--results", str(results)]

    def run():
        # The repository first: an installed copy may be older than the benchmark.
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment(), timeout=500
        ).stdout

    first = run()
    entries = json.loads(results.read_text())
    assert [e["name"] for e in entries] == rows.split(",")
    for entry in entries:
        (scored,) = entry["runs"]
        assert entry["scores"]["target_target"] == [scored["sets"]["target_target"]["miou_6"]]
        low, high = entry["interval_95"]["target_target"]
        assert 0 <= low <= high <= 100
    assert "seed 0" in first
    written = results.read_bytes()
    assert "seed 0" not in run()
    assert results.read_bytes() == written


def environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}
