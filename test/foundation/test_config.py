import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from evdistill_core.foundation.config import (
    dump_yaml,
    from_mapping,
    load_yaml,
    merged,
    to_mapping,
    with_assignments,
)
from evdistill_core.foundation.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    kind: Literal["a", "b"] = "a"
    size: tuple[int, int] = (2, 3)


@dataclass(frozen=True)
class Outer:
    rate_hz: float
    path: Path | None = None
    names: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    inner: Inner = Inner()
    enabled: bool = True
    student: str = ""


def test_round_trip_through_yaml(tmp_path):
    config = Outer(2.5, Path("x/y"), ("p", "q"), {"ce": 1.0}, Inner("b", (4, 5)), False)
    (tmp_path / "c.yaml").write_text(dump_yaml(config))
    assert from_mapping(Outer, load_yaml(tmp_path / "c.yaml")) == config
    assert from_mapping(Outer, to_mapping(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate_hz": 1, "rat_hz": 2}, "unknown key rat_hz"),
        ({}, "missing key rate_hz"),
        ({"rate_hz": "fast"}, "rate_hz must be a number"),
        ({"rate_hz": True}, "rate_hz must be a number"),
        ({"rate_hz": 1, "inner": {"kind": "c"}}, "inner.kind must be one of 'a', 'b'"),
        ({"rate_hz": 1, "inner": {"size": [1]}}, "inner.size must hold 2 values"),
        ({"rate_hz": 1, "names": "abc"}, "names must be a list"),
        ({"rate_hz": 1, "weights": {"ce": "x"}}, "weights.ce must be a number"),
        ({"rate_hz": 1, "student": None}, "student must be text, got no value; write ''"),
        ({"rate_hz": 1, "enabled": 1}, "enabled must be true or false"),
    ],
)
def test_wrong_values_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Outer, values)


@pytest.mark.parametrize("text", ["- a\n", "a: [", "\x00"])
def test_bad_files_are_errors_of_ours(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_yaml(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="there is no configuration"):
        load_yaml(tmp_path / "absent.yaml")


def test_a_mistake_in_yaml_is_one_line_with_its_place(tmp_path):
    (tmp_path / "c.yaml").write_text("a: [1,\nb: }")
    with pytest.raises(ConfigError, match=r"c.yaml is not valid YAML, line 2, column 4: [^\n]+$"):
        load_yaml(tmp_path / "c.yaml")


def test_assignments_win_over_the_file():
    values = {"steps": 10, "optimiser": {"lr": 0.1}, "sets": [{"count": 1}, {"count": 2}]}
    changed = with_assignments(
        values, ["steps=5", "optimiser.lr=1.0e-3", "sets.1.count=7", "new.deep=[1, a]", "steps=6"]
    )
    assert changed == {
        "steps": 6, "optimiser": {"lr": 0.001}, "sets": [{"count": 1}, {"count": 7}],
        "new": {"deep": [1, "a"]},
    }  # fmt: skip
    assert values["steps"] == 10
    assert values["sets"][1] == {"count": 2}


@pytest.mark.parametrize(
    "key", ["sets.night-drive.count", "sets[night-drive].count", "sets.1.count"]
)
def test_an_entry_of_a_list_is_named_by_its_name_too(key):
    values = {"sets": [{"name": "day"}, {"name": "night-drive"}]}
    changed = with_assignments(values, [f"{key}=7"])
    assert changed["sets"] == [{"name": "day"}, {"name": "night-drive", "count": 7}]
    numbered = with_assignments({"sets": [{"name": "1"}, {"name": "0"}]}, ["sets.0.count=7"])
    assert numbered["sets"][0] == {"name": "1", "count": 7}  # a place wins
    message = (
        r"sets.nigth-drive: the list has the places 0 \.\. 1, called day, night-drive; got "
        "'nigth-drive'; did you mean 'night-drive'"
    )
    with pytest.raises(ConfigError, match=message):
        with_assignments(values, ["sets.nigth-drive.count=7"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "KEY=VALUE"),
        ("=5", "KEY=VALUE"),
        ("a..b=5", "KEY=VALUE"),
        ("steps=[", "not valid YAML"),
        ("steps.x=5", "steps.x: there are no keys below 10"),
        ("sets.2.count=1", r"sets.2: the list has the places 0 \.\. 1"),
        ("sets.first=1", r"sets.first: the list has the places 0 \.\. 1"),
    ],
)
def test_assignments_that_lead_nowhere_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        with_assignments({"steps": 10, "sets": [{}, {}]}, [text])


def test_unknown_names_get_the_nearest_one(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown key inner\.Sise; did you mean 'size'"):
        from_mapping(Outer, {"rate_hz": 1, "inner": {"Sise": 1}})
    (tmp_path / "street6.yaml").touch()
    with pytest.raises(
        ConfigError, match=r"no configuration .*stret6.yaml; did you mean .*street6"
    ):
        load_yaml(tmp_path / "stret6.yaml")


def test_changes_are_merged_into_a_base():
    base = {
        "steps": 5,
        "network": {"name": "a", "options": {"width": 1}},
        "sizes": [1, 2],
        "train": [{"name": "x", "share": 0.5, "images": {"root": "r"}}, {"name": "y", "share": 1}],
    }
    kept = copy.deepcopy(base)
    changes = {
        "network": {"options": None, "start": "s"},
        "sizes": [3],
        "train": [
            {"name": "z", "share": 2},
            {"name": "x", "images": {"split": "val"}},
            {"name": "y", "remove": True},
        ],
    }
    assert merged(base, changes) == {
        "steps": 5,
        "network": {"name": "a", "start": "s"},
        "sizes": [3],
        "train": [
            {"name": "x", "share": 0.5, "images": {"root": "r", "split": "val"}},
            {"name": "z", "share": 2},
        ],
    }
    assert base == kept
    assert merged(base, {}) == base
    assert merged({}, base) == base


def test_a_list_without_own_names_is_replaced():
    base = {"rows": [{"name": "a"}, {"name": "a"}], "plain": [{"x": 1}]}
    changes = {"rows": [{"name": "b"}], "plain": [{"y": 2}]}
    assert merged(base, changes) == changes


def test_what_is_not_there_cannot_be_removed():
    base = {"train": [{"name": "street"}]}
    with pytest.raises(ConfigError, match=r"train has no entry 'stret' to remove.*'street'\?"):
        merged(base, {"train": [{"name": "stret", "remove": True}]})
