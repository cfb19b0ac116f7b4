"""The tables in the documentation are those of the code. Needs no ROS."""

from pathlib import Path

from evdistill_core.perception_messages import RESULT_TYPES
from evdistill_ros.reference import (
    RESULT_TEXTS,
    diagnostics_table,
    diagnostics_values,
    topics_table,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "segmentation-node.md"


def test_the_documentation_holds_the_tables_of_today():
    page = PAGE.read_text()
    for name, table in (("topics", topics_table()), ("diagnostics", diagnostics_table())):
        assert table in page, f"write {name}_table() of evdistill_ros.reference into {PAGE.name}"
    assert set(RESULT_TEXTS) == set(RESULT_TYPES)


def test_every_value_that_a_run_reports_is_described(tiny_student, tmp_path):
    from evdistill_core.front_end import SegmentationFrontEnd, open_student
    from evdistill_core.messages.standard import DiagnosticArray
    from evdistill_core.parameters import SegmentationParameters
    from evdistill_core.recordings.opening import open_recording

    parameters = SegmentationParameters(student=str(tiny_student))
    student, runner = open_student(parameters)
    front = SegmentationFrontEnd(
        student, runner, parameters, publish=lambda *_: None, is_wanted=lambda _: True, node="n"
    )
    front.start()
    with open_recording(PAGE.parents[1] / "demo" / "davis346_street.mcap") as recording:
        for _, packet in zip(range(30), recording.packets(), strict=False):
            front.push_events(packet)
    front.stop(drain=True)
    message, _, _ = front.diagnostics()
    keys = {v.key for s in DiagnosticArray.parse(message).status for v in s.values}
    assert keys - set(diagnostics_values()) == set()
    assert "age_ms_p95" in keys
    assert front.perception.snapshot().counters["windows"] >= 5
