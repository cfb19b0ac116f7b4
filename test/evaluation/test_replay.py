"""Reports of results that were written by hand, so that every figure is known."""

import json
import subprocess
import sys

import numpy as np
import pytest
from report_pages import check_page

from evdistill_core.cli.main import run
from evdistill_core.evaluation.replay import replay_report
from evdistill_core.evaluation.replay_page import write_replay_page
from evdistill_core.evaluation.replay_recognition import MAX_PARTS
from evdistill_core.foundation.errors import DataError
from evdistill_core.messages.standard import (
    DiagnosticArray,
    DiagnosticStatus,
    Header,
    Image,
    KeyValue,
    Time,
)
from evdistill_core.messages.vision import (
    BoundingBox2D,
    Classification,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionClass,
)
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_core.reports.origin import Stopwatch

T0_NS = 1_700_000_000_000_000_000
MS = 1_000_000
CLASSES = ("cup", "hand", "7")


def header(k):
    return Header(Time.from_ns(T0_NS + k * 50 * MS), "camera")


def label_info(names=CLASSES):
    return LabelInfo(header(0), [VisionClass(i, n) for i, n in enumerate(names)])


def write(path, rows):
    """Write (topic, message) in order; 50 ms from message to message."""
    with McapWriter(path) as bag:
        for k, (topic, message) in enumerate(rows):
            bag.write(topic, message.TYPE, message.serialize(), T0_NS + k)
    return path


def classification(k, *guesses):
    return Classification(header(k), [ObjectHypothesis(c, s) for c, s in guesses])


def recognised(path, answers, *, extra=()):
    rows = [("/recognition/label_info", label_info()), *extra]
    rows += [("/recognition/classification", m) for m in answers]
    return write(path, rows)


ANSWERS = [
    classification(0, ("0", 0.5), ("1", 0.25)),
    classification(1, ("0", 0.75), ("2", 0.125)),
    classification(2),
    classification(3, ("1", 1.0)),
]


def stamp(k):
    return T0_NS + k * 50 * MS


def csv(path, *lines, head="start_ns,end_ns,class"):
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


def test_classes_are_counted_and_told_over_time(tmp_path):
    values = [KeyValue("windows_done", "4"), KeyValue("total_ms_p50", "1.5")]
    others = DiagnosticArray(header(0), [DiagnosticStatus(0, "driver: rate", "", "", [
        KeyValue("windows_done", "9")])])  # fmt: skip
    ours = DiagnosticArray(
        header(0), [DiagnosticStatus(0, "/recognition: results", "", "", values)]
    )
    extra = [("/diagnostics", ours), ("/diagnostics", others)]
    report = replay_report(recognised(tmp_path / "r.mcap", ANSWERS, extra=extra))
    assert report["task"] == "recognition"
    assert (report["classifications"], report["unnamed"]) == (4, 1)
    assert report["named"] == {
        "cup": {"windows": 2, "mean_score": 0.625},
        "hand": {"windows": 1, "mean_score": 1.0},
    }
    assert [
        (p["from_s"], p["windows"], p["class"], p["mean_score"]) for p in report["over_time"]
    ] == [(0.0, 1, "cup", 0.5), (0.05, 1, "cup", 0.75), (0.1, 1, None, None), (0.15, 1, "hand", 1)]
    assert report["counters"] == {"windows_done": 4}
    assert report["latency_ms"] == {"total_ms_p50": 1.5}
    assert report["classes"] == list(CLASSES)
    assert "score" not in report


def test_an_offline_run_has_no_latencies(tmp_path):
    values = [KeyValue("total_ms_p50", "1.5"), KeyValue("offline", "true")]
    ours = DiagnosticArray(
        header(0), [DiagnosticStatus(0, "/recognition: results", "", "", values)]
    )
    path = recognised(tmp_path / "r.mcap", ANSWERS, extra=[("/diagnostics", ours)])
    report = replay_report(path)
    assert report["latency_ms"] == {}
    assert "computed offline" in report["latency_note"]


