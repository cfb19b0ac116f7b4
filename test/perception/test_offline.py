import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from report_pages import check_page

from evdistill_core.messages.standard import Header, Image, Time
from evdistill_core.messages.vision import Detection2DArray, LabelInfo
from evdistill_core.perception.offline import run_recording
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.recordings.writers.mcap import McapWriter

av = pytest.importorskip("av")


@pytest.fixture
def bag(tmp_path, scene):
    return write_bag(tmp_path / "bag.mcap", [scene.packet(i) for i in range(40)])


def write_bag(path, packets):
    with McapWriter(path) as writer:
        for packet in packets:
            writer.write(
                "/event_camera/events", packet.type_name, packet.data, packet.receive_time_ns
            )
    return path


def run(bag, out, student, **parameters):
    given = SegmentationParameters(student=str(student), **parameters)
    return run_recording(bag, out, given, show_progress=False)


def messages(path):
    from rosbags.highlevel import AnyReader  # an independent reader

    found = {}
    with AnyReader([path]) as reader:
        for connection, stamp_ns, data in reader.messages():
            found.setdefault(connection.topic, []).append((stamp_ns, bytes(data)))
    return found


def test_run_leaves_film_sheet_masks_and_report(tmp_path, bag, tiny_student):
    out = tmp_path / "out"
    report = run(bag, out, tiny_student)
    assert sorted(p.name for p in out.iterdir()) == [
        "masks.mcap",
        "overlay.mp4",
        "overlay.png",
        "report.html",
        "report.json",
    ]
    page = check_page((out / "report.html").read_text(encoding="utf-8"))
    assert f"{bag.name} through {tiny_student.name}" in page.text
    assert "8,000" in page.text
    assert f"evdistill report {out / 'masks.mcap'} --labels LABELS" in page.text
    assert [a["href"] for t, a in page.elements if t == "a"] == [
        "overlay.mp4", "overlay.png", "masks.mcap", "report.json",
    ]  # fmt: skip
    assert json.loads((out / "report.json").read_text()) == report
    assert report["events"] == 40 * 200
    assert (report["windows"], report["windows_dropped"], report["seq_gaps"]) == (8, 0, 0)
    assert report["encoding"] == "libcaer_cmp"
    assert set(report["latency_ms"]) == {"p50", "p95", "p99"}
    assert {"decode", "infer", "publish"} <= set(report["stages_ms"])
    assert 0 < report["rss_mb"] < 4000
    with av.open(str(out / "overlay.mp4")) as film:
        frames = list(film.decode(video=0))
    assert len(frames) == 8
    assert frames[-1].time == pytest.approx(0.35, abs=0.001)


def test_masks_are_a_rosbag_with_one_stamp_for_each_window(tmp_path, bag, tiny_student):
    run(bag, tmp_path / "out", tiny_student)
    found = messages(tmp_path / "out" / "masks.mcap")
    assert {t: len(m) for t, m in found.items()} == {
        "/segmentation/mask": 8,
        "/segmentation/detections": 8,
        "/segmentation/label_info": 1,
        "/diagnostics": 1,
    }
    for (t, mask), (_, detections) in zip(
        found["/segmentation/mask"], found["/segmentation/detections"], strict=True
    ):
        image = Image.parse(mask)
        assert (image.encoding, image.height, image.width) == ("mono8", 48, 64)
        assert image.header == Detection2DArray.parse(detections).header
        assert image.header.stamp.to_ns() == t
    labels = LabelInfo.parse(found["/segmentation/label_info"][0][1])
    assert labels.class_map[5].class_name == "vehicle"


