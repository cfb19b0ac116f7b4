"""The shipped student on real recordings: what the README says of it must stay true."""

import importlib.util
import sys
from pathlib import Path

import pytest

from evdistill_core.inference.postprocess import PostprocessConfig
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile, shipped_students

ROOT = Path(__file__).resolve().parents[1]


def load_benchmark():
    path = ROOT / "benchmarks" / "real_recordings.py"
    spec = importlib.util.spec_from_file_location("real_recordings", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


benchmark = load_benchmark()


@pytest.fixture(scope="module")
def student():
    return StudentFile.open(benchmark.SHIPPED)


SIZES = {"street6": (16_000_000, 3_500_000), "street6-nano": (5_000_000, 1_000_000)}


def measure(student, path, tmp_path):
    config = PostprocessConfig()
    method = benchmark.StudentMethod(student, make_runner(student, device="cpu"), config)
    sheet = tmp_path / "sheet.png"
    row = benchmark.measure(path, method, student.info.input.window_us, sheet)
    assert sheet.stat().st_size > 0
    return row


def test_all_are_named():
    assert sorted(SIZES) == shipped_students()


@pytest.mark.parametrize("name", SIZES)
def test_it_is_small_whole_and_says_where_it_comes_from(name):
    student = StudentFile.open(name)
    assert student.size_bytes < SIZES[name][0]
    assert student.info.network.parameters < SIZES[name][1]
    student.verify()
    assert student.info.classes.names[-2:] == ("human", "vehicle")
    card = student.card().lower()
    for word in ("camvid", "non-commercial", "miou", "steps", "limits"):
        assert word in card, word


def test_cars_on_the_street(student, tmp_path):
    row = measure(student, ROOT / "demo" / "davis346_street.mcap", tmp_path)
    assert row.cars > 100
    assert row.cars_found >= 0.85 * row.cars
    # A far dark car is no reference (the pictures barely show it), though its box is right.
    assert row.boxes_on_cars >= 0.85 * row.vehicle_boxes
    assert row.human_boxes <= 0.1 * row.windows


@pytest.mark.parametrize("name", ["bags/evt3_vga_person", "recordings/dvxplorer_person.aedat4"])
def test_a_person_is_no_vehicle(student, shared_data, tmp_path, name):
    row = measure(student, shared_data / name, tmp_path)
    assert row.vehicle_boxes <= 0.2 * row.windows
    assert row.human_boxes > 0
    assert row.human_share > 5 * row.vehicle_share


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("recordings/imx636_evt3.raw", 0.1),
        ("bags/libcaer_cmp_davis346_tags", 0.1),
        ("recordings/atis_plane.es", 0.3),  # the aim is 0.1
    ],
)
def test_what_is_no_vehicle_has_no_box(student, shared_data, tmp_path, name, most):
    row = measure(student, shared_data / name, tmp_path)
    assert row.vehicle_boxes <= most * row.windows
    assert row.windows > 10


def test_overlap_of_boxes():
    assert benchmark.iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1.0
    assert benchmark.iou((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(8 / 24)
    assert benchmark.iou((0, 0, 4, 4), (4, 0, 8, 4)) == 0.0
