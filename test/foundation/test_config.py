from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from evdistill_core.foundation.config import dump_yaml, from_mapping, load_yaml, to_mapping
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
        ({"rate_hz": "fast"}, "rate_hz must be float"),
        ({"rate_hz": True}, "rate_hz must be float"),
        ({"rate_hz": 1, "inner": {"kind": "c"}}, "inner.kind must be one of 'a', 'b'"),
        ({"rate_hz": 1, "inner": {"size": [1]}}, "inner.size must hold 2 values"),
        ({"rate_hz": 1, "names": "abc"}, "names must be a list"),
        ({"rate_hz": 1, "weights": {"ce": "x"}}, "weights.ce must be float"),
        ({"rate_hz": 1, "enabled": 1}, "enabled must be bool"),
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
    with pytest.raises(ConfigError, match="cannot read"):
        load_yaml(tmp_path / "absent.yaml")
