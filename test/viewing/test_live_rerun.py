"""Windows for Rerun: what is logged, with a fake of its library and with the library itself."""

import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from evdistill_core.cli._errors import explain
from evdistill_core.drawing.colours import event_picture
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.prediction import Detection, Guess, Prediction, Recognition
from evdistill_core.viewing.live.address import ViewError
from evdistill_core.viewing.live.frames import Shot
from evdistill_core.viewing.live.live_view import Status
from evdistill_core.viewing.live.rerun_sink import RerunSink, RerunTarget

STATUS = Status(12_000.0, 20.0, 41, dropped=3)
T0_NS = 1_700_000_000_000_000_000


def shot(index=0, answer=None):
    events = Events.from_columns([1, 2], [0, 2], [10, 20], [1, 0], width=5, height=3)
    return Shot(index, 0, 50_000 * (index + 1), T0_NS + index, events, answer, latency_ms=7.5)


def street(index=0):
    mask = np.full((3, 5), 255, np.uint8)
    mask[0, 1] = 5
    boxes = (Detection(5, 0.87, (1, 0, 3, 2), 2, track_id=12), Detection(4, 0.5, (0, 0, 1, 1), 1))
    return shot(index, Prediction(mask, np.zeros(mask.shape, np.float32), boxes))


class Archetype:
    """Remembers its arguments, as any class of the library would take them."""

    def __init__(self, *arguments, **options):
        self.arguments, self.options = arguments, options


class Stream:
    def __init__(self, application):
        self.application, self.logged, self.times, self.calls = application, {}, {}, []

    def __getattr__(self, name):
        return lambda *arguments, **options: self.calls.append((name, arguments, options))

    def set_time(self, timeline, **when):
        self.times[timeline] = when

    def log(self, entity, what, *, static, strict):
        assert strict
        self.logged.setdefault(entity, []).append((what, static))


@pytest.fixture
def library(monkeypatch):
    """A fake of the library; the real one has no part in these tests."""
    names = (
        "SegmentationImage", "Boxes2D", "Scalars", "EncodedImage", "TextDocument",
        "AnnotationContext", "AnnotationInfo",
    )  # fmt: skip
    fake = types.ModuleType("rerun")
    fake.__dict__.update({name: type(name, (Archetype,), {}) for name in names})
    fake.Box2DFormat = types.SimpleNamespace(XYXY="xyxy")
    fake.RecordingStream = Stream
    fake.spawn = lambda **options: None
    fake.blueprint = types.ModuleType("rerun.blueprint")
    for name in ("TimeSeriesView", "Spatial2DView", "Blueprint", "Horizontal", "Vertical"):
        setattr(fake.blueprint, name, Archetype)
    monkeypatch.setitem(sys.modules, "rerun", fake)
    monkeypatch.setitem(sys.modules, "rerun.blueprint", fake.blueprint)
    return fake


def sink_to(path, classes=SIX_CLASSES):
    return RerunSink(RerunTarget(Path(path)), title="/events", classes=classes)


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ModuleNotFoundError) as it:
        sink_to("a.rrd")
    text, _ = explain(it.value)
    assert text == ('this needs rerun, which is not installed: pip install "evdistill_ros[rerun]"')


@pytest.mark.parametrize(
    ("text", "shown", "is_file", "starts_viewer"),
    [
        ("", "127.0.0.1:9876", False, True),
        ("street.rrd", "street.rrd", True, False),
        ("out/a b.rrd", "out/a b.rrd", True, False),
        (":9000", "127.0.0.1:9000", False, False),
        ("robot:9876", "robot:9876", False, False),
        ("[::1]:9876", "[::1]:9876", False, False),
    ],
)
def test_targets_as_users_write_them(text, shown, is_file, starts_viewer):
    target = RerunTarget.parse(text)
    assert str(target) == shown
    assert (target.path is not None) == is_file
    assert target.starts_viewer == starts_viewer


@pytest.mark.parametrize(
    "text", ["out/a.mcap", "street.mcap", "robot", "http://x", ":99999", "a b", ":0"]
)
def test_another_target_is_one_clear_line(text):
    with pytest.raises(ConfigError, match=r"^--rerun takes FILE\.rrd, HOST:PORT of a viewer") as it:
        RerunTarget.parse(text)
    assert repr(text) in str(it.value)


def test_a_viewer_that_is_not_there_is_one_clear_line(library, monkeypatch):
    monkeypatch.setattr("evdistill_core.viewing.live.rerun_sink.CONNECT_S", 0.0)
    target = RerunTarget.parse("127.0.0.1:1")
    with pytest.raises(ViewError, match=r"no Rerun viewer listens at 127\.0\.0\.1:1: start"):
        RerunSink(target, title="t", classes=None)


def test_a_viewer_that_does_not_start_is_one_clear_line(library, monkeypatch):
    monkeypatch.setattr("evdistill_core.viewing.live.rerun_sink.SPAWN_S", 0.0)
    target = RerunTarget(address=RerunTarget.parse(":1").address, starts_viewer=True)
    with pytest.raises(ViewError, match=r"did not start within 0 s; it needs a display"):
        RerunSink(target, title="t", classes=None)


def test_a_file_that_the_library_cannot_write_is_one_clear_line(library, monkeypatch):
    def save(self, path, default_blueprint=None):
        raise RuntimeError("no space")

    monkeypatch.setattr(Stream, "save", save, raising=False)
    with pytest.raises(ViewError, match=r"^rerun cannot use a\.rrd: no space$"):
        sink_to("a.rrd")


