"""Decode packets with event_camera_codecs, the C++ library of the ROS camera drivers.

Compiled when needed from ``codecs_peer.cpp`` and headers that the user has: an installation of ROS
with ``ros-DISTRO-event-camera-codecs``, or a checkout. The library is measured, never used.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evdistill_core.events.array import Events, Triggers

HEADER = Path("event_camera_codecs", "decoder.h")
#: Encodings that the library reads.
READS = ("evt3", "libcaer", "libcaer_cmp", "mono")
#: Encodings whose times it gives in nanoseconds.
IN_NS = ("libcaer", "mono")
#: Columns of the program's answer, one after another.
EVENT_COLUMNS = ("<u8", "<u2", "<u2", "u1")
EDGE_COLUMNS = ("<u8", "u1", "u1")


class PeerResult(NamedTuple):
    """What the C++ decoder did.

    Attributes:
        events: all of them, in its order.
        triggers: trigger edges, in its order.
        ms: wall time of each pass.
        cpu_ms: CPU time of each pass.
    """

    events: Events
    triggers: Triggers
    ms: list[float]
    cpu_ms: list[float]


def build(headers: Path, folder: Path) -> Path:
    """Compile the program; return its path.

    Args:
        headers: where the library's headers are: a ROS prefix, its ``include``, or a checkout.
        folder: where to put the program.

    Raises:
        SystemExit: the headers are not there, or the compiler fails.
    """
    ways = [headers, headers / "include"]
    ways += [way / "event_camera_codecs" for way in ways]
    include = next((way for way in ways if (way / HEADER).exists()), None)
    if include is None:
        raise SystemExit(
            f"{headers} holds no {HEADER}: give the prefix of a ROS installation that has it "
            "(/opt/ros/DISTRO, after `apt install ros-DISTRO-event-camera-codecs`), or a checkout "
            "of ros-event-camera/event_camera_codecs"
        )
    program = folder / "codecs_peer"
    source = Path(__file__).with_suffix(".cpp")
    command = ["g++", "-std=c++17", "-O3", "-march=native", f"-I{include}", str(source)]
    try:
        subprocess.run([*command, "-o", str(program)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"cannot compile {source.name}: {error}") from error
    return program


def decode(  # noqa: PLR0913, PLR0917 - what to decode, and how often
    program: Path,
    encoding: str,
    size: tuple[int, int],
    packets: Sequence[tuple[int, bytes]],
    repeats: int,
    folder: Path,
) -> PeerResult:
    """Decode packets of ``time_base`` and bytes, several times over.

    Args:
        program: what ``build`` made.
        encoding: one of ``READS``.
        size: width and height of the sensor.
        packets: of one stream, in order.
        repeats: passes over all of them.
        folder: for what passes between the two programs.
    """
    source, target = folder / "packets", folder / "events"
    with source.open("wb") as file:
        for time_base, payload in packets:
            file.write(np.array([time_base, len(payload)], "<u8").tobytes())
            file.write(payload)
    command = [str(program), encoding, *map(str, size), str(repeats), str(source), str(target)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    with target.open("rb") as file:
        t, x, y, p = (np.fromfile(file, kind, answer["events"]) for kind in EVENT_COLUMNS)
        edge_t, channel, edge = (np.fromfile(file, kind, answer["edges"]) for kind in EDGE_COLUMNS)
    unit = 1000 if encoding in IN_NS else 1
    events = Events(x, y, (t // unit).astype(np.int64), p, *size)
    triggers = Triggers((edge_t // unit).astype(np.int64), channel, edge)
    return PeerResult(events, triggers, answer["ms"], answer["cpu_ms"])
