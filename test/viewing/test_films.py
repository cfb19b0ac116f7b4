"""Views: pictures by hand, videos, sheets, masks and boxes of a bag, interrupts; and cut."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from evdistill_core.cli.main import build_app
from evdistill_core.drawing.colours import BACKGROUND_BGR, BRIGHTER_BGR, DARKER_BGR
from evdistill_core.drawing.overlay import legend
from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.class_maps import named_classes
from evdistill_core.foundation.errors import ConfigError, RecordingError
from evdistill_core.foundation.labels import CAMVID_CLASSES, SIX_CLASSES
from evdistill_core.messages.standard import Header, Image, StringMessage, Time
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
from evdistill_core.recordings.convert import ConvertConfig, convert
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_core.recordings.writers.npz import NpzWriter
from evdistill_core.viewing.films import TimeSurface, ViewConfig, view
from evdistill_core.viewing.result_overlays import ResultOverlays, has_results

WIDTH, HEIGHT = 64, 48


def make(path, seconds=1.0, count=20_000):
    """Write a bar that moves to the right."""
    rng = np.random.default_rng(0)
    t_us = np.sort(rng.integers(0, int(seconds * 1e6), count)) + 1_000_000
    x = (t_us - 1_000_000) * WIDTH // int(seconds * 1e6)
    events = Events.from_columns(
        x, rng.integers(0, HEIGHT, count), t_us, rng.integers(0, 2, count),
        width=WIDTH, height=HEIGHT,
    )  # fmt: skip
    with NpzWriter(path, width=WIDTH, height=HEIGHT) as writer:
        writer.write(events, Triggers.empty())
    return events


def run(*arguments):
    result = CliRunner().invoke(build_app(), list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def film(path):
    with av.open(str(path)) as container:
        return [(f.time, f.to_ndarray(format="bgr24")) for f in container.decode(video=0)]


def test_the_surface_fades_by_its_definition():
    surface = TimeSurface(1000)
    events = Events.from_columns(
        [1, 2, 1], [0, 1, 0], [100, 500, 600], [0, 1, 1], width=4, height=3
    )
    picture = surface.update(events, 1000)
    ground, bright = np.array(BACKGROUND_BGR), np.array(BRIGHTER_BGR)
    expected = np.full((3, 4, 3), BACKGROUND_BGR, float)
    expected[0, 1] = ground + np.exp(-0.4) * (bright - ground)
    expected[1, 2] = ground + np.exp(-0.5) * (bright - ground)
    assert np.abs(picture - expected).max() <= 0.5
    off = Events.from_columns([3], [2], [1500], [0], width=4, height=3)
    later = surface.update(off, 2000)
    dark = ground + np.exp(-0.5) * (np.array(DARKER_BGR) - ground)
    assert np.abs(later[2, 3] - dark).max() <= 0.5
    assert np.abs(later[0, 1] - (ground + np.exp(-1.4) * (bright - ground))).max() <= 0.5
    other = Events.from_columns([0], [0], [0], [1], width=2, height=2)
    assert surface.update(other, 0).shape == (2, 2, 3)


@pytest.mark.parametrize("kind", ["events", "surface"])
def test_a_film_keeps_the_pace(tmp_path, kind):
    make(tmp_path / "a.npz")
    result = run("view", tmp_path / "a.npz", tmp_path / "a.mp4", "--kind", kind,
                 "--window-ms", "50", "--speed", "0.5", "--scale", "2")  # fmt: skip
    assert "20 windows" in result.stdout
    frames = film(tmp_path / "a.mp4")
    assert len(frames) == 20
    times = [t for t, _ in frames]
    assert np.allclose(np.diff(times), 0.1, atol=0.002)
    strip = legend(None, width=2 * WIDTH).shape[0]
    assert frames[0][1].shape == (2 * HEIGHT + strip, 2 * WIDTH, 3)
    # The bar is where it should be: the busiest column moves to the right.
    busiest = [int((f[: 2 * HEIGHT, :, 0] > 60).sum(0).argmax()) for _, f in frames[::5]]
    assert busiest == sorted(busiest)
    assert busiest[-1] > busiest[0] + WIDTH


def test_a_sheet_and_a_span(tmp_path):
    make(tmp_path / "a.npz")
    run("view", tmp_path / "a.npz", tmp_path / "a.png", "--start", "0.5", "--end", "0.8",
        "--window-ms", "10", "--pictures", "3", "--scale", "1")  # fmt: skip
    sheet = cv2.imread(str(tmp_path / "a.png"))
    assert sheet.shape[1] >= 3 * WIDTH
    assert sheet.shape[1] < 4 * WIDTH


def labelled_bag(path, names):
    """Write one white mask of class 1 and the names of a student; return the class colours."""
    header = Header(Time.from_ns(5), "cam")
    rows = [VisionClass(i, n) for i, n in enumerate(names)] + [VisionClass(255, "UNLABELED")]
    mask = Image.from_array(header, np.ones((4, 4), np.uint8), "mono8")
    with McapWriter(path) as bag:
        if names:
            info = LabelInfo(header, rows, 0.0).serialize()
            bag.write("/seg/label_info", LabelInfo.TYPE, info, 5)
        bag.write("/seg/mask", Image.TYPE, mask.serialize(), 5)
    with open_recording(path) as recording:
        overlays = ResultOverlays(recording)
        picture = overlays.lay_over(np.zeros((4, 4, 3), np.uint8), 5, 10)
        return picture[0, 0, ::-1].astype(int) * 2, overlays.legend(300)


@pytest.mark.parametrize(
    ("names", "table"),
    [(preset.names, preset) for preset in (SIX_CLASSES, CAMVID_CLASSES)]
    + [(("floor", "rack", "lift"), named_classes(("floor", "rack", "lift")))],
)
def test_masks_of_a_bag_have_the_colours_of_the_run(tmp_path, names, table):
    drawn, strip = labelled_bag(tmp_path / "a.mcap", names)
    np.testing.assert_allclose(drawn, table.classes[1].color_rgb, atol=2)
    np.testing.assert_array_equal(strip, legend(table, width=300))


def test_classes_without_names_or_with_equal_ones_are_drawn(tmp_path):
    drawn, strip = labelled_bag(tmp_path / "a.mcap", ())
    assert drawn.max() > 0
    np.testing.assert_array_equal(strip, legend(None, width=300))
    drawn, strip = labelled_bag(tmp_path / "b.mcap", ("a 2", "a", "a", "", "3"))
    assert drawn.max() > 0
    assert strip.shape[0] > 0


def bag_with_results(folder, events_path):
    """Write the events as a bag, and beside it masks, boxes and names of a made-up student."""
    with open_recording(events_path) as recording:
        convert(recording, folder / "events.mcap", ConvertConfig())
    with (
        open_recording(folder / "events.mcap") as recording,
        McapWriter(folder / "both.mcap") as both,
        McapWriter(folder / "masks.mcap") as masks,
    ):
        for i, p in enumerate(recording.packets()):
            both.write(p.topic, p.type_name, bytes(p.data), p.receive_time_ns)
            header = Header(Time.from_ns(p.receive_time_ns), "cam")
            mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
            mask[:10, :10] = 1
            hypothesis = ObjectHypothesisWithPose(ObjectHypothesis("1", 0.5))
            center = Pose2D(Point2D(40.0, 30.0))
            box = Detection2D(header, [hypothesis], BoundingBox2D(center, 20.0, 10.0), "7")
            no_class = Detection2D(header, [], BoundingBox2D(center, 20.0, 10.0), "x")
            names = LabelInfo(header, [VisionClass(0, "road"), VisionClass(1, "car")], 0.0)
            for bag in (both, masks):
                if i == 0:
                    bag.write("/seg/label_info", LabelInfo.TYPE, names.serialize(), 0)
                for topic, message in (
                    ("/seg/mask", Image.from_array(header, mask, "mono8")),
                    ("/seg/detections", Detection2DArray(header, [box, no_class])),
                ):
                    bag.write(topic, message.TYPE, message.serialize(), p.receive_time_ns)
            if i % 10 == 0:
                text = StringMessage("hello").serialize()
                both.write("/notes", StringMessage.TYPE, text, p.receive_time_ns)


def test_masks_and_boxes_are_laid_over(tmp_path):
    make(tmp_path / "a.npz")
    bag_with_results(tmp_path, tmp_path / "a.npz")
    run("view", tmp_path / "both.mcap", tmp_path / "own.mp4", "--scale", "1")
    run("view", tmp_path / "events.mcap", tmp_path / "other.mp4", "--scale", "1",
        "--results", tmp_path / "masks.mcap")  # fmt: skip
    run("view", tmp_path / "events.mcap", tmp_path / "none.mp4", "--scale", "1")
    own, other, none = (film(tmp_path / f"{n}.mp4")[10][1] for n in ("own", "other", "none"))

    def colour(picture, rows, columns):
        part = picture[rows, columns].astype(int)
        return float((part.max(axis=2) - part.min(axis=2)).mean())

    mask, box = (slice(2, 8), slice(2, 8)), (slice(25, 35), slice(29, 32))
    for picture in (own, other):
        assert colour(picture, *mask) > 30
        assert colour(picture, *box) > 10
    assert np.abs(none[mask].astype(int) - own[mask]).mean() > 20
    with open_recording(tmp_path / "events.mcap") as recording:
        assert not has_results(recording)
        with pytest.raises(RecordingError, match="no masks"):
            view(recording, tmp_path / "x.mp4", results=recording)


def test_camera_images_and_masks_that_cannot_be_drawn(tmp_path):
    make(tmp_path / "a.npz")
    bag_with_results(tmp_path, tmp_path / "a.npz")
    path = tmp_path / "camera.mcap"
    with open_recording(tmp_path / "both.mcap") as recording, McapWriter(path) as writer:
        packets = list(recording.packets(["/event_camera/events", "/seg/mask"]))
        for p in packets:
            data = bytes(p.data)
            if p.topic == "/seg/mask" and p is packets[-1]:
                data = data.replace(b"mono8", b"MONO8")
            writer.write(p.topic, p.type_name, data, p.receive_time_ns)
        # 0.2 s of images of twice the size; then the camera is silent
        start_ns = packets[0].receive_time_ns
        for k in range(20):
            header = Header(Time.from_ns(start_ns + k * 10_000_000), "cam")
            pixels = np.full((2 * HEIGHT, 2 * WIDTH, 3), (200, 40, 0), np.uint8)
            image = Image.from_array(header, pixels, "rgb8")
            image = replace(image, encoding="h265") if k == 3 else image
            writer.write("/event_camera/image_raw", Image.TYPE, image.serialize(), start_ns + k)
    result = run("view", path, tmp_path / "a.mp4", "--scale", "1", "--kind", "images")
    assert "warning: 1 camera image left out: image encoding 'h265'" in result.stderr
    assert "warning: 1 result left out: a mask is mono8, got 'MONO8'" in result.stderr
    pictures = [picture for _, picture in film(tmp_path / "a.mp4")]
    assert pictures[0].shape[1] == WIDTH
    assert pictures[0].shape[0] > HEIGHT  # the legend is below
    assert np.abs(pictures[5][30:40, 20:40] - np.array([0, 40, 200])).mean() < 12
    late = pictures[-1][30:40, 20:40].astype(int)
    assert np.abs(late - np.array([0, 40, 200])).mean() > 40  # the events
    with (
        open_recording(tmp_path / "events.mcap") as recording,
        pytest.raises(RecordingError, match="no camera images"),
    ):
        view(recording, tmp_path / "x.mp4", ViewConfig(kind="images"))


def test_what_cannot_be_is_refused(tmp_path):
    make(tmp_path / "a.npz")
    with open_recording(tmp_path / "a.npz") as recording:
        with pytest.raises(ConfigError, match=r"ends in \.mp4 or \.png"):
            view(recording, tmp_path / "a.gif")
        with pytest.raises(RecordingError, match="no events in that span"):
            view(recording, tmp_path / "a.mp4", ViewConfig(start_us=10**9))
    for config, message in (
        ({"kind": "voxels"}, "kind must be"), ({"window_us": 0}, "window_us"),
        ({"speed": 0}, "speed"), ({"start_us": 5, "end_us": 5}, "end after it"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            ViewConfig(**config)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_cut_keeps_names_and_other_topics(tmp_path):
    events = make(tmp_path / "a.npz")
    bag_with_results(tmp_path, tmp_path / "a.npz")
    result = run(
        "cut", tmp_path / "both.mcap", tmp_path / "c.mcap", "--start", "0.25", "--end", "0.5"
    )
    first = int(events.t_us[0])
    keep = (events.t_us >= first + 250_000) & (events.t_us < first + 500_000)
    with open_recording(tmp_path / "c.mcap") as recording:
        found = Events.concatenate([b.events for b in recording.batches()])
        counts = {t.name: t.message_count for t in recording.info.topics}
    assert found.equals(events[keep])
    assert counts["/notes"] in {2, 3}
    assert 24 <= counts["/seg/detections"] <= 26
    assert f"{sum(keep):,} events" in result.stdout


def test_cut_of_a_real_bag_is_exact(shared_data, tmp_path):
    source = shared_data / "bags" / "evt3_vga_person"
    run("cut", source, tmp_path / "c.mcap", "--start", "1.0", "--end", "1.5")
    with open_recording(source) as recording:
        whole = Events.concatenate([b.events for b in recording.batches()])
        topic = recording.info.topic
    since = whole.t_us - whole.t_us[0]
    with open_recording(tmp_path / "c.mcap") as recording:
        assert (recording.info.topic, recording.info.encoding) == (topic, "evt3")
        found = Events.concatenate([b.events for b in recording.batches()])
    wanted = whole[(since >= 1_000_000) & (since < 1_500_000)]
    assert len(found) == len(wanted) > 10_000
    assert len(np.unique(wanted.t_us - found.t_us)) == 1
    assert np.array_equal(found.x, wanted.x)


@pytest.mark.parametrize("target", ["a.mp4", "a.png"])
def test_ctrl_c_leaves_nothing(tmp_path, target):
    """The source takes many seconds to show; the interrupt comes when its first events are shown.

    A sheet is a file only at the very end, so what is waited for is the progress bar.
    """
    source, out = tmp_path / "a.npz", tmp_path / "out"
    out.mkdir()
    make(source, seconds=400.0, count=3_000_000)
    command = [sys.executable, "-m", "evdistill_core", "view", source, out / target]
    process = subprocess.Popen(
        [*command, "--window-ms", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"FORCE_COLOR": "1", "COLUMNS": "200"},
    )
    errors = b""
    while b"events/s" not in errors:
        piece = process.stderr.read1()
        assert piece, errors
        errors += piece
    process.send_signal(signal.SIGINT)
    output, rest = process.communicate(timeout=60)
    assert process.returncode == 130, errors + rest
    assert b"Traceback" not in errors + rest
    assert output == b""
    assert list(out.iterdir()) == []