def test_a_run_says_which_images_it_left_out(tmp_path, scene, tiny_student):
    stamps_ns = [scene.packet(i).receive_time_ns for i in range(40)]
    path = tmp_path / "bag.mcap"
    with McapWriter(path) as writer:
        for i, stamp_ns in enumerate(stamps_ns):
            packet = scene.packet(i)
            writer.write("/cam/events", packet.type_name, packet.data, stamp_ns)
            header = Header(Time.from_ns(stamp_ns), "cam")
            if i % 10 == 0:
                image = Image.from_array(header, np.full((48, 64), 0x5070, np.uint16), "mono16")
                image = replace(image, encoding="h264") if i == 30 else image
                writer.write("/cam/image_raw", Image.TYPE, image.serialize(), stamp_ns + 1)
    report = run(path, tmp_path / "out", tiny_student)
    images = report["images"]
    assert images["read"] == 4
    assert list(images["left_out"].values()) == [1]
    (reason,) = images["left_out"]
    assert "'h264'" in reason
    assert report["warnings"] == [f"1 camera image left out: {reason}"]
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as film:
        frames = [f.to_ndarray(format="gray") for f in film.decode(video=0)]
    assert abs(int(np.median(frames[-1])) - 0x50) < 6


def test_two_runs_give_the_same_masks_with_and_without_pictures(tmp_path, bag, tiny_student):
    given = SegmentationParameters(student=str(tiny_student))
    for name, pictures in (("a", True), ("b", False)):
        run_recording(bag, tmp_path / name, given, pictures=pictures, show_progress=False)
    a, b = (messages(tmp_path / n / "masks.mcap")["/segmentation/mask"] for n in "ab")
    assert a == b
    names = sorted(p.name for p in (tmp_path / "b").iterdir())
    assert names == ["masks.mcap", "report.html", "report.json"]
    assert "<img " not in (tmp_path / "b" / "report.html").read_text(encoding="utf-8")
    reports = [json.loads((tmp_path / n / "report.json").read_text()) for n in "ab"]
    assert [r["pictures"] for r in reports] == [
        {"drawn": 8, "above_rate": 0, "too_slow": 0},
        None,
    ]
    assert [f["name"] for f in reports[0]["files"]] == ["overlay.mp4", "overlay.png", "masks.mcap"]
    for file in reports[0]["files"]:
        assert file["bytes"] == (tmp_path / "a" / file["name"]).stat().st_size


def test_pictures_of_an_earlier_run_do_not_stay(tmp_path, bag, tiny_student):
    run(bag, tmp_path, tiny_student)
    given = SegmentationParameters(student=str(tiny_student))
    run_recording(bag, tmp_path, given, pictures=False, show_progress=False)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["bag.mcap", "masks.mcap", "report.html", "report.json"]


def test_every_event_of_a_file_is_accounted_for(tmp_path, tiny_student):
    rows = [f"{1 + i * 0.001:.6f} {i % 64} {i % 48} 1" for i in range(200)]
    rows[50] = "1.050000 900 3 1"  # outside a frame of 64 x 48
    rows[80] = "1.020000 5 5 0"  # 59 ms out of order: put in its place
    path = tmp_path / "events.txt"
    path.write_text("64 48\n" + "\n".join(rows) + "\n")
    report = run(path, tmp_path / "out", tiny_student, max_rate_hz=10.0)
    found = report["event_account"]
    assert (found["read"], report["windows"], report["windows_skipped"]) == (200, 2, 2)
    left_out = {name: count for name, count in found["left_out"].items() if count}
    assert left_out == {"out_of_frame": 1, "max_rate": 98}
    assert found["used"] == 200 - 1 - 98
    assert report["counters"]["stream_time_sorted"] > 0
    assert report["sensor_s"] == pytest.approx(0.1)


def test_a_real_recording_without_packets(tmp_path, shared_data, tiny_student):
    path = shared_data / "recordings" / "davis346_street_short.aedat4"
    report = run(path, tmp_path, tiny_student)
    assert report["events"] == 6_676
    assert report["windows"] == 4
    assert (report["width"], report["height"]) == (346, 260)


