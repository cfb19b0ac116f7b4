"""The tables in the documentation are those of the code. Needs no ROS."""

from pathlib import Path

import pytest

from evdistill_core.perception.tasks import TASKS
from evdistill_ros.reference import (
    COMPRESSED_TEXTS,
    OVERLAY_TEXTS,
    RESULT_TEXTS,
    diagnostics_table,
    diagnostics_values,
    topics_table,
)

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


@pytest.mark.parametrize("task", list(TASKS))
def test_the_documentation_holds_the_topics_of_today(task):
    page = (REFERENCE / "topics.md").read_text()
    assert topics_table(TASKS[task]) in page, "run docs/make_reference.py"


def test_the_documentation_holds_the_diagnostics_of_today():
    page = (REFERENCE / "diagnostics.md").read_text()
    assert diagnostics_table() in page, "run docs/make_reference.py"


def test_no_text_is_of_a_topic_that_is_gone():
    topics = {name for task in TASKS.values() for name in task.topics}
    assert {*RESULT_TEXTS, *COMPRESSED_TEXTS, "overlay"} == topics
    assert set(OVERLAY_TEXTS) == set(TASKS)


def test_every_value_that_a_run_reports_is_described(tiny_student, tmp_path):
    from evdistill_core.messages.standard import DiagnosticArray
    from evdistill_core.perception.front_end import FrontEnd, open_student
    from evdistill_core.perception.parameters import SegmentationParameters
    from evdistill_core.recordings.opening import open_recording

    parameters = SegmentationParameters(student=str(tiny_student))
    student, runner = open_student(parameters)
    front = FrontEnd(
        student, runner, parameters, publish=lambda *_: None, is_wanted=lambda _: True, node="n"
    )
    front.start()
    with open_recording(REFERENCE.parents[1] / "demo" / "davis346_street.mcap") as recording:
        for _, packet in zip(range(30), recording.packets(), strict=False):
            front.push_events(packet)
    front.stop(drain=True)
    message, _, _ = front.diagnostics()
    keys = {v.key for s in DiagnosticArray.parse(message).status for v in s.values}
    assert keys - set(diagnostics_values()) == set()
    assert "age_ms_p95" in keys
    assert front.perception.snapshot().counters["windows"] >= 5