def test_a_long_recording_is_told_in_parts(tmp_path):
    answers = [classification(k, ("0" if k < 500 else "1", 0.5)) for k in range(1000)]
    parts = replay_report(recognised(tmp_path / "r.mcap", answers))["over_time"]
    assert len(parts) <= MAX_PARTS
    assert sum(p["windows"] for p in parts) == 1000
    assert (parts[0]["class"], parts[-1]["class"]) == ("cup", "hand")
    assert all(p["of_it"] <= p["windows"] for p in parts)


def test_spans_of_a_csv_file_score_the_windows_that_end_in_them(tmp_path):
    results = recognised(tmp_path / "r.mcap", ANSWERS)
    labels = csv(
        tmp_path / "l.csv",
        f",{stamp(0)},hand",
        f"{stamp(0)},{stamp(2)},0",
        "",
    )
    score = replay_report(results, labels)["score"]
    # Window 0 ends where "hand" ends: it is hers; 3 has no label; 2 was not named.
    assert (score["windows"], score["not_labelled"], score["unnamed"]) == (3, 1, 1)
    assert score["top1"] == pytest.approx(1 / 3)
    assert score["among_named"] == pytest.approx(2 / 3)
    assert (score["mean_score_right"], score["mean_score_wrong"]) == (0.75, 0.5)
    assert score["classes"]["cup"] == {"windows": 2, "right": 1}
    assert score["confusion"] == [[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_one_line_labels_a_whole_recording_and_names_go_before_numbers(tmp_path):
    results = recognised(tmp_path / "r.mcap", [classification(0, ("2", 1.0))])
    assert replay_report(results, csv(tmp_path / "l.csv", ",,7"))["score"]["top1"] == 1.0
    assert replay_report(results, csv(tmp_path / "l.csv", ", ,1"))["score"]["top1"] == 0.0


def test_a_bag_of_classifications_scores_what_is_near(tmp_path):
    results = recognised(tmp_path / "r.mcap", ANSWERS)
    late = Classification(Header(Time.from_ns(stamp(1) + 4 * MS), ""), [ObjectHypothesis("0", 1.0)])
    far = Classification(Header(Time.from_ns(stamp(3) + 6 * MS), ""), [ObjectHypothesis("1", 1.0)])
    truth = [late, far, classification(2)]
    labels = write(tmp_path / "l.mcap", [("/truth/classification", m) for m in truth])
    score = replay_report(results, labels)["score"]
    assert (score["windows"], score["top1"]) == (1, 1.0)
    own = replay_report(results, results)["score"]
    assert (own["windows"], own["top1"], own["not_labelled"]) == (3, 1.0, 1)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([",,dog"], "'dog' is none of the classes cup, hand, 7"),
        ([",,3"], "'3' is none of the classes"),
        (["1,2"], "a line must have 3 values, got '1,2'"),
        (["5,5,cup"], "must end after its start"),
        (["a,5,cup"], "l.csv: invalid literal"),
        ([",9,cup", "8,,hand"], "two classes to the time from 8 to 9"),
        ([], "has no class for any window; their stamps go from 17"),
        (["1,2,cup"], "has no class for any window"),
    ],
)
def test_labels_that_say_nothing_are_refused(tmp_path, lines, message):
    results = recognised(tmp_path / "r.mcap", ANSWERS)
    with pytest.raises(DataError, match=message):
        replay_report(results, csv(tmp_path / "l.csv", *lines))


