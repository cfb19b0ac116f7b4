"""Time how other libraries read a file; run by ``decode.py --peers`` with their own Python.

Prints JSON: for each library its version, the number of events and the seconds of each pass, or
why it failed. These libraries are measured, never used: faery is LGPL, expelliarmus GPL.

    PYTHON decode_peers.py ENCODING FILE PASSES
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Checks = dict[str, int]


def with_faery(path: str) -> Checks:
    """Read packet by packet."""
    import faery  # noqa: PLC0415

    count = sum_x = sum_y = sum_p = 0
    for part in faery.events_stream_from_file(path):
        count += len(part)
        if CHECKING:
            sum_x += int(part["x"].sum(dtype=np.int64))
            sum_y += int(part["y"].sum(dtype=np.int64))
            sum_p += int(part["on"].sum(dtype=np.int64))
    return {"events": count, "x": sum_x, "y": sum_y, "p": sum_p}


def with_expelliarmus(path: str) -> Checks:
    """Read the whole file at once, the faster of its two ways."""
    from expelliarmus import Wizard  # noqa: PLC0415

    table = Wizard(encoding=sys.argv[1]).read(path)
    if not CHECKING:
        return {"events": len(table)}
    sums = {name: int(table[name].sum(dtype=np.int64)) for name in ("x", "y", "p")}
    return {"events": len(table), **sums}


def with_dv_processing(path: str) -> Checks:
    """Read AEDAT4 batch by batch."""
    import dv_processing as dv  # noqa: PLC0415

    reader = dv.io.MonoCameraRecording(path)
    count = sum_x = sum_y = sum_p = 0
    while (part := reader.getNextEventBatch()) is not None:
        count += part.size()
        if CHECKING:
            table = part.numpy()
            sum_x += int(table["x"].sum(dtype=np.int64))
            sum_y += int(table["y"].sum(dtype=np.int64))
            sum_p += int(table["polarity"].sum(dtype=np.int64))
    return {"events": count, "x": sum_x, "y": sum_y, "p": sum_p}


def with_rosbags(path: str) -> Checks:
    """Take every EventArray of a bag apart into objects, and those into arrays."""
    from rosbags.highlevel import AnyReader  # noqa: PLC0415

    count = sum_x = sum_y = sum_p = 0
    with AnyReader([Path(path)]) as reader:
        for connection, _, data in reader.messages():
            events = reader.deserialize(data, connection.msgtype).events
            count += len(events)
            columns = np.array([(e.x, e.y, e.polarity) for e in events])
            if CHECKING:
                x, y, p = columns.sum(0, dtype=np.int64).tolist()
                sum_x, sum_y, sum_p = sum_x + x, sum_y + y, sum_p + p
    return {"events": count, "x": sum_x, "y": sum_y, "p": sum_p}


def _sums(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Checks:
    """Count events; add up their columns where that is checked."""
    if not CHECKING:
        return {"events": len(x)}
    sums = (int(column.sum(dtype=np.int64)) for column in (x, y, p))
    return {"events": len(x), **dict(zip("xyp", sums, strict=True))}


def with_evt3(path: str) -> Checks:
    """Read the whole file at once."""
    import evt3  # noqa: PLC0415

    events = evt3.decode_file(path)
    return _sums(events.x, events.y, events.polarity)


def with_evutils(path: str) -> Checks:
    """Read the whole file at once."""
    from evutils.io import EventReader  # noqa: PLC0415

    events = EventReader(path).read_all()
    return _sums(events.x, events.y, events.p)


def with_eventcv(path: str) -> Checks:
    """Read the whole file at once; the table holds x, y, t, p."""
    import eventcv  # noqa: PLC0415

    table = eventcv.load(path).numpy()
    return _sums(table[:, 0], table[:, 1], table[:, 3])


CHECKING = True
PEERS: dict[str, Callable[[str], Checks]] = {
    "faery": with_faery,
    "expelliarmus": with_expelliarmus,
    "dv-processing": with_dv_processing,
    "rosbags": with_rosbags,
    "evt3": with_evt3,
    "evutils": with_evutils,
    "eventcv": with_eventcv,
}
# What each can read of what is asked; the others are left out of a row.
READS = {
    "faery": ("evt3", "evt2", "dat", "aedat4", "es"),
    "expelliarmus": ("evt3", "evt2", "dat"),
    "dv-processing": ("aedat4",),
    "rosbags": ("EventArray",),
    "evt3": ("evt3",),
    "evutils": ("evt3", "evt2", "dat", "aedat4"),
    "eventcv": ("evt3", "evt2", "dat", "aedat4"),
}


def main() -> None:
    """Measure each library that is installed."""
    global CHECKING  # noqa: PLW0603 - one switch of one script
    path, passes = sys.argv[2], int(sys.argv[3])
    report: dict[str, object] = {}
    for name, read in PEERS.items():
        if sys.argv[1] not in READS[name]:
            continue
        CHECKING = True
        try:
            checks = read(path)
        except Exception as error:  # noqa: BLE001 - whatever a peer does, the others are measured
            report[name] = {"failed": f"{type(error).__name__}: {error}"[:200]}
            continue
        CHECKING = False
        times = []
        for _ in range(passes):
            start = time.perf_counter()
            read(path)
            times.append(time.perf_counter() - start)
        version = importlib.metadata.version(name)
        report[name] = {"version": version, "checks": checks, "seconds": times}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
