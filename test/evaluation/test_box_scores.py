"""Boxes and tracks together, and how they are told."""

import json

import numpy as np
import pytest
from report_pages import check_page
from typer.testing import CliRunner

from evdistill_core.cli.main import build_app
from evdistill_core.evaluation.box_scores import score_lines, score_sequences
from evdistill_core.evaluation.detections import ScoredBox
from evdistill_core.evaluation.replay import replay_report
from evdistill_core.messages.standard import Header, Image, Time
from evdistill_core.messages.vision import (
    BoundingBox2D,
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

A, B = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)
NAMES = ["car", "human"]


def test_a_swap_of_ids_costs_tracks_and_not_boxes():
    truth = [ScoredBox(0, A, 1.0, "1"), ScoredBox(0, B, 1.0, "2")]
    before = [ScoredBox(0, A, 0.5, "7"), ScoredBox(0, B, 0.9, "8")]
    after = [ScoredBox(0, A, 0.5, "8"), ScoredBox(0, B, 0.9, "7")]
    scores = score_sequences([[(truth, before), (truth, after)]], NAMES)
    assert (scores["coco"]["ap50"], scores["coco"]["ap50_95"]) == pytest.approx((1, 1))
    tracking = scores["tracking"]
    assert (tracking["id_switches"], tracking["mota"], tracking["idf1"]) == (2, 0.5, 0.5)
    assert score_lines(scores) == [
        "boxes, %  true  found   AP50  AP50:95",
        "car          4      4  100.0    100.0",
        "all          4      4  100.0    100.0",
        "tracks, %  IDF1  MOTA  HOTA   DetA  AssA  id changes",
        "car        50.0  50.0  57.7  100.0  33.3           2",
        "all        50.0  50.0  57.7  100.0  33.3           2",
    ]


def test_tracks_of_several_sequences_do_not_mix():
    truth, found = [ScoredBox(0, A, 1.0, "1")], [ScoredBox(0, A, 1.0, "5")]
    other = [ScoredBox(0, A, 1.0, "6")]
    apart = score_sequences([[(truth, found)], [(truth, other)]], NAMES)["tracking"]
    assert (apart["id_switches"], apart["idf1"]) == (0, 1.0)
    joined = score_sequences([[(truth, found), (truth, other)]], NAMES)["tracking"]
    assert (joined["id_switches"], joined["idf1"]) == (1, 0.5)


@pytest.mark.parametrize("name", ["", "1"])  # none, or the id of the other box in this image
def test_without_ids_there_are_no_scores_of_tracks(name):
    truth = [ScoredBox(0, A, 1.0, "1"), ScoredBox(0, B, 1.0, name)]
    scores = score_sequences([[(truth, [])]], NAMES)
    assert scores["tracking"] is None
    assert len(score_lines(scores)) == 3


def test_means_are_over_classes_that_are_there():
    scores = score_sequences([[([ScoredBox(0, A)], [ScoredBox(0, A), ScoredBox(1, B)])]], NAMES)
    assert scores["coco"]["classes"]["human"] == {"ap50": None, "ap50_95": None}
    assert scores["coco"]["ap50"] == pytest.approx(1)


def bag(path, rows, *, with_results):
    """Write boxes (left edge, score, id) of 10 px, 50 ms from image to image."""
    with McapWriter(path) as file:
        header = Header(Time.from_ns(1000), "")
        info = LabelInfo(header, [VisionClass(i, n) for i, n in enumerate(NAMES)], 0.0)
        file.write("/s/label_info", info.TYPE, info.serialize(), 1000)
        for k, boxes in enumerate(rows):
            header = Header(Time.from_ns((k + 1) * 50_000_000), "")
            found = [
                Detection2D(
                    header,
                    [ObjectHypothesisWithPose(ObjectHypothesis("car", score))],
                    BoundingBox2D(Pose2D(Point2D(left + 5.0, 5.0)), 10.0, 10.0),
                    name,
                )
                for left, score, name in boxes
            ]
            messages = [("/s/detections", Detection2DArray(header, found))]
            if with_results:
                mask = np.zeros((4, 4), np.uint8)
                messages.append(("/s/mask", Image.from_array(header, mask, "mono8")))
            for topic, message in messages:
                file.write(topic, message.TYPE, message.serialize(), header.stamp.to_ns())
    return path


def test_report_scores_tracks_of_a_bag_in_the_order_of_time(tmp_path):
    results = bag(
        tmp_path / "r.mcap",
        [[(0.0, 0.9, "1")], [(5.0, 0.9, "1")], [(10.0, 0.9, "2")], []],
        with_results=True,
    )
    truth = bag(
        tmp_path / "t.mcap",
        [[(0.0, 1.0, "a")], [(5.0, 1.0, "a")], [(10.0, 1.0, "a")], [(15.0, 1.0, "a")]],
        with_results=False,
    )
    score = replay_report(results, truth)["detection_score"]
    assert score["coco"]["ap50"] == pytest.approx(76 / 101)  # three of four, none false
    assert score["tracking"]["mota"] == pytest.approx(1 - (1 + 1) / 4)
    assert score["tracking"]["idf1"] == pytest.approx(2 * 2 / (4 + 3))
    json.dumps(score, allow_nan=False)
    command = ["report", str(results), "--labels", str(truth), "-o", str(tmp_path / "s.html")]
    told = CliRunner().invoke(build_app(), command)
    assert told.exit_code == 0, told.output
    page = check_page((tmp_path / "s.html").read_text(encoding="utf-8"))
    for words in ("75.2", "AP50:95, %", "id changes", "4 of 4 labelled images"):
        assert words in page.text
    assert "labels_scored  4 of 4" in told.output
    assert "car          4      3  75.2     75.2" in told.output
    assert "id changes" in told.output