def test_files_that_are_no_labels_are_refused(tmp_path):
    results = recognised(tmp_path / "r.mcap", ANSWERS)
    with pytest.raises(DataError, match=r"first line of .* must be start_ns,end_ns,class"):
        replay_report(results, csv(tmp_path / "l.csv", ",,cup", head="start,end,class"))
    with pytest.raises(DataError, match=r"cannot be read: .*none\.csv"):
        replay_report(results, tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        replay_report(results, tmp_path / "b.csv")
    other = write(tmp_path / "o.mcap", [("/truth/label_info", label_info())])
    with pytest.raises(DataError, match=r"must hold one topic \.\.\./classification"):
        replay_report(results, other)
    nameless = write(tmp_path / "n.mcap", [("/recognition/classification", classification(0))])
    with pytest.raises(DataError, match="its classes are not known"):
        replay_report(nameless, results)


def mask(k, value):
    return Image.from_array(header(k), np.full((4, 6), value, np.uint8), "mono8")


def boxes(k, *found):
    return Detection2DArray(header(k), [
        Detection2D(header(k), [ObjectHypothesisWithPose(ObjectHypothesis(c, s))],
                    BoundingBox2D(Pose2D(Point2D(x, 5.0)), 4.0, 4.0), track)
        for c, s, x, track in found
    ])  # fmt: skip


@pytest.fixture
def segmented(tmp_path):
    rows = [("/segmentation/label_info", label_info((*CLASSES, "UNLABELED")))]
    info = rows[0][1]
    rows[0] = (rows[0][0], LabelInfo(info.header, [*info.class_map[:3], VisionClass(255, "U")]))
    rows += [("/segmentation/mask", mask(k, k % 2)) for k in range(4)]
    rows += [("/segmentation/detections", boxes(0, ("0", 0.5, 5.0, "1"), ("1", 0.75, 20.0, "2")))]
    rows += [("/segmentation/detections", boxes(1, ("0", 1.0, 5.0, "1")))]
    return write(tmp_path / "s.mcap", rows)


def test_masks_and_detections_are_counted(segmented):
    report = replay_report(segmented)
    assert (report["task"], report["masks"], report["detections"]) == ("segmentation", 4, 3)
    assert report["detected"] == {
        "cup": {"detections": 2, "tracks": 1, "mean_score": 0.75},
        "hand": {"detections": 1, "tracks": 1, "mean_score": 0.75},
    }
    assert report["classes"] == list(CLASSES)


def test_true_masks_and_boxes_score(segmented, tmp_path):
    truth = [("/true/mask", mask(0, 0)), ("/true/mask", mask(1, 0)), ("/true/mask", mask(9, 0))]
    truth += [("/true/detections", boxes(0, ("0", 1.0, 5.0, ""))), ("/true/detections", boxes(1))]
    report = replay_report(segmented, write(tmp_path / "l.mcap", truth))
    score = report["score"]
    assert (score["labels"], score["labels_scored"], score["accuracy"]) == (3, 2, 0.5)
    found = report["detection_score"]
    assert (found["labels_scored"], found["recall"]) == (2, 1.0)
    assert found["precision"] == pytest.approx(1 / 3)
    # The surest box is wrong, so the true one is found at a precision of one half.
    assert found["map"] == 0.5


def test_each_kind_of_label_can_be_alone(segmented, tmp_path):
    own = replay_report(segmented, segmented)
    assert own["score"]["accuracy"] == own["detection_score"]["map"] == 1.0
    only = write(tmp_path / "m.mcap", [("/true/mask", mask(0, 0))])
    assert "detection_score" not in replay_report(segmented, only)
    only = write(tmp_path / "b.mcap", [("/true/detections", boxes(0))])
    assert "score" not in replay_report(segmented, only)
    neither = write(tmp_path / "n.mcap", [("/true/label_info", label_info())])
    with pytest.raises(DataError, match=r"must hold one topic \.\.\./mask"):
        replay_report(segmented, neither)
    far = write(tmp_path / "f.mcap", [("/true/mask", mask(90, 0))])
    with pytest.raises(DataError, match="none of 1 labels has a mask within 5 ms"):
        replay_report(segmented, far)


BOX_FIELDS = [("ts", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"),
              ("class_id", "u1"), ("confidence", "<f4"), ("track_id", "<u4")]  # fmt: skip


def box_file(path, *rows):
    np.save(path, np.array([(*row, 1.0, 7) for row in rows], BOX_FIELDS))
    return path


def test_boxes_of_gen1_score(tmp_path):
    """Its cars are the vehicles of a student; a class that the student lacks is counted."""
    classes = ("background", "vehicle", "7")
    rows = [("/segmentation/label_info", label_info(classes)), ("/segmentation/mask", mask(0, 1))]
    rows += [("/segmentation/detections", boxes(0, ("1", 0.9, 5.0, "1")))]
    results = write(tmp_path / "r.mcap", rows)
    t_us = T0_NS // 1000
    labels = box_file(tmp_path / "a_bbox.npy", (t_us, 3, 3, 4, 4, 0), (t_us, 100, 50, 20, 40, 1))
    score = replay_report(results, labels)["detection_score"]
    assert (score["labels"], score["labels_scored"], score["map"]) == (1, 1, 1.0)
    assert score["labels_left_out"] == {"pedestrian": 1}
    big = box_file(tmp_path / "b_bbox.npy", (t_us, 3, 3, 4, 4, 2), (t_us, 900, 500, 20, 40, 5))
    score = replay_report(results, big)["detection_score"]
    assert (score["map"], score["labels_left_out"]) == (1.0, {"traffic sign": 1})
    for wrong, message in (
        (
            box_file(tmp_path / "c.npy", (t_us, 3, 3, 4, 4, 1)),
            "has boxes of pedestrian",
        ),
        (box_file(tmp_path / "d.npy", (t_us, 3, 3, 4, 4, 9)), r"has the classes \[9\]"),
        (box_file(tmp_path / "e.npy", (5, 3, 3, 4, 4, 0)), "none of 1 labels has detections"),
    ):
        with pytest.raises(DataError, match=message):
            replay_report(results, wrong)
    np.save(tmp_path / "f.npy", np.zeros((5, 4)))
    with pytest.raises(DataError, match="is no file of boxes as Gen1"):
        replay_report(results, tmp_path / "f.npy")


def test_the_command_prints_and_writes_the_report(tmp_path):
    results, out = recognised(tmp_path / "r.mcap", ANSWERS), tmp_path / "out.json"
    labels = csv(tmp_path / "l.csv", ",,cup")
    done = subprocess.run(
        [sys.executable, "-m", "evdistill_core", "report", results, "--labels", labels, "-o", out,
         "--json"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(out.read_text())
    assert json.loads(done.stdout)["score"]["top1"] == 0.5


def test_masks_beside_a_recording_are_scored_by_evaluate(segmented, tmp_path):
    (tmp_path / "drive" / "masks").mkdir(parents=True)
    with pytest.raises(DataError, match="evdistill evaluate STUDENT"):
        replay_report(segmented, tmp_path / "drive")


def test_the_command_tells_people_what_is_not_zero(tmp_path, capsys):
    results = recognised(tmp_path / "r.mcap", ANSWERS)
    assert run(["report", str(results), "-o", str(tmp_path / "out.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["results", str(results)]
    assert any(line.split() == ["task", "recognition"] for line in lines)
    assert "{" not in "".join(lines)
    page = tmp_path / "page.html"
    assert run(["report", str(results), "--labels", str(csv(tmp_path / "l.csv", ",,cup")),
                "-o", str(page)]) == 0  # fmt: skip
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {page}"
    found = check_page(page.read_text(encoding="utf-8"))
    for words in ("top-1", "50.0 %", "Over time", f"evdistill info {results}"):
        assert words in found.text
    assert run(["report", str(results), "-o", str(tmp_path / "out.json")]) == 2
    assert "out.json is there already" in capsys.readouterr().err


def test_without_a_name_the_page_belongs_to_the_command(tmp_path, capsys, monkeypatch):
    results = recognised(tmp_path / "r.mcap", ANSWERS)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(["report", str(results)]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "report: out/report/report.html"
    page = check_page((tmp_path / "out" / "report" / "report.html").read_text(encoding="utf-8"))
    assert f"evdistill report {results} --labels LABELS" in page.text
    assert run(["report", str(results), "--json"]) == 0
    json.loads(capsys.readouterr().out)
    (tmp_path / "out" / "report" / "report.html").unlink()
    (tmp_path / "out" / "report" / "report.html").mkdir()  # the command goes on without a page
    (tmp_path / "out" / "report" / "report.html" / "mine").touch()
    assert run(["report", str(results)]) == 0
    assert "report:" not in capsys.readouterr().out


def test_boxes_are_told_over_time(segmented, tmp_path):
    report = replay_report(segmented)
    parts = report["over_time"]
    assert sum(part["masks"] for part in parts) == report["masks"]
    counted = sum(sum(part["detections"].values()) for part in parts)
    assert counted == report["detections"]
    assert parts[0]["from_s"] == 0.0
    times = [part["from_s"] for part in parts]
    assert times == sorted(set(times))
    write_replay_page(report, tmp_path / "p.html", results=segmented, stopwatch=Stopwatch())
    page = check_page((tmp_path / "p.html").read_text(encoding="utf-8"))
    assert segmented.name in page.text
