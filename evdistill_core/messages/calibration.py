"""Calibrations of cameras: read from files of camera_calibration, fitted to an image's size."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evdistill_core.foundation.config import load_yaml
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.messages.standard import CameraInfo, Header, RegionOfInterest


def load_camera_info(url: str) -> CameraInfo:
    """Read a calibration file as camera_calibration and camera_info_manager write it.

    Args:
        url: ``file:///path``, ``package://name/path`` (found through AMENT_PREFIX_PATH), or a path.

    Raises:
        ConfigError: no such file or package, or it is no calibration.
    """
    path = _path_of(url)
    content = load_yaml(path)
    try:
        coefficients = content.get("distortion_coefficients") or {"data": []}
        if not isinstance(coefficients, Mapping):
            raise TypeError("distortion_coefficients is no mapping")
        return CameraInfo(
            Header(),
            _size(content, "image_height"),
            _size(content, "image_width"),
            str(content.get("distortion_model", "plumb_bob")),
            [float(v) for v in coefficients["data"]],
            _matrix(content, "camera_matrix", 9),
            _matrix(content, "rectification_matrix", 9),
            _matrix(content, "projection_matrix", 12),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} is no camera calibration (image_width, image_height, camera_matrix, "
            f"distortion_coefficients, rectification_matrix, projection_matrix): {error}"
        ) from error


def fit_to(info: CameraInfo, header: Header, *, width: int, height: int) -> CameraInfo:
    """Return a calibration for an image of another size of the same view.

    A region of interest and binning are folded in: what comes out describes the whole image that
    it is published with. As image_proc does, focal lengths and centres are multiplied by the ratio
    of the sizes; distortion is in normalised coordinates and stays.

    Args:
        info: as it came; a size of 0 means that the camera is not calibrated.
        header: of the image.
        width: columns of the image.
        height: rows of the image.
    """
    plain = replace(
        info, header=header, width=width, height=height, binning_x=0, binning_y=0,
        roi=RegionOfInterest(),
    )  # fmt: skip
    roi = info.roi
    seen_width, seen_height = roi.width or info.width, roi.height or info.height
    if not seen_width or not seen_height:
        return plain
    x_scale, y_scale = width / seen_width, height / seen_height
    k, p = list(info.k), list(info.p)
    for matrix, row in ((k, 3), (p, 4)):
        matrix[2] -= roi.x_offset * matrix[2 * row + 2]
        matrix[row + 2] -= roi.y_offset * matrix[2 * row + 2]
        matrix[:row] = [v * x_scale for v in matrix[:row]]
        matrix[row : 2 * row] = [v * y_scale for v in matrix[row : 2 * row]]
    return replace(plain, k=k, p=p)


def _path_of(url: str) -> Path:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url).expanduser()
    if scheme == "file":
        return Path(rest)
    if scheme != "package":
        raise ConfigError(
            f"camera_info_url must be file://, package:// or a path, got {url[:100]!r}"
        )
    package, _, inside = rest.partition("/")
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        folder = Path(prefix) / "share" / package
        if prefix and folder.is_dir():
            return folder / inside
    raise ConfigError(f"{url}: the package {package} is in no folder of AMENT_PREFIX_PATH")


def _size(content: Mapping[str, Any], name: str) -> int:
    value = content[name]
    if not isinstance(value, int) or not 0 <= value < 1 << 16:
        raise ValueError(f"{name} must be 0 .. 65535, got {value!r}")
    return value


def _matrix(content: Mapping[str, Any], name: str, count: int) -> list[float]:
    values = [float(v) for v in content[name]["data"]]
    if len(values) != count:
        raise ValueError(f"{name} must have {count} values, got {len(values)}")
    return values
