"""The dynamic parameters as controls of the page."""

import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.perception.parameters import (
    RecognitionParameters,
    SegmentationParameters,
    declarations,
)
from evdistill_core.viewing.live.controls import GROUPS, OTHER, Controls, group_of


class Pipeline:
    def __init__(self, parameters):
        self.parameters = parameters
        self.changes = []

    def reconfigure(self, parameters):
        self.parameters = parameters
        self.changes.append(parameters)


@pytest.fixture
def pipeline():
    return Pipeline(SegmentationParameters(min_score=0.4))


@pytest.fixture
def controls(pipeline):
    return Controls(lambda: pipeline.parameters, pipeline.reconfigure)


@pytest.mark.parametrize("kind", [SegmentationParameters, RecognitionParameters])
def test_every_dynamic_number_choice_and_switch_has_a_control_with_its_declaration(kind):
    parameters = kind()
    rows = {row["name"]: row for row in Controls(lambda: parameters, print).table()}
    for name, declaration in declarations(kind).items():
        value = getattr(parameters, name)
        is_offered = declaration.dynamic and not (
            isinstance(value, str | tuple) and not declaration.choices
        )
        assert (name in rows) == is_offered, name
        if is_offered:
            row = rows[name]
            assert (row["low"], row["high"], row["unit"], row["text"]) == (
                declaration.low, declaration.high, declaration.unit, declaration.text,
            )  # fmt: skip


def test_groups_stand_together_and_none_of_their_names_is_out_of_date(controls):
    groups = [row["group"] for row in controls.table()]
    in_order = [g for i, g in enumerate(groups) if i == 0 or groups[i - 1] != g]
    assert in_order == [g for g, _ in GROUPS] + [OTHER]
    names = {n for k in (SegmentationParameters, RecognitionParameters) for n in declarations(k)}
    for _, starts in GROUPS:
        for start in starts:
            assert any(name.startswith(start) for name in names), start


def test_a_change_reaches_the_pipeline_and_is_told_with_its_unit(pipeline, controls):
    assert controls.set("window_us", 20_000) == "window_us is 20000 us"
    assert controls.set("track_smooth_boxes", False) == "track_smooth_boxes is false"
    assert pipeline.parameters.window_us == 20_000
    assert pipeline.parameters.min_score == 0.4, "the others stay"
    assert controls.values()["window_us"] == 20_000


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("min_score", 1.5, r"min_score must lie in 0\.\.1, got 1.5"),
        ("window_us", 2.5, "window_us"),
        ("window_us", "soon", "window_us"),
        ("window_us", True, "window_us"),
        ("stall_error_ms", 20, r"stall_error_ms must not be below stall_warn_ms \(1000\), got 20"),
        ("instances", "some", "instances must be one of"),
        ("window_ms", 20, r"there is no control 'window_ms'; did you mean 'window_us'\?"),
        ("student", "/etc/passwd", "there is no control 'student'"),
        ("queue_packets", 5, "there is no control 'queue_packets'"),
    ],
)
def test_a_bad_value_gives_one_clear_message_and_changes_nothing(
    pipeline, controls, name, value, message
):
    with pytest.raises(ConfigError, match=message) as caught:
        controls.set(name, value)
    assert "\n" not in str(caught.value)
    assert pipeline.changes == []


def test_reset_puts_the_values_of_the_start_in_force(pipeline, controls):
    at_start = pipeline.parameters
    controls.set("min_score", 0.9)
    controls.set("refractory_us", 500)
    controls.reset()
    assert pipeline.parameters == at_start


def test_a_name_that_no_group_knows_stands_with_the_others():
    assert group_of("brand_new_parameter") == OTHER
