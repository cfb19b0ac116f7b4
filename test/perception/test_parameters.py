from pathlib import Path

import pytest
import yaml

from evdistill_core.foundation.config import to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.perception.parameter_files import (
    load_as,
    load_parameters,
    parse_assignments,
    qos_overrides,
)
from evdistill_core.perception.parameters import (
    KINDS,
    RecognitionParameters,
    SegmentationParameters,
    declarations,
    defaults,
    markdown_table,
)
from evdistill_core.representations import InputSpec

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {
    SegmentationParameters: ROOT / "config" / "seg.yaml",
    RecognitionParameters: ROOT / "config" / "recognition.yaml",
}
PAGE = ROOT / "docs" / "reference" / "parameters.md"
each_kind = pytest.mark.parametrize("kind", list(KINDS.values()))


def write(tmp_path, content):
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(content) if isinstance(content, dict) else content)
    return path


@each_kind
def test_the_shipped_file_holds_every_default_and_nothing_else(kind):
    content = yaml.safe_load(SHIPPED[kind].read_text())
    assert content["/**"]["ros__parameters"] == defaults(kind)
    assert load_parameters(SHIPPED[kind]) == kind() == load_as(kind, None)


@each_kind
def test_every_parameter_is_declared_with_words(kind):
    for name, declaration in declarations(kind).items():
        assert declaration.text.endswith("."), name
        default = defaults(kind)[name]
        if isinstance(default, int | float) and not isinstance(default, bool):
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


def test_qos_overrides_are_read_nested_and_flat(tmp_path):
    nested = {"/a": {"subscription": {"depth": 7, "reliability": "reliable"}}}
    path = write(
        tmp_path,
        {
            "/**": {"ros__parameters": {"qos_overrides": nested, "threads": 2}},
            "segmentation": {"ros__parameters": {"qos_overrides./b.publisher.depth": 3}},
        },
    )
    given = parse_assignments(["qos_overrides./a.subscription.depth:=9", "min_score:=0.5"])
    assert qos_overrides(path, given, node="segmentation") == {
        "/a.subscription.depth": 9,
        "/a.subscription.reliability": "reliable",
        "/b.publisher.depth": 3,
    }
    assert load_parameters(path, given).min_score == 0.5
    assert qos_overrides(None, node="segmentation") == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_scor": 0.1}, "unknown parameter min_scor in .*; did you mean 'min_score'.$"),
        ({"no_such": 0.1}, "unknown parameter no_such.*parameters are: student, "),
        ({"device": "gpu"}, "device must be one of .*got 'gpu'; did you mean 'cuda'"),
        ({"min_score": 2.0}, r"min_score must lie in 0\.\.1, got 2"),
        ({"min_score": "high"}, "min_score must be a number, got"),
        ({"threads": 1.5}, "threads must be a whole number, got"),
        ({"max_pixels": "auto"}, "must be a whole number, got 'auto'. .*-1"),
        ({"tiles": "auto"}, "tiles must be a list, got 'auto'. .*olumns"),
        ({"roi": [0, 0, 9]}, "roi must hold 4 values, got 3. .*width, height"),
        ({"runtime": "tensorflow"}, "unknown runtime .tensorflow."),
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


def test_ranking_takes_its_parameters():
    config = RecognitionParameters(top_k=2, min_score=0.25, min_events=9).postprocess()
    assert (config.top_k, config.min_score, config.min_events) == (2, 0.25, 9)
    assert to_mapping(RecognitionParameters().postprocess()) == to_mapping(type(config)())


def test_the_task_is_told_by_parameters_then_by_the_student(
    tmp_path, tiny_student, tiny_recogniser
):
    def kind(values, overrides=None, section="/**", node=""):
        path = write(tmp_path, {section: {"ros__parameters": values}})
        return type(load_parameters(path, overrides, node=node))

    seg, cls = str(tiny_student), str(tiny_recogniser)
    assert kind({"threads": 1}) is SegmentationParameters
    assert kind({"threads": 1}, {"student": cls}) is RecognitionParameters
    assert kind({"student": cls}) is RecognitionParameters
    assert kind({"student": cls}, {"student": seg}) is SegmentationParameters
    assert kind({"student": str(tmp_path / "none.evstudent")}) is SegmentationParameters
    # Values meant for one task are not given to a student of the other: it is refused later.
    assert kind({"top_k": 2}, {"student": seg}) is RecognitionParameters
    assert kind({"closing_px": 2, "student": cls}) is SegmentationParameters
    assert kind({"top_k": 2}, section="/robot/recognition") is RecognitionParameters
    assert kind({"top_k": 2}, section="/robot/what", node="what") is RecognitionParameters
    with pytest.raises(ConfigError, match="no parameters for the node segmentation or recognition"):
        kind({"top_k": 2}, section="/robot/what")


@each_kind
def test_the_table_lists_every_parameter(kind):
    table = markdown_table(kind)
    assert all(f"| `{name}` |" in table for name in declarations(kind))


@each_kind
def test_the_documentation_holds_the_table_of_today(kind):
    assert markdown_table(kind) in PAGE.read_text(), "run docs/make_reference.py"


def test_a_parameter_under_its_old_name_is_refused_with_the_new_one(tmp_path):
    path = write(tmp_path, {"/**": {"ros__parameters": {"track_max_missed": 4}}})
    with pytest.raises(ConfigError, match=r"track_max_missed in .* is now track_max_missed_s, wh"):
        load_parameters(path)
    with pytest.raises(ConfigError, match=r"windows of 50 ms are 0\.2"):
        load_parameters(None, {"track_max_missed": 4})
    with pytest.raises(ConfigError, match="unknown parameter track_max_missed"):
        load_as(RecognitionParameters, None, {"track_max_missed": 4})  # it has none of either name
