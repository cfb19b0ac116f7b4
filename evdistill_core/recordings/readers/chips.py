"""Cameras by name: the size of the sensor and, for jAER's addresses, which bits are what.

jAER writes the name of its Java class into a file. Classes of one chip differ in the frames and
the biases, not in the addresses of events.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evdistill_core.foundation.errors import RecordingError

DVS128_LAYOUT, DAVIS_LAYOUT = "dvs128", "davis"


@dataclass(frozen=True)
class Chip:
    """One kind of sensor with jAER's addresses.

    Attributes:
        width: columns.
        height: rows.
        layout: which bits of an address are column, row and polarity.
    """

    width: int
    height: int
    layout: str = DAVIS_LAYOUT

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height


_DVS128 = Chip(128, 128, DVS128_LAYOUT)
_DAVIS128, _DAVIS208 = Chip(128, 128), Chip(208, 192)
_DAVIS240, _DAVIS346, _DAVIS640 = Chip(240, 180), Chip(346, 260), Chip(640, 480)
#: Lower-case names of jAER's classes, and of the cameras. CDAVIS and DavisRGBW640 have events at
#: every second pixel, SciDVS had several sizes: they are not here on purpose.
CHIPS: Mapping[str, Chip] = {
    "dvs128": _DVS128, "tmpdiff128": _DVS128,
    "davis128": _DAVIS128, "davis128color": _DAVIS128,
    "davis208": _DAVIS208, "davis208pixelparade": _DAVIS208, "davis208pixelparadecolor": _DAVIS208,
    "davis240": _DAVIS240, "davis240a": _DAVIS240, "davis240b": _DAVIS240, "davis240c": _DAVIS240,
    "dvs240": _DAVIS240,
    "davis346": _DAVIS346, "davis346b": _DAVIS346, "davis346bcolor": _DAVIS346,
    "davis346red": _DAVIS346, "davis346redcolor": _DAVIS346, "davis346blue": _DAVIS346,
    "davis346mini": _DAVIS346, "davis346zynq": _DAVIS346, "davis346cbsi": _DAVIS346,
    "davis640": _DAVIS640, "davis640color": _DAVIS640,
}  # fmt: skip
#: one name for each kind, for messages
FAMILIES = ("dvs128", "davis128", "davis208", "davis240", "davis346", "davis640")
#: Other sensors by a part of the name of their plugin or camera, longest names first.
SENSORS = (
    ("genx320", (320, 320)), ("imx636", (1280, 720)), ("imx646", (1280, 720)),
    ("dvxplorerlite", (320, 240)), ("dvxplorer", (640, 480)),
    ("gen41", (1280, 720)), ("gen4", (1280, 720)), ("gen31", (640, 480)), ("gen3", (640, 480)),
)  # fmt: skip
GENERATIONS = {
    "3.0": (640, 480), "3.1": (640, 480), "4.0": (1280, 720), "4.1": (1280, 720),
    "4.2": (1280, 720),
}  # fmt: skip
#: Sizes of sensors that are in wide use: a file whose coordinates reach one of them is of it.
KNOWN_SIZES = (
    (34, 34), (128, 128), (208, 192), (240, 180), (304, 240), (320, 240), (320, 320), (346, 260),
    (640, 480), (1280, 720),
)  # fmt: skip


def chip_by_name(path: Path, name: str, *, told_by: str) -> Chip:
    """Return the chip of a class or a camera.

    Args:
        path: for the error.
        name: a Java class with or without its package, or the name of a camera.
        told_by: what gave the name, for the error.

    Raises:
        RecordingError: a chip whose addresses we do not know.
    """
    short = re.split(r"[.\s/]+", name.strip())[-1] if name.strip() else ""
    chip = CHIPS.get(re.sub(r"[^a-z0-9]", "", short.lower()))
    if chip is None:
        raise RecordingError(
            f"{path}: {told_by} names the camera {name.strip()[:80]!r}, whose addresses we do not "
            "know. If it is wired like one that we know, say which with --camera: "
            f"{', '.join(FAMILIES)}. Else convert the file with jAER or iniVation's DV"
        )
    return chip


def sensor_size(name: str) -> tuple[int, int] | None:
    """Return the size of a sensor by its name; None if it is unknown."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    found = next((size for mark, size in SENSORS if mark in plain), None)
    if found is None and plain in CHIPS:
        found = CHIPS[plain].size
    return found


def camera_size(path: Path, name: str) -> tuple[int, int]:
    """Return the size of the sensor that ``--camera`` names.

    Raises:
        RecordingError: nobody of that name.
    """
    size = sensor_size(name)
    if size is None:
        known = [mark for mark, _ in SENSORS] + list(FAMILIES)
        raise RecordingError(
            f"{path}: --camera {name} is no camera that we know; known: {', '.join(known)}. "
            "Or give --size WIDTHxHEIGHT"
        )
    return size
