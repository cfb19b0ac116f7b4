"""Recordings of simulated scenes: what lies in a folder, and who reads it."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from evdistill_core.cli.main import build_app
from evdistill_core.data.film_scores import films_in, score_films, windows_to
from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.recorded_masks import RecordedMasks, RecordedMasksConfig
from evdistill_core.data.simulated_films import boxes_of_instances, simulate_films
from evdistill_core.data.simulated_sets import SimulateConfig
from evdistill_core.evaluation.replay_labels import read_boxes, read_masks
from evdistill_core.events.array import Events
from evdistill_core.foundation.class_file import read_class_file
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.prediction import Detection
from evdistill_core.recordings.opening import open_recording
from evdistill_core.representations import InputSpec
from evdistill_core.simulation.factory import SceneRanges
from evdistill_core.simulation.sensor import SensorRanges

WINDOW_US = 20_000
SCENE = SceneRanges(
    moving_camera=0.0, vehicles=(2, 3), people=(1, 1), distractors=(0, 0), near_person=0.0,
    vehicle_length_px=(12.0, 20.0), vehicle_speed_px_s=(10.0, 30.0), person_height_px=(20.0, 30.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def films(tmp_path_factory, make_camvid):
    root = tmp_path_factory.mktemp("films")
    make_camvid(root / "camvid", height=60, width=80)
    config = SimulateConfig(
        height=48, width=64, window_us=WINDOW_US, scene=SCENE, sensor=SensorRanges()
    )
    images = ImagesConfig(root=root / "camvid")
    simulate_films(images, root / "out", config, seed=1, count=2, seconds=0.19)
    return root / "out"


def test_a_film_is_a_recording_with_a_label_for_every_window(films):
    ends = [(k + 1) * WINDOW_US for k in range(10)]  # 0.19 s are ten windows
    for folder in (films / "film_0000", films / "film_0001"):
        with open_recording(folder / "events.npz") as recording:
            events = Events.concatenate([batch.events for batch in recording.batches()])
        assert (events.width, events.height) == (64, 48)
        assert 0 <= events.t_us[0] <= events.t_us[-1] < 200_000
        masks = read_masks(folder / "labels.mcap")
        boxes = read_boxes(folder / "labels.mcap", SIX_CLASSES.names)
        assert sorted(masks) == sorted(boxes) == [1000 * t for t in ends]
        for t_us in ends:
            label = cv2.imread(str(folder / f"masks/{t_us}.png"), cv2.IMREAD_UNCHANGED)
            things = cv2.imread(str(folder / f"instances/{t_us}.png"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(label, masks[1000 * t_us])
            assert things.dtype == np.uint16
            np.testing.assert_array_equal(things > 0, np.isin(label, SIX_CLASSES.thing_ids))
            found = {int(b.track_id): b for b in boxes[1000 * t_us]}
            for number, box in found.items():
                left, top, right, bottom = (int(v) for v in box.box_xyxy)
                own = things == number
                assert own.sum() == own[top:bottom, left:right].sum() >= 30
                assert (label[own] == box.class_id).all()


def test_ids_stay_through_a_film(films):
    boxes = read_boxes(films / "film_0000" / "labels.mcap", SIX_CLASSES.names)
    seen = [b for stamp in sorted(boxes) for b in boxes[stamp]]
    assert len(seen) > 10
    by_id = {}
    for box in seen:
        by_id.setdefault(box.track_id, []).append(box)
    assert max(map(len, by_id.values())) == 10
    for own in by_id.values():
        assert len({b.class_id for b in own}) == 1
        moved = np.diff([b.box_xyxy[0] for b in own])
        assert (np.abs(moved) <= 6).all()  # 30 px/s in 20 ms, and limbs


def test_the_masks_of_a_film_are_read_with_their_things(films, tmp_path):
    classes = SIX_CLASSES.with_masks_of(read_class_file(films / "classes.yaml").table())
    config = RecordedMasksConfig(paths=(films,), cache=tmp_path / "cache")
    source = RecordedMasks(config, InputSpec(bins=2, window_us=WINDOW_US), classes)
    # The first window begins before the first event, the last one ends after the last event.
    assert (len(source), source.notes) == (20, [])
    sample = source.sample(5)
    np.testing.assert_array_equal(
        sample.instances[:48, :64] > 0, np.isin(sample.label[:48, :64], SIX_CLASSES.thing_ids)
    )
    assert (sample.instances > 0).any()


class Follower:
    """Finds every true box of a recording, and changes all ids in the middle."""

    classes = SIX_CLASSES
    parameters = SimpleNamespace(window_us=0)
    input = SimpleNamespace(window_us=WINDOW_US)

    def __init__(self, films):
        self.truths = [read_boxes(f / "labels.mcap", SIX_CLASSES.names) for f in films]

    def predict(self, windows):
        truth = self.truths.pop(0)
        for k, window in enumerate(windows):
            assert window.t_end_us - window.t_start_us == WINDOW_US
            assert (window.events.t_us >= window.t_start_us).all()
            assert (window.events.t_us < window.t_end_us).all()
            stamp = 1000 * window.t_end_us
            shift = 1000 * (k >= 5)
            found = [
                Detection(b.class_id, 0.5, b.box_xyxy, 9, int(b.track_id) + shift)
                for b in truth[stamp]
            ]
            yield SimpleNamespace(t_end_us=window.t_end_us, detections=found)


def test_films_are_scored_each_with_ids_of_its_own(films):
    assert films_in(films) == [films / "film_0000", films / "film_0001"]
    assert films_in(films / "film_0001" / "masks") == []
    scores = score_films(Follower(films_in(films)), films_in(films))
    assert (scores["films"], scores["coco"]["ap50_95"]) == (2, pytest.approx(1))
    tracking = scores["tracking"]
    assert tracking["det_a"] == pytest.approx(1)
    # A track that lasts ten windows keeps its id for five: half of its boxes agree.
    assert 0.5 <= tracking["idf1"] < 0.75
    assert tracking["id_switches"] >= 2


def test_windows_end_at_labels_wherever_the_first_event_is():
    t_us = np.array([30_000, 39_999, 40_000, 90_000])
    events = Events.from_columns(t_us * 0, t_us * 0, t_us, t_us * 0, width=2, height=2)

    def told(ends_us):
        found = windows_to(ends_us, events, 20_000)
        return [(w.t_start_us // 1000, w.t_end_us // 1000, len(w.events)) for w in found]

    # The first event comes after 30 ms; 0 .. 20 is empty, and so is 60 .. 80 after 40 .. 60.
    assert told([20_000, 40_000]) == [(0, 20, 0), (20, 40, 2)]
    # 50 is further from 110 than a window: two more lie between.
    assert told([50_000, 110_000]) == [(30, 50, 3), (50, 70, 0), (90, 110, 1)]
    assert told([40_000, 50_000]) == [(20, 40, 2), (30, 50, 3)]
    assert told([]) == []


def test_a_map_of_another_size_is_refused(films, tmp_path):
    folder = tmp_path / "film"
    (folder / "masks").mkdir(parents=True)
    (folder / "instances").mkdir()
    source = films / "film_0000"
    (folder / "events.npz").write_bytes((source / "events.npz").read_bytes())
    (folder / "masks/60000.png").write_bytes((source / "masks/60000.png").read_bytes())
    cv2.imwrite(str(folder / "instances/60000.png"), np.zeros((10, 10), np.uint16))
    classes = SIX_CLASSES.with_masks_of(read_class_file(films / "classes.yaml").table())
    config = RecordedMasksConfig(paths=(folder,), cache=tmp_path / "cache")
    recorded = RecordedMasks(config, InputSpec(bins=2, window_us=WINDOW_US), classes)
    with pytest.raises(DataError, match=r"60000.png must be a grey image .* 64x48 .* \(10, 10\)"):
        recorded.sample(0)


def test_boxes_hold_what_is_in_view_and_leave_out_specks():
    instances, labels = np.zeros((20, 30), np.uint16), np.zeros((20, 30), np.uint8)
    instances[2:8, 3:13], labels[2:8, 3:13] = 700, 5
    instances[10:12, 0:4], labels[10:12, 0:4] = 2, 4
    assert boxes_of_instances(instances, labels) == [(700, 5, (3, 2, 13, 8))]
    assert boxes_of_instances(instances, labels, least_px=8)[0] == (2, 4, (0, 10, 4, 12))
    assert boxes_of_instances(np.zeros_like(instances), labels) == []


def test_the_command_makes_films_and_says_what_does_not_go_together(tmp_path, make_camvid):
    make_camvid(tmp_path / "camvid", height=60, width=80)
    (tmp_path / "small.yaml").write_text("{height: 24, width: 32}\n")

    def simulate(*more):
        words = ["simulate", tmp_path / "camvid", tmp_path / "out", "--seconds", 0.1, *more]
        return CliRunner().invoke(build_app(), list(map(str, words)))

    result = simulate("--config", tmp_path / "small.yaml")
    assert result.exit_code == 0, result.output
    assert "1 recording of 2 labelled windows each" in result.output
    assert "holds a result already (film_0000)" in str(simulate().exception)
    assert "without --preview and --resume" in str(simulate("--resume").exception)
