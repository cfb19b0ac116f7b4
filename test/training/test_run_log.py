import json

from evdistill_core.training.run_log import RunLog, read_records


def test_steps_after_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = RunLog(path, keep_below=0)
    for step in range(6):
        log.write(kind="step", step=step, loss=0.5)
    log.close()
    log = RunLog(path, keep_below=4)
    log.write(kind="step", step=4, loss=0.25)
    log.close()
    assert [r["step"] for r in read_records(path)] == [0, 1, 2, 3, 4]


def test_a_line_cut_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 0}) + "\n" + '{"step": 1, "lo', encoding="utf-8")
    assert [r["step"] for r in read_records(path)] == [0]
    RunLog(path, keep_below=9).close()
    assert path.read_text(encoding="utf-8") == '{"step": 0}\n'


def test_no_file_is_no_record(tmp_path):
    assert list(read_records(tmp_path / "none.jsonl")) == []
