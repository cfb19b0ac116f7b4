import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.perception.parameter_changes import changed, constraints, unknown_names
from evdistill_core.perception.parameters import (
    RecognitionParameters,
    SegmentationParameters,
    declarations,
)

BASE = SegmentationParameters(student="a.evstudent")


def test_a_dynamic_parameter_changes_and_a_whole_number_is_a_fraction():
    after = changed(BASE, {"min_score": 1, "roi": [0, 0, 0, 0], "use_sim_time": True})
    assert (after.min_score, after.student) == (1.0, "a.evstudent")


def test_a_fixed_parameter_changes_only_where_all_may():
    with pytest.raises(ConfigError, match="student, runtime cannot change while the node is conf"):
        changed(BASE, {"student": "b.evstudent", "min_score": 0.2, "runtime": "torch"})
    after = changed(BASE, {"student": "b.evstudent"}, may_change_all=True)
    assert after.student == "b.evstudent"


@pytest.mark.parametrize("same", [{"student": "a.evstudent"}, {"roi": [0, 0, 0, 0]}])
def test_a_fixed_parameter_may_be_set_to_what_it_is(same):
    assert changed(BASE, same) == BASE


@pytest.mark.parametrize("may_change_all", [False, True])
@pytest.mark.parametrize("wrong", [{"min_score": 7.0}, {"min_score": "much"}, {"roi": [1, 2]}])
def test_a_wrong_value_is_refused_in_any_case(wrong, may_change_all):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        changed(BASE, wrong, may_change_all=may_change_all)


def test_names_that_no_parameter_has_are_named_with_the_nearest():
    given = ["min_scor", "zzz", "use_sim_time", "qos_overrides./a.subscription.depth", "autostart"]
    assert unknown_names(given, SegmentationParameters) == [
        "there is no parameter min_scor, its value is ignored; did you mean 'min_score'?",
        "there is no parameter zzz, its value is ignored",
    ]
    assert unknown_names(["top_k"], RecognitionParameters) == []


def test_constraints_say_what_type_and_range_do_not():
    known = declarations(SegmentationParameters)
    assert constraints(known["min_score"]) == ""
    fixed = "changes only while the node is unconfigured"
    assert constraints(known["student"]) == fixed
    assert constraints(known["device"]) == f"one of auto, cpu, cuda; {fixed}"