def test_mask_boxes_and_numbers_are_logged_at_sensor_time(library):
    sink = sink_to("a.rrd")
    sink.show(street(1), STATUS, 4)
    stream = sink._stream
    assert stream.times == {
        "sensor_time": {"duration": np.timedelta64(100_000, "us")},
        "host_time": {"timestamp": np.datetime64(T0_NS + 1, "ns")},
        "window": {"sequence": 1},
    }
    (mask, _), *_ = stream.logged["camera/mask"]
    assert np.array_equal(mask.arguments[0], street().answer.mask)
    (boxes, _), *_ = stream.logged["camera/boxes"]
    assert boxes.options["array"].tolist() == [[1, 0, 3, 2], [0, 0, 1, 1]]
    assert boxes.options["array_format"] == "xyxy"
    assert boxes.options["class_ids"] == [5, 4]
    names = SIX_CLASSES.names
    assert boxes.options["labels"] == [f"{names[5]} 12 87 %", f"{names[4]} 50 %"]
    found = {
        entity.removeprefix("numbers/"): rows[0][0].arguments[0]
        for entity, rows in stream.logged.items()
        if entity.startswith("numbers/")
    }
    assert found == {
        "events_per_s": 12_000.0, "windows_per_s": 20.0, "windows_dropped": 3.0,
        "viewer_dropped": 4.0, "latency_ms": 7.5,
    }  # fmt: skip


def test_events_are_a_lossless_picture(library):
    sink = sink_to("a.rrd")
    sink.show(shot(), STATUS, 0)
    (picture, _), *_ = sink._stream.logged["camera/events"]
    assert picture.options["media_type"] == "image/png"
    data = np.frombuffer(picture.options["contents"], np.uint8)
    assert np.array_equal(cv2.imdecode(data, cv2.IMREAD_COLOR), event_picture(shot().events))
    assert "camera/mask" not in sink._stream.logged


def test_a_window_without_things_clears_the_boxes_of_the_last_one(library):
    sink = sink_to("a.rrd")
    mask = np.zeros((3, 5), np.uint8)
    sink.show(shot(0, Prediction(mask, np.zeros(mask.shape, np.float32))), STATUS, 0)
    (boxes, _), *_ = sink._stream.logged["camera/boxes"]
    assert boxes.options["array"].shape == (0, 4)


def test_the_class_table_gives_names_and_colours_once(library):
    stream = sink_to("a.rrd")._stream
    ((table, static),) = stream.logged["camera"]
    assert static
    rows = [row.arguments for row in table.arguments[0]]
    assert rows[:-1] == [(i, c.name, c.color_rgb) for i, c in enumerate(SIX_CLASSES.classes)]
    assert rows[-1][:2] == (255, "unlabelled")


def test_guesses_of_a_student_of_recognition_are_text(library):
    sink = sink_to("a.rrd")
    sink.show(shot(0, Recognition((Guess(2, 0.75), Guess(0, 0.25)))), STATUS, 0)
    (text, _), *_ = sink._stream.logged["guesses"]
    names = SIX_CLASSES.names
    assert text.arguments[0] == f"{names[2]} 75 %\n{names[0]} 25 %"


def test_the_camera_image_is_below_all(library):
    picture = np.full((3, 5, 3), 90, np.uint8)
    window = shot()
    window = Shot(0, 0, 1, T0_NS, window.events, camera_image=lambda: picture)
    sink = sink_to("a.rrd")
    sink.show(window, STATUS, 0)
    (image, _), *_ = sink._stream.logged["camera/image"]
    (events, _), *_ = sink._stream.logged["camera/events"]
    assert image.options["media_type"] == "image/jpeg"
    assert image.options["draw_order"] < events.options["draw_order"]


def test_the_end_sends_what_is_held(library):
    sink = sink_to("a.rrd")
    sink.close(5.0)
    assert [call for call in sink._stream.calls if call[0] in ("flush", "disconnect")] == [
        ("flush", (), {"timeout_sec": 5.0}),
        ("disconnect", (), {}),
    ]


def test_the_real_library_writes_masks_and_boxes_that_its_reader_finds(tmp_path):
    pytest.importorskip("rerun", reason="needs rerun-sdk: pip install .[rerun]")
    from rerun.chunk import RrdReader

    path = tmp_path / "a.rrd"
    sink = sink_to(path)
    for index in range(3):
        sink.show(street(index), STATUS, 0)
    sink.close(20.0)
    columns, masks, labels, times = set(), [], [], set()
    for chunk in RrdReader(path).stream().collect().stream():
        batch = chunk.to_record_batch()
        names = set(batch.schema.names)
        columns |= {(str(chunk.entity_path), name) for name in names}
        if str(chunk.entity_path) == "/camera/mask":
            masks += [bytes(row[0]) for row in batch.column("SegmentationImage:buffer").to_pylist()]
            times |= {t.total_seconds() for t in batch.column("sensor_time").to_pylist()}
        if str(chunk.entity_path) == "/camera/boxes":
            labels += batch.column("Boxes2D:labels").to_pylist()
    assert masks == [street().answer.mask.tobytes()] * 3
    assert times == {0.05, 0.1, 0.15}
    names = SIX_CLASSES.names
    assert labels == [[f"{names[5]} 12 87 %", f"{names[4]} 50 %"]] * 3
    assert ("/camera", "AnnotationContext:context") in columns
    assert ("/numbers/latency_ms", "Scalars:scalars") in columns
