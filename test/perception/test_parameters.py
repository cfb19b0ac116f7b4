from pathlib import Path

import pytest
import yaml

from evdistill_core.foundation.config import to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.parameters import (
    SegmentationParameters,
    declarations,
    defaults,
    load_parameters,
    markdown_table,
    parse_assignments,
)
from evdistill_core.representations import InputSpec

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "seg.yaml"


def write(tmp_path, content):
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(content) if isinstance(content, dict) else content)
    return path


def test_the_shipped_file_holds_every_default_and_nothing_else():
    content = yaml.safe_load(SHIPPED.read_text())
    assert content["/**"]["ros__parameters"] == defaults()
    assert load_parameters(SHIPPED) == SegmentationParameters() == load_parameters(None)


def test_every_parameter_is_declared_with_words():
    for name, declaration in declarations().items():
        assert declaration.text.endswith("."), name
        if isinstance(defaults()[name], int | float) and not isinstance(defaults()[name], bool):
            assert declaration.low is not None, name
            assert declaration.high is not None, name


def test_sections_are_read_as_ros_reads_them(tmp_path):
    path = write(
        tmp_path,
        {
            "/**": {"ros__parameters": {"min_score": 0.1, "threads": 2, "use_sim_time": True}},
            "/robot/segmentation": {"ros__parameters": {"min_score": 0.9}},
            "other_node": {"ros__parameters": {"whatever": 1}},
        },
    )
    parameters = load_parameters(path)
    assert (parameters.min_score, parameters.threads) == (0.9, 2)
    assert load_parameters(path, {"min_score": 0.3}).min_score == 0.3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_scor": 0.1}, "unknown parameter min_scor.*parameters are: student, "),
        ({"min_score": 2.0}, r"min_score must lie in 0\.\.1, got 2"),
        ({"min_score": "high"}, "min_score must be float"),
        ({"threads": 1.5}, "threads must be int"),
        ({"runtime": "tensorflow"}, "runtime must be one of"),
        ({"stall_warn_ms": 6000}, "stall_error_ms must not be below"),
        ({"window_us": -1}, r"window_us must lie in 0\.\.1e\+07 us"),
    ],
)
def test_refused_values_are_named_with_what_is_allowed(tmp_path, values, message):
    with pytest.raises(ConfigError, match=message):
        load_parameters(write(tmp_path, {"/**": {"ros__parameters": values}}))


@pytest.mark.parametrize(
    "content",
    ["- a\n- b\n", "a: [", {"camera": {"ros__parameters": {}}}, {"/**": {"min_score": 1}}],
)
def test_files_that_are_no_parameter_files_are_refused(tmp_path, content):
    if content == {"/**": {"min_score": 1}}:
        content = {"/**": 3}
    with pytest.raises(ConfigError, match=r"p\.yaml"):
        load_parameters(write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_parameters(tmp_path / "nowhere.yaml")


def test_assignments_are_read_as_yaml():
    given = ["min_score:=0.25", "window_us:=20000", "frame_id:=cam", "student:="]
    assert parse_assignments(given) == {
        "min_score": 0.25,
        "window_us": 20000,
        "frame_id": "cam",
        "student": "",
    }
    with pytest.raises(ConfigError, match="NAME:=VALUE"):
        parse_assignments(["min_score=3"])


def test_zero_takes_the_students_window():
    spec = InputSpec(window_us=33_000, window_count=5000)
    window = SegmentationParameters().window_spec(spec)
    assert (window.duration_us, window.count) == (33_000, 5000)
    window = SegmentationParameters(window_us=10_000, stride_us=5_000).window_spec(InputSpec())
    assert (window.duration_us, window.count, window.stride_us) == (10_000, None, 5_000)
    assert SegmentationParameters(deadline_ms=0.0).window_spec(spec).deadline_ms is None


def test_postprocessing_takes_its_parameters():
    config = SegmentationParameters(min_area_px=7, unlabelled_radius_px=-1).postprocess()
    assert (config.min_area_px, config.unlabelled_radius_px) == (7, -1)
    own = to_mapping(SegmentationParameters().postprocess())
    assert own == to_mapping(type(config)())


def test_the_table_lists_every_parameter():
    table = markdown_table()
    assert all(f"| `{name}` |" in table for name in declarations())


def test_the_documentation_holds_the_table_of_today():
    page = Path(__file__).resolve().parents[2] / "docs" / "segmentation-node.md"
    assert markdown_table() in page.read_text(), "write markdown_table() into the page again"