def test_a_real_bag_gives_dense_masks_when_told(tmp_path, shared_data, tiny_student):
    path = shared_data / "bags" / "libcaer_cmp_davis346_tags"
    report = run(path, tmp_path, tiny_student, unlabelled_radius_px=-1)
    assert report["events"] == 571_266
    found = messages(tmp_path / "masks.mcap")["/segmentation/mask"]
    assert len(found) == report["windows"] == 20
    masks = [Image.parse(data).to_array() for _, data in found]
    assert all(m.shape == (260, 346) and (m < 6).all() for m in masks)


def evdistill(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "evdistill_core", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_command(tmp_path, bag, tiny_student):
    done = evdistill(
        "run", bag, "--out", tmp_path / "o", "--student", tiny_student, "-p", "min_score:=0.9"
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0][:3] == ["windows", "computed", "8"]
    assert rows[1:3] == [["events", "read", "8,000"], ["events", "used", "8,000"]]
    assert rows[-1] == ["report", str(tmp_path / "o" / "report.html")]
    page = check_page((tmp_path / "o" / "report.html").read_text(encoding="utf-8"))
    assert f"evdistill run {bag} --out" in page.text
    assert "\x1b" not in done.stdout + done.stderr


def test_command_without_pictures_and_quiet(tmp_path, bag, tiny_student):
    out = tmp_path / "o"
    done = evdistill("run", bag, "-o", out, "--student", tiny_student, "--no-pictures", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("8 windows in ")
    assert sorted(p.name for p in out.iterdir()) == ["masks.mcap", "report.html", "report.json"]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", "there is no recording"),
        ("damaged", "bag.mcap"),
        ("no_events", "no event"),
        ("unknown_encoding", "encoding"),
        ("wrong_student", "student file"),
        ("no_student", "no student file"),
        ("parameter", "unknown parameter no_such"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(tmp_path, scene, tiny_student, case, words):
    bag, student, more = tmp_path / "bag.mcap", tiny_student, []
    packets = [scene.packet(i) for i in range(12)]
    if case == "unknown_encoding":
        packets = [
            type(p)(
                p.type_name,
                bytes(p.data).replace(b"libcaer_cmp", b"libcaer_xyz"),
                p.receive_time_ns,
            )
            for p in packets
        ]
    if case != "missing":
        write_bag(bag, packets)
    if case == "damaged":
        bag.write_bytes(bag.read_bytes()[:300])
    if case == "no_events":
        with McapWriter(bag) as writer:
            image = Image(encoding="mono8").serialize()
            writer.write("/image", Image.TYPE, image, 1)
    if case == "wrong_student":
        student = tmp_path / "bag.mcap"
    if case == "no_student":
        student = tmp_path / "none.evstudent"
    if case == "parameter":
        more = ["-p", "no_such:=1"]
    out = tmp_path / "out"
    done = evdistill("run", bag, "--out", out, "--student", student, *more)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not out.exists() or list(out.iterdir()) == []


def test_ctrl_c_leaves_nothing_half_written(tmp_path, scene, tiny_student):
    bag = write_bag(tmp_path / "bag.mcap", [scene.packet(i) for i in range(5000)])
    out = tmp_path / "out"
    command = [sys.executable, "-m", "evdistill_core", "run", str(bag), "--out", str(out)]
    with subprocess.Popen(
        [*command, "--student", str(tiny_student)], stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (out.exists() and any(out.iterdir())):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert list(out.iterdir()) == []


def test_arrays_of_masks_differ_between_students(tmp_path, bag, tiny_student):
    """A guard against results that do not come from the network."""
    one = run(bag, tmp_path / "a", tiny_student, unlabelled_radius_px=-1)
    assert one["windows"] == 8
    masks = [
        Image.parse(d).to_array()
        for _, d in messages(tmp_path / "a" / "masks.mcap")["/segmentation/mask"]
    ]
    assert len({m.tobytes() for m in masks}) > 1
    assert np.unique(np.concatenate([m.ravel() for m in masks])).size > 1
