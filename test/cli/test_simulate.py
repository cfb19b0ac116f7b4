import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from evdistill_core.cli.main import build_app
from evdistill_core.data.simulated_sets import SimulateConfig
from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import DataError, OutputError
from evdistill_core.simulation.dataset import SimulatedSet

CONFIG = """
height: 40
width: 56
windows_per_shard: 4
scene: {moving_camera: 0.5, moving_things: 1.0, vehicles: [1, 2]}
"""


@pytest.fixture
def camvid_like(tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / "camvid"
    for kind in ("images", "labels"):
        (root / kind / "train").mkdir(parents=True)
    for k in range(3):
        picture = rng.integers(0, 256, (8, 12, 3)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
        labels = np.full((80, 120), 3, np.uint8)  # road
        labels[:20] = 0  # sky
        labels[30:60, 30:70] = 8  # car
        labels[30:70, 80:95] = 9  # pedestrian
        cv2.imwrite(str(root / "images/train" / f"0001TP_{k}.png"), picture)
        cv2.imwrite(str(root / "labels/train" / f"0001TP_{k}.png"), labels)
    return root


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "simulate.yaml"
    path.write_text(CONFIG)
    return path


def simulate(*arguments):
    return CliRunner().invoke(build_app(), ["simulate", *map(str, arguments)])


def content(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_images_become_a_labelled_set(camvid_like, config, tmp_path):
    sheet = tmp_path / "sheet.png"
    result = simulate(
        camvid_like, tmp_path / "out", "--config", config, "--count", 10, "--preview", sheet
    )
    assert result.exit_code == 0, result.output
    assert "10 labelled windows of 56x40" in result.output
    made = SimulatedSet(tmp_path / "out")
    assert len(made) == 10
    seen = set()
    for k in range(10):
        window = made[k]
        assert window.labels.shape == window.image.shape == (40, 56)
        assert (np.diff(window.events.t_us) >= 0).all()
        seen |= set(np.unique(window.labels))
    assert {0, 1, 4, 5} <= seen
    assert sum(len(made[k].events) for k in range(10)) > 2000
    height, width, _ = cv2.imread(str(sheet)).shape
    assert width == 3 * 4 * 56  # enlarged to at most 800 pixels
    assert 3 * (2 * 3 * 40) < height < 3 * (2 * 3 * 40) + 60  # and the legend
    with pytest.raises(IndexError):
        made[10]


def test_same_seed_same_bytes_whatever_the_workers(camvid_like, config, tmp_path):
    for name, seed, workers in (("a", 1, 1), ("b", 1, 3), ("c", 2, 1)):
        arguments = ("--config", config, "--count", 6, "--seed", seed, "--workers", workers)
        assert simulate(camvid_like, tmp_path / name, *arguments).exit_code == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")


def test_an_interrupted_run_goes_on_and_a_longer_one_extends(camvid_like, config, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert simulate(camvid_like, whole, "--config", config, "--count", 10).exit_code == 0
    assert simulate(camvid_like, part, "--config", config, "--count", 4).exit_code == 0
    untouched = (part / "shard_00000.npz").stat().st_mtime_ns
    # as after Ctrl-C in the second shard
    index = json.loads((part / "index.json").read_text())
    index["complete"] = False
    (part / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="unfinished"):
        SimulatedSet(part)
    more = ("--config", config, "--resume", "--count")
    assert simulate(camvid_like, part, *more, 10).exit_code == 0
    assert content(whole) == content(part)
    assert (part / "shard_00000.npz").stat().st_mtime_ns == untouched
    assert simulate(camvid_like, part, *more, 3).exit_code == 0
    assert len(SimulatedSet(part)) == 3
    assert not (part / "shard_00001.npz").exists()


def test_another_set_is_not_overwritten_by_accident(camvid_like, config, tmp_path):
    out = tmp_path / "out"
    assert simulate(camvid_like, out, "--config", config, "--count", 2).exit_code == 0
    result = simulate(camvid_like, out, "--config", config, "--count", 2)
    assert isinstance(result.exception, OutputError)
    arguments = ("--config", config, "--count", 2, "--seed", 5, "--resume")
    result = simulate(camvid_like, out, *arguments)
    assert isinstance(result.exception, DataError)
    assert "differs in seed" in str(result.exception)
    arguments = ("--config", config, "--count", 2, "--seed", 5, "--overwrite")
    assert simulate(camvid_like, out, *arguments).exit_code == 0


def test_images_and_masks_with_their_own_names(camvid_like, tmp_path):
    root = tmp_path / "plain"
    root.mkdir()
    (camvid_like / "images/train").rename(root / "images")
    (camvid_like / "labels/train").rename(root / "masks")
    config = tmp_path / "c.yaml"
    config.write_text(
        CONFIG + "names: [sky, b, c, road, e, f, g, h, car, walker]\n"
        "class_map: {sky: construction+sky, road: flat, car: vehicle, walker: human}\n"
    )
    result = simulate(root, tmp_path / "out", "--config", config, "--count", 4)
    assert result.exit_code == 0, result.output
    ids = set(np.unique(np.stack([SimulatedSet(tmp_path / "out")[k].labels for k in range(4)])))
    assert {0, 1, 5} <= ids


def test_a_film_becomes_windows_without_labels(config, tmp_path):
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 25, (112, 80))
    for k in range(8):
        frame = np.full((80, 112, 3), 60, np.uint8)
        cv2.rectangle(frame, (10 + 6 * k, 20), (40 + 6 * k, 60), (220, 220, 220), -1)
        writer.write(frame)
    writer.release()
    result = simulate(film, tmp_path / "out", "--config", config, "--preview", tmp_path / "p.png")
    assert result.exit_code == 0, result.output
    made = SimulatedSet(tmp_path / "out")
    assert not made.is_labelled
    assert len(made) == 5  # 280 ms
    assert all(len(made[k].events) > 100 for k in range(5))
    assert (made[0].labels == 255).all()


def test_the_configuration_in_the_documentation_is_read():
    page = Path(__file__).parents[2] / "docs" / "how-to" / "simulation.md"
    block = page.read_text(encoding="utf-8").split("```yaml")[1].split("```")[0]
    config = from_mapping(SimulateConfig, yaml.safe_load(block))
    assert config == SimulateConfig()  # it shows the defaults
    assert from_mapping(SimulateConfig, to_mapping(config)) == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "out"), "nowhere does not exist"),
        (("camvit", "out"), "camvit does not exist; did you mean 'camvid'?"),
        (("nowhere", "out", "--seconds", "3"), "nowhere does not exist"),
        (("nowhere", "out", "--seconds", "3", "--resume"), "nowhere does not exist"),
        (("film.mp4", "out", "--seconds", "3"), "labelled images; film.mp4 is a file"),
        (("camvid", "out", "--seconds", "3", "--resume"), "without --preview and --resume"),
        (("camvid", "out", "--seconds", "3", "--preview", "p.png"), "without --preview"),
        ((".", "out"), "no labelled images"),
        (("camvid", "out", "--split", "val"), "no split 'val'; there are train"),
        (("camvid", "out", "--preview", "p.txt"), "must end in .png"),
        (("film.mp4", "out"), "no video"),
    ],
)
def test_wrong_sources_are_refused(camvid_like, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.mp4").write_bytes(b"x")
    result = simulate(*arguments)
    assert isinstance(result.exception, DataError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_damaged_set_is_refused(camvid_like, config, tmp_path):
    out = tmp_path / "out"
    assert simulate(camvid_like, out, "--config", config, "--count", 2).exit_code == 0
    shard = out / "shard_00000.npz"
    shard.write_bytes(shard.read_bytes()[:-500])
    with pytest.raises(DataError, match="damaged"):
        SimulatedSet(out)[0]
    (out / "index.json").write_text("{}")
    with pytest.raises(DataError, match="no index of a simulated set"):
        SimulatedSet(out)
    (out / "index.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        SimulatedSet(out)
    with pytest.raises(DataError, match="holds no simulated set"):
        SimulatedSet(tmp_path)
