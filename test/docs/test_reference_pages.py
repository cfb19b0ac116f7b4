"""Pages of docs/reference/ that are made from the code are those of the code of today."""

import dataclasses
import importlib.util
import typing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

import evdistill_core
from evdistill_core.foundation.ranges import check_at_least, check_ranges

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location(
        "make_reference", ROOT / "docs" / "make_reference.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_those_of_the_code(maker):
    for name, text in maker.pages().items():
        page = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
        assert page == text, f"{name}: run python docs/make_reference.py"


def test_every_shipped_experiment_has_only_keys_with_a_meaning(maker):
    """Keys that pages list, found by their last name, cover every file in config/train."""
    pages = "".join(maker.pages().values())
    for path in (ROOT / "config" / "train").glob("*.yaml"):
        for key in yaml.safe_load(path.read_text()):
            assert key in ("stage", "extends") or f"| `{key}` |" in pages, f"{path.name}: {key}"


@dataclass(frozen=True)
class Inner:
    """A part.

    Attributes:
        length_us: how long.
    """

    length_us: int = 5

    def __post_init__(self):
        check_at_least(self, length_us=2)


@dataclass(frozen=True)
class Told:
    """A configuration.

    Attributes:
        share: of a thing | part, see
            docs/how-to/training.md.
        inner: more.
    """

    share: float
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self):
        check_ranges(self, share=(0.0, 1e3))


@dataclass(frozen=True)
class Untold(Told):
    secret: int = 3


def test_a_key_has_type_default_range_unit_and_meaning(maker):
    link = "[training](../how-to/training.md)"
    assert maker.rows_of(Told) == [
        ("`share`", "number", "required", "0 .. 1000", f"of a thing \\| part, see {link}."),
        ("`inner`", "keys", "its defaults", "", "more."),
    ]
    assert maker.rows_of(Inner) == [("`length_us`", "integer", "`5`", "≥ 2 µs", "how long.")]


def _holds_numbers(hint):
    return hint in {int, float} or any(map(_holds_numbers, typing.get_args(hint)))


def test_every_numeric_key_has_a_range(maker):
    """Those of class files are values of masks and colours, which their text explains."""
    top = ("TrainConfig", "TeacherConfig", "DistillConfig", "OnnxTeacherConfig", "SimulateConfig")
    known = {kind for name in top for kind, _ in maker._reached(getattr(maker, name))}
    known |= {kind for _, kind in maker.NETWORK_OPTIONS}
    lacking = [
        f"{kind.__name__}.{field.name}"
        for kind in known - {kind for kind, _ in maker._reached(maker.ClassFile)}
        for field in dataclasses.fields(kind)
        if _holds_numbers(typing.get_type_hints(kind)[field.name])
        and field.name not in maker.ranges_of(kind)
    ]
    assert lacking == []


def test_a_key_without_a_meaning_is_an_error(maker):
    with pytest.raises(KeyError, match="secret"):
        maker.rows_of(Untold)


def test_every_public_name_is_on_the_page_of_the_api():
    page = (ROOT / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
    homes = {home.replace(":", ".") for home in evdistill_core._HOMES.values()}
    homes = {
        h.replace("representations.InputSpec", "representations.spec.InputSpec") for h in homes
    }
    assert {f"::: evdistill_core.{home}" for home in homes} == {
        line for line in page.splitlines() if line.startswith(":::")
    }
