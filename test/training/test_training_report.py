"""The page of a run: what it says when it is running, stopped, resumed and finished."""

import json

import pytest
from report_pages import check_page

from evdistill_core.foundation.config import from_mapping, load_yaml
from evdistill_core.foundation.invocation import set_arguments
from evdistill_core.losses.segmentation import LOSSES
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.console import run_with_progress
from evdistill_core.training.curves import KNOWN, curve_groups, smoothed
from evdistill_core.training.distill_config import TERMS
from evdistill_core.training.loop import Trainer
from evdistill_core.training.report import NextStep
from evdistill_core.training.run_log import read_records
from evdistill_core.training.sessions import Sessions, is_finished, read_sessions


class Stopping(Trainer):
    """A trainer that Ctrl-C meets after a step."""

    stop_after = 0

    def _step(self, batch):
        done = super()._step(batch)
        if self.state.step == self.stop_after:
            self.stop()
        return done


def trainer_of(path, out, *, stop_after=0, **options):
    trainer = Stopping(from_mapping(TrainConfig, load_yaml(path)), out, **options)
    trainer.stop_after = stop_after
    return trainer


def test_one_page_is_kept_through_stop_and_resume(tiny_run, tmp_path):
    set_arguments(("train", "my run.yaml", "--out", "x"))
    out = tmp_path / "run"
    path = tiny_run(steps=6, validate_every=2, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        run_with_progress(trainer_of(path, out, stop_after=3))
    stopped = check_page((out / "report.html").read_text(encoding="utf-8"))
    assert "Stopped after step 3 of 6." in stopped.text
    assert "evdistill train 'my run.yaml' --out x --resume" in stopped.text
    assert "at step 2" in stopped.text
    assert "in one session" in stopped.text
    assert "Sessions" not in stopped.text
    first = read_sessions(out / "sessions.json")
    assert not is_finished(out)

    run_with_progress(trainer_of(path, out, resume=True))
    text = (out / "report.html").read_text(encoding="utf-8")
    page = check_page(text)
    assert "All 6 steps are done." in page.text
    assert is_finished(out)
    assert "6 of 6" in page.text
    assert "in 2 sessions" in page.text
    sessions = read_sessions(out / "sessions.json")
    assert [(s.first_step, s.last_step) for s in sessions] == [(0, 3), (3, 6)]
    assert sessions[0] == first[0]
    # One curve over both sessions: a point a step, and one a validation.
    total, validation, *_ = [a for t, a in page.elements if t == "polyline"]
    assert len(total["points"].split()) == 6
    assert len(validation["points"].split()) == 3
    score = [r for r in read_records(out / "metrics.jsonl") if r["kind"] == "validation"][-1]
    near = score["sets"]["stills"]["near_events"]["miou"]
    assert f"{100 * near:.1f} %" in page.text
    for words in ("Configuration", "Which class is taken for which", "mIoU near events, %"):
        assert words in page.text
    assert text.count("<img ") == 3 * 3
    assert "curves.png" not in [p.name for p in out.iterdir()]
    set_arguments(())


def test_a_page_that_cannot_be_written_does_not_end_the_run(tiny_run, tmp_path, caplog):
    out = tmp_path / "run"
    (out / "report.html").mkdir(parents=True)
    trainer = trainer_of(tiny_run(steps=1), out)
    trainer.out.mkdir(exist_ok=True)
    # A folder of this name is no result of a run, so it is not removed.
    (out / "report.html" / "mine").write_text("x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evdistill_core.training.loop.remove_results", lambda *_: None)
        assert "stills" in run_with_progress(trainer)
    assert "report.html cannot be written" in caplog.text
    assert (out / "last.pt").is_file()


def test_the_next_step_can_be_given_and_else_fits_the_stage(tiny_run, tmp_path):
    path = tiny_run(steps=1)
    run_with_progress(
        trainer_of(path, tmp_path / "a"), next_steps=[NextStep("Look:", "evdistill <x>")]
    )
    page = check_page((tmp_path / "a" / "report.html").read_text(encoding="utf-8"))
    assert "evdistill <x>" in page.text
    assert "evdistill export" not in page.text
    run_with_progress(trainer_of(path, tmp_path / "b"))
    page = check_page((tmp_path / "b" / "report.html").read_text(encoding="utf-8"))
    assert f"evdistill export {tmp_path / 'b' / 'best.pt'}" in page.text


def test_sessions_of_lost_steps_are_cut_and_damaged_files_do_not_matter(tmp_path):
    Sessions(tmp_path, 0).note(10, now=True)
    # Killed after step 10, and the last checkpoint is of step 7.
    second = Sessions(tmp_path, 7)
    assert [(s.first_step, s.last_step) for s in second.all(9)] == [(0, 7), (7, 9)]
    second.note(9)  # within half a minute of the start
    assert len(read_sessions(tmp_path / "sessions.json")) == 1
    second.note(9, now=True)
    assert len(read_sessions(tmp_path / "sessions.json")) == 2
    assert not is_finished(tmp_path)
    Sessions(tmp_path, 9).note(12, now=True, is_finished=True)
    assert is_finished(tmp_path)
    for damaged in ("", "[1]", '{"sessions": [{"began": "x"}]}', "{}", '{"sessions": 1}'):
        (tmp_path / "sessions.json").write_text(damaged)
        assert read_sessions(tmp_path / "sessions.json") == []
        assert len(Sessions(tmp_path, 5).all(6)) == 1
        assert not is_finished(tmp_path)
    rows = [{"began": "no time", "seconds": 1, "first_step": 0, "last_step": 1,
             "command": "", "software": "", "machine": ""}]  # fmt: skip
    (tmp_path / "sessions.json").write_text(json.dumps({"sessions": rows}))
    assert read_sessions(tmp_path / "sessions.json") == []


def test_every_term_is_in_a_group_with_an_explanation():
    names = [*LOSSES, *TERMS, "critic_event", "watch_lit_target", "of_a_plug_in"]
    record = {"kind": "step", "step": 0, "loss": 1.0}
    record |= {n if n.startswith("watch") else f"loss_{n}": 0.5 for n in names}
    record |= {f"loss_{n}_scaled": 0.5 for n in TERMS}
    groups = curve_groups([record, record | {"step": 1}], "mIoU")
    titles = {group.title: [chart.title for chart in group.charts] for group in groups}
    shown = [title for charts in titles.values() for title in charts]
    assert sorted(shown) == sorted(["total loss", *names])
    assert titles["Other terms"] == ["of_a_plug_in"]
    assert set(names) - KNOWN == {"of_a_plug_in"}
    for group in groups:
        assert group.note
        assert all(chart.note.endswith(".") for chart in group.charts)
    assert "gan_image" in titles["Translation between events and images"]
    assert "pseudo_label" in titles["Learning from its own answers"]


def test_a_log_without_steps_has_no_curves():
    assert curve_groups([], "mIoU") == []


def test_long_curves_are_means():
    x, y = smoothed(list(range(1000)), [2.0] * 500 + [4.0] * 500)
    assert len(x) == 200
    assert (y[0], y[-1]) == (2.0, 4.0)
    assert x[0] == 2.0  # of steps 0 to 4
    assert smoothed([], []) == ([], [])
