"""Experiments: every YAML of the project, round trips, refusals."""

from pathlib import Path

import pytest
import yaml

from evdistill_core.data.build import EvaluationConfig
from evdistill_core.foundation.config import dump_yaml, from_mapping, load_yaml, to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.segmentation import LOSSES
from evdistill_core.training.config import LossConfig, TrainConfig
from evdistill_core.training.stages import load_experiment, load_with_classes, names_classes

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "train").glob("*.yaml")), ids=str)
def test_experiments_round_trip(path):
    config = load_experiment(path)
    assert from_mapping(type(config), to_mapping(config)) == config
    assert from_mapping(type(config), yaml.safe_load(dump_yaml(config))) == config
    assert config.name == path.stem


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "eval").glob("*.yaml")), ids=str)
def test_evaluations_round_trip(path):
    config = from_mapping(EvaluationConfig, load_yaml(path))
    assert from_mapping(EvaluationConfig, yaml.safe_load(dump_yaml(config))) == config


def test_a_class_file_counts_from_the_folder_of_the_experiment(tmp_path, monkeypatch):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for folder, name in ((tmp_path / "a", "floor"), (tmp_path / "elsewhere", "road")):
        (folder / "own.yaml").write_text(f"classes: [{{name: {name}, ids: [0]}}]")
    path = tmp_path / "a" / "deep" / "e.yaml"
    path.write_text(yaml.safe_dump(naming("../own.yaml")))
    relative = Path("../a/deep/e.yaml")
    for experiment in (path, relative):
        assert load_experiment(experiment).class_table().names == ("floor",)
        assert load_with_classes(experiment)[0].class_table().names == ("floor",)
    # What is typed counts from where it is typed.
    for changed in (
        load_experiment(path, ["classes=own.yaml"]),
        load_with_classes(naming("./own.yaml"))[0],
    ):
        assert changed.class_table().names == ("road",)
    path.write_text(path.read_text().replace("../own", "../none"))
    with pytest.raises(ConfigError, match=r"a/none.yaml"):
        load_experiment(path)


def naming(classes):
    sets = [{"name": "s", "simulation": {"images": {"root": "x"}}}]
    return {"name": "e", "classes": classes, "data": {"train": sets}}


def test_an_experiment_extends_another(tmp_path):
    """Also one in another folder that extends a third; ``--set`` wins over all of them."""
    (tmp_path / "deep").mkdir()
    first = naming("six") | {"steps": 7, "seed": 3}
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(first))
    (tmp_path / "deep" / "second.yaml").write_text(
        "{extends: ../first.yaml, steps: 8, data: {train: [{name: s, count: 5}]}}"
    )
    third = tmp_path / "third.yaml"
    third.write_text("{extends: deep/second.yaml, name: third, seed: null}")
    for config in (load_experiment(third, ["batch_size=2"]),
                   load_with_classes(third, ["batch_size=2"])[0]):  # fmt: skip
        assert (config.name, config.steps, config.seed) == ("third", 8, TrainConfig.seed)
        assert config.batch_size == 2
        (train,) = config.data.train
        assert (train.count, str(train.simulation.images.root)) == (5, "x")
    assert names_classes(third)


def test_a_class_file_of_an_extended_experiment_counts_from_its_own_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "own.yaml").write_text("classes: [{name: floor, ids: [0]}]")
    (tmp_path / "a" / "base.yaml").write_text(yaml.safe_dump(naming("own.yaml")))
    (tmp_path / "e.yaml").write_text("extends: a/base.yaml")
    assert load_experiment(tmp_path / "e.yaml").class_table().names == ("floor",)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"e": "extends: e.yaml"}, r"e\.yaml: extends goes in a circle: e\.yaml -> e\.yaml"),
        (
            {"e": "extends: a.yaml", "a": "extends: b.yaml", "b": "extends: a.yaml"},
            r"b\.yaml: extends goes in a circle: a\.yaml -> b\.yaml -> a\.yaml",
        ),
        (
            {"e": "extends: strete.yaml", "street": "{}"},
            r"extends names strete\.yaml, but there is no .*did you mean '.*street\.yaml'",
        ),
        ({"e": "extends: [a.yaml]"}, r"extends must name a YAML file, got \['a\.yaml'\]"),
        ({"e": "extends: ''"}, "extends must name a YAML file, got ''"),
        ({"e": "extends: a.yaml", "a": "[1]"}, r"a\.yaml must hold a mapping at its top"),
    ],
)
def test_what_cannot_be_extended_is_named(tmp_path, files, words):
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_experiment(tmp_path / "e.yaml")


def test_there_are_experiments():
    assert list((ROOT / "config" / "train").glob("*.yaml"))
    assert list((ROOT / "config" / "eval").glob("*.yaml"))


def test_no_experiment_is_validated_on_the_test_split():
    for path in (ROOT / "config" / "train").glob("*.yaml"):
        data = load_experiment(path).data
        # Recordings without masks have no images.
        drawn = [s for s in (*data.train, *data.validation) if not s.is_own_unlabelled]
        simulated = [s.simulation or s.moving_stills for s in drawn]
        assert all(simulated)
        splits = [s.images.split for s in simulated]
        stills = [getattr(data, "stills", None), *getattr(data, "validation_stills", {}).values()]
        splits += [s.images.split for s in stills if s is not None]
        assert splits
        assert not any("test" in split for split in splits)


def test_every_loss_can_be_asked_for():
    LossConfig(weights=dict.fromkeys(LOSSES, 1.0))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"threads": 257},
        {"name": "a/b"},
        {"no_such_key": 1},
        {"precision": "float8"},
        {"loss": {"weights": {"no_such_loss": 1.0}}},
        {"loss": {"inactive_weight": 2.0}},
        {"optimiser": {"lr": -1.0}},
        {"data": {"train": []}},
    ],
)
def test_bad_values_are_refused(change):
    values = {
        "name": "x",
        "data": {"train": [{"name": "s", "simulation": {"images": {"root": "r"}}}]},
    }
    from_mapping(TrainConfig, values)
    with pytest.raises(ConfigError):
        from_mapping(TrainConfig, values | change)
