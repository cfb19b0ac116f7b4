"""Scoring windows: regions by a slow loop, panels and pages."""

from dataclasses import replace

import numpy as np
import pytest

from evdistill_core.data.samples import Sample
from evdistill_core.drawing.colours import BACKGROUND_BGR, BRIGHTER_BGR, DARKER_BGR
from evdistill_core.evaluation.page import Scored, panel_row, score_table, write_evaluation
from evdistill_core.evaluation.pictures import input_picture, label_picture, panel_grid
from evdistill_core.evaluation.segmentation import near_events, predict_mask, score_windows
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.reports.origin import Stopwatch


def sample(seed=0, height=16, width=24):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 6, (height, width)).astype(np.uint8)
    label[rng.random(label.shape) < 0.1] = 255
    active = (rng.random(label.shape) < 0.05).astype(np.uint8)
    return Sample(rng.normal(size=(2, height, width)).astype(np.float32), label, active)


def predict(network_input):
    rng = np.random.default_rng(int(abs(network_input.sum()) * 1000))
    return rng.normal(size=(6, 4, 6)).astype(np.float32)


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_near_events_equals_the_slow_loop(radius):
    active = sample(4).active
    expected = np.zeros(active.shape, bool)
    for y, x in zip(*np.nonzero(active), strict=True):
        for i, j in np.ndindex(*active.shape):
            expected[i, j] |= max(abs(i - y), abs(j - x)) <= radius
    np.testing.assert_array_equal(near_events(active, radius), expected)


def test_everything_is_near_without_a_radius():
    assert near_events(np.zeros((3, 4), np.uint8), -1).all()
    assert not near_events(np.zeros((3, 4), np.uint8), 2).any()


def test_scores_by_region():
    windows = [sample(s) for s in range(3)]
    masks = []
    result = score_windows(
        predict, windows, SIX_CLASSES, activity_radius_px=2, each=lambda _, mask: masks.append(mask)
    )
    hits = total = near_hits = near_total = 0
    for window, mask in zip(windows, masks, strict=True):
        near = near_events(window.active, 2)
        for y, x in np.ndindex(*window.label.shape):
            if window.label[y, x] != 255:
                hit = int(mask[y, x] == window.label[y, x])
                hits, total = hits + hit, total + 1
                if near[y, x]:
                    near_hits, near_total = near_hits + hit, near_total + 1
    assert result.windows == 3
    assert result.everywhere.scores().accuracy == pytest.approx(hits / total)
    assert result.near_events.scores().accuracy == pytest.approx(near_hits / near_total)
    assert result.near_events.scores().pixels == near_total


def scored(student="s.evstudent"):
    return Scored(student, student, "d.yaml", SIX_CLASSES, {"a": 1})


def test_false_alarms_have_a_column_where_labels_know_of_them(tmp_path):
    window = sample(1)
    window.label[:8] = 254
    plain = score_windows(predict, [window], SIX_CLASSES)
    assert len(score_table(plain, SIX_CLASSES)[0]) == 5
    told = replace(window, excluded=np.array([False] * 4 + [True] * 2))
    result = score_windows(predict, [told], SIX_CLASSES, activity_radius_px=-1)
    head, rows = score_table(result, SIX_CLASSES)
    mask = predict_mask(predict(window.input), height=16, width=24)
    assert head[-1] == "false alarms near events, %"
    assert rows[5][-1].value == pytest.approx(float((mask[:8] == 5).mean()))
    assert not np.isfinite(rows[0][-1].value)
    assert rows[-1][-1] == ""
    write_evaluation(tmp_path, scored(), {"s": result}, {}, stopwatch=Stopwatch())
    assert "false_alarms" in (tmp_path / "report.json").read_text(encoding="utf-8")


def test_a_set_without_any_class_has_false_alarms_and_no_miou(tmp_path):
    window = replace(sample(1), excluded=np.array([False] * 4 + [True] * 2))
    window.label[:] = 254
    result = score_windows(predict, [window], SIX_CLASSES, activity_radius_px=2)
    mask = predict_mask(predict(window.input), height=16, width=24)
    near = near_events(window.active, 2)
    wrong = mask >= 4
    assert 0 < wrong[near].mean() < 1
    assert result.summary == (
        f"false alarms on {100 * wrong[near].mean():.1f} % of the pixels near events, "
        f"{100 * wrong.mean():.1f} % everywhere; no pixel has a class"
    )
    assert np.isnan(result.everywhere.scores().miou)
    page = write_evaluation(tmp_path, scored(), {"hall": result}, {}, stopwatch=Stopwatch())
    text = page.read_text(encoding="utf-8")
    assert ">nan" not in text
    assert "hall: false alarms near events" in text


def test_masks_are_enlarged_from_logits():
    logits = np.zeros((3, 2, 3), np.float32)
    logits[2, 0, 0] = 9.0
    logits[1, 1, 2] = 9.0
    mask = predict_mask(logits, height=16, width=24)
    assert mask.shape == (16, 24)
    assert mask[0, 0] == 2
    assert mask[15, 23] == 1
    with pytest.raises(DataError, match="stride"):
        predict_mask(logits, height=16, width=20)


def test_another_number_of_classes_is_refused():
    with pytest.raises(DataError, match="classes"):
        score_windows(lambda _: np.zeros((2, 4, 6), np.float32), [sample()], SIX_CLASSES)


def test_pictures_have_the_colours_of_their_classes():
    label = np.array([[0, 5, 255]], np.uint8)
    picture = label_picture(label, SIX_CLASSES)
    assert picture[0].tolist() == [[128, 64, 128], [0, 0, 142], [0, 0, 0]]
    dim = label_picture(label, SIX_CLASSES, np.array([[True, False, True]]))
    assert dim[0, 0].tolist() == [128, 64, 128]
    assert dim[0, 1].tolist() == [2 * 28 // 3, 2 * 28 // 3, (142 + 2 * 28) // 3]


def test_input_pictures_show_polarity():
    voxels = np.zeros((2, 1, 3), np.float32)
    voxels[0, 0, 0], voxels[1, 0, 1] = 1.0, -1.0
    bright, dark, none = input_picture(voxels)[0].astype(int)
    assert bright.tolist() == list(BRIGHTER_BGR[::-1])
    assert dark.tolist() == list(DARKER_BGR[::-1])
    assert none.tolist() == list(BACKGROUND_BGR)


def test_page_and_panels(tmp_path):
    windows = [sample(s) for s in range(2)]
    result = score_windows(predict, windows, SIX_CLASSES)
    rows = [panel_row(w, w.label, SIX_CLASSES, kind="voxel", activity_radius_px=3) for w in windows]
    page = write_evaluation(
        tmp_path, scored("<b>"), {"set": result}, {"set": rows}, stopwatch=Stopwatch()
    )
    text = page.read_text(encoding="utf-8")
    assert "<h1>&lt;b&gt; on d.yaml</h1>" in text
    assert "construction+sky" in text
    near = result.near_events.scores()
    for value in (near.miou, near.iou[0], near.recall[3], result.everywhere.scores().miou):
        assert f">{100 * value:.1f}" in text
    assert text.count("data:image/png") == 2 * 3  # two windows: events, labels, prediction
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_panels_of_different_sizes_are_refused():
    a, b = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(DataError, match="one size"):
        panel_grid([[a, b]], SIX_CLASSES)
    with pytest.raises(DataError):
        panel_grid([], SIX_CLASSES)
