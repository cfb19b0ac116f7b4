import numpy as np
import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.messages.calibration import fit_to, load_camera_info
from evdistill_core.messages.standard import CameraInfo, Header, RegionOfInterest, Time

FILE = """
image_width: 640
image_height: 480
camera_name: left
camera_matrix: {rows: 3, cols: 3, data: [400, 0, 320, 0, 410, 240, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.3, 0.1, 0.001, 0.002, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [400, 0, 320, 8, 0, 410, 240, 0, 0, 0, 1, 0]}
"""
HEADER = Header(Time(7, 8), "camera")


@pytest.fixture
def info(tmp_path):
    path = tmp_path / "left.yaml"
    path.write_text(FILE)
    return load_camera_info(f"file://{path}")


def project(info, point):
    u, v, w = np.reshape(info.p, (3, 4)) @ [*point, 1]
    return np.array([u / w, v / w])


def test_a_file_is_read(info):
    assert (info.width, info.height, info.distortion_model) == (640, 480, "plumb_bob")
    assert info.d == [-0.3, 0.1, 0.001, 0.002, 0]
    assert info.k[2] == 320
    assert info.p[3] == 8
    assert CameraInfo.parse(info.serialize()).p[3] == 8


def test_a_point_lands_at_the_same_part_of_a_picture_of_another_size(info):
    small = fit_to(info, HEADER, width=346, height=260)
    assert (small.width, small.height, small.header) == (346, 260, HEADER)
    for point in [(0, 0, 1), (0.3, -0.2, 2), (-1, 0.5, 3)]:
        share = project(info, point) / [640, 480]
        assert project(small, point) / [346, 260] == pytest.approx(share)
    assert small.k[0] == pytest.approx(400 * 346 / 640)
    assert small.d == info.d
    assert info.width == 640  # not modified


def test_a_region_of_interest_is_folded_in(info):
    from dataclasses import replace

    seen = replace(info, roi=RegionOfInterest(100, 50, 240, 320), binning_x=2, binning_y=2)
    fitted = fit_to(seen, HEADER, width=160, height=120)
    point = (0.1, 0.05, 1)
    expected = (project(info, point) - [100, 50]) / 2
    assert project(fitted, point) == pytest.approx(expected)
    assert (fitted.roi, fitted.binning_x) == (RegionOfInterest(), 0)


def test_an_uncalibrated_camera_only_gets_the_size():
    fitted = fit_to(CameraInfo(), HEADER, width=10, height=8)
    assert (fitted.width, fitted.height) == (10, 8)
    assert not any(fitted.k)


def test_packages_are_found(tmp_path, monkeypatch, info):
    folder = tmp_path / "share" / "robot" / "calibration"
    folder.mkdir(parents=True)
    (folder / "left.yaml").write_text(FILE)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    assert load_camera_info("package://robot/calibration/left.yaml") == info
    with pytest.raises(ConfigError, match="the package other is in no folder"):
        load_camera_info("package://other/left.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: 1", "is no camera calibration.*image_height|camera_matrix"),
        (FILE.replace("0, 0, 1]}\ndist", "0, 0]}\ndist"), "must have 9 values, got 8"),
        (FILE.replace("640", "wide"), "image_width must be 0"),
        (
            FILE.replace("{rows: 1, cols: 5, data", "{rows: 1, cols: 5, dat"),
            "no camera calibration",
        ),
    ],
)
def test_what_is_no_calibration_is_named(tmp_path, content, words):
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=words):
        load_camera_info(str(path))


def test_other_schemes_are_refused():
    with pytest.raises(ConfigError, match="must be file://, package:// or a path"):
        load_camera_info("http://example.org/left.yaml")
