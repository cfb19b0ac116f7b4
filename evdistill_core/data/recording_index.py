"""Random access into recordings: each is read once into plain columns, then mapped from disk.

A recording can only be read from its beginning; training wants any window at any moment. The
columns of a recording lie in a folder of their own, named after the file, its size and its time of
change, so a changed file is read again and an unchanged one never again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evdistill_core.events.account import account_of_reading
from evdistill_core.events.array import Events
from evdistill_core.events.clock import SensorClock
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.foundation.outputs import check_folder
from evdistill_core.foundation.reasons import Reasons
from evdistill_core.messages.images import to_grey
from evdistill_core.recordings.base import Frame, Recording, stretches
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.readers.listed_images import IMAGE_LIST

_log = logging.getLogger(__name__)

FORMAT_VERSION = 4
INDEX = "index.json"
COLUMNS = {"t_us": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}


@dataclass(frozen=True)
class Segment:
    """Events that belong together: no gap, no jump of the clock, one sensor size.

    Attributes:
        first_row: of the columns.
        last_row: exclusive.
        t_start_us: time of the first event.
        t_end_us: just after the last event.
        width: columns of the sensor.
        height: rows of the sensor.
    """

    first_row: int
    last_row: int
    t_start_us: int
    t_end_us: int
    width: int
    height: int


class IndexedRecording:
    """A recording on disk as columns; opened by ``index_recording``.

    Args:
        folder: what ``index_recording`` made.
        source: the recording, for messages.

    Attributes:
        segments: stretches of events that belong together.
        frame_t_us: (N,) int64, sensor times of the frames, rising.
        left_out_frames: frames that are not among them, by reason.
        counters: of the recording.
        account: what became of the recording's events.

    Raises:
        DataError: the folder is damaged.
    """

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder, self.source = folder, source
        try:
            content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            self.segments = tuple(Segment(*row) for row in content["segments"])
            self.frame_t_us = np.array(content["frame_t_us"], np.int64)
            self._frame_shape = tuple(int(n) for n in content["frame_shape"])
            self.counters: dict[str, int] = content["counters"]
            self.account = account_of_reading(self.counters, int(content["rows"]))
            self.left_out_frames: dict[str, int] = content["left_out_frames"]
            sizes = {n: int(content["rows"]) * np.dtype(d).itemsize for n, d in COLUMNS.items()}
            sizes["frames"] = len(self.frame_t_us) * int(np.prod(self._frame_shape))
            found = {n: (folder / f"{n}.bin").stat().st_size for n in sizes}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder} is damaged ({error}): remove it; it is made again"
            ) from error
        if found != sizes:
            raise DataError(f"{folder} is damaged: remove it; it is made again")

    def events(self, segment: Segment, t_start_us: int, t_end_us: int) -> Events:
        """Return the events of a segment within [t_start_us, t_end_us)."""
        first = segment.first_row
        t_us = self._column("t_us")[first : segment.last_row]
        low, high = np.searchsorted(t_us, (t_start_us, t_end_us))
        rows = slice(first + int(low), first + int(high))
        return Events(
            np.array(self._column("x")[rows]),
            np.array(self._column("y")[rows]),
            np.array(self._column("t_us")[rows]),
            np.array(self._column("p")[rows]),
            segment.width,
            segment.height,
        )

    def last_frame_us(self, t_us: int, *, within_us: int) -> int | None:
        """Return the time of the newest frame in (t_us - within_us, t_us], or None."""
        place = self._frame_place(t_us, within_us)
        return None if place is None else int(self.frame_t_us[place])

    def frame_before(self, t_us: int, *, within_us: int) -> npt.NDArray[np.uint8] | None:
        """Return the newest (H, W) grey frame in (t_us - within_us, t_us], or None."""
        place = self._frame_place(t_us, within_us)
        if place is None:
            return None
        frames = np.memmap(
            self.folder / "frames.bin",
            np.uint8,
            "r",
            shape=(len(self.frame_t_us), *self._frame_shape),
        )
        return np.array(frames[place])

    def _frame_place(self, t_us: int, within_us: int) -> int | None:
        place = int(np.searchsorted(self.frame_t_us, t_us, side="right")) - 1
        if place < 0 or self.frame_t_us[place] <= t_us - within_us:
            return None
        return place

    def _column(self, name: str) -> npt.NDArray[np.int64]:
        path = self.folder / f"{name}.bin"
        if path.stat().st_size == 0:
            return np.empty(0, COLUMNS[name])
        return np.memmap(path, COLUMNS[name], "r")


def index_recording(
    path: Path, cache: Path, reading: Mapping[str, str] | None = None
) -> IndexedRecording:
    """Return random access to a recording, reading it first if this is not done yet.

    What became of its events is logged where not all of them are used, each time it is opened.

    Args:
        path: anything that ``open_recording`` opens.
        cache: folder for the columns of all recordings (13 bytes an event, and the frames).
        reading: how to read it: what ``open_recording`` takes besides the path.

    Raises:
        RecordingError: the recording is missing or of a kind that we do not read.
        DataError: it holds no events.
        OutputError: the index cannot be written into ``cache``.
    """
    given = dict(reading or {})
    folder = cache / _fingerprint(path, given)
    if not (folder / INDEX).exists():
        check_folder(cache, (), overwrite=True)
        cache.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part.", dir=cache))
        try:
            with open_recording(path, **given) as recording:
                _write_columns(recording, path, part)
            _publish(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    indexed = IndexedRecording(folder, path)
    for text in indexed.account.lines():
        _log.warning("%s: %s", path.name, text)
    return indexed


def _publish(part: Path, folder: Path) -> None:
    # Two processes may index the same file; the first to finish wins, and the other uses its.
    if not (folder / INDEX).exists():
        shutil.rmtree(folder, ignore_errors=True)
    try:
        part.rename(folder)
    except OSError:
        if not (folder / INDEX).exists():
            raise


def _write_columns(recording: Recording, path: Path, part: Path) -> None:
    segments: list[Segment] = []
    clock = SensorClock()
    rows, starts_anew = 0, False
    with ExitStack() as stack:
        files = {n: stack.enter_context((part / f"{n}.bin").open("wb")) for n in COLUMNS}
        for stretch in stretches(recording):
            events = stretch.events
            starts_anew = starts_anew or bool(stretch.discontinuity)
            if not len(events):
                continue
            for name, dtype in COLUMNS.items():
                files[name].write(np.ascontiguousarray(getattr(events, name), dtype).tobytes())
            if starts_anew:
                clock.reset()
            clock.observe(int(events.t_us[0]), stretch.stamp_ns)
            start, end = int(events.t_us.min()), int(events.t_us.max()) + 1
            size = (events.width, events.height)
            last = segments[-1] if segments else None
            if last is None or starts_anew or (last.width, last.height) != size:
                segments.append(Segment(rows, rows + len(events), start, end, *size))
            else:
                segments[-1] = Segment(
                    last.first_row,
                    rows + len(events),
                    min(last.t_start_us, start),
                    max(last.t_end_us, end),
                    *size,
                )
            rows += len(events)
            starts_anew = False
    if not rows:
        raise DataError(f"{path} holds no events")
    for segment in segments:
        _sort_segment(part, segment)
    # A bag stamps its frames with host time, other files with sensor time.
    offset_us = (clock.offset_ns or 0) // 1000 if recording.has_host_stamps else 0
    times, shape, left_out = _write_frames(recording.frames(), part, offset_us)
    content = {
        "format_version": FORMAT_VERSION,
        "source": path.name,
        "rows": rows,
        "segments": [list(vars(s).values()) for s in segments],
        "frame_t_us": times,
        "frame_shape": list(shape),
        "counters": recording.counters,
        "left_out_frames": recording.left_out_frames | left_out.as_dict(),
    }
    write_text_atomic(part / INDEX, json.dumps(content))


def _sort_segment(part: Path, segment: Segment) -> None:
    # Drivers deliver packets slightly out of order; the search by time needs them sorted.
    rows = slice(segment.first_row, segment.last_row)
    t_us = np.memmap(part / "t_us.bin", np.int64, "r+")[rows]
    if (t_us[1:] >= t_us[:-1]).all():
        return
    order = np.argsort(t_us, kind="stable")
    for name, dtype in COLUMNS.items():
        column = np.memmap(part / f"{name}.bin", dtype, "r+")
        column[rows] = column[rows][order]
        column.flush()


def _write_frames(
    frames: Iterator[Frame], part: Path, offset_us: int
) -> tuple[list[int], tuple[int, int], Reasons]:
    """Write grey frames of one size with rising times: others could not be looked up."""
    times: list[int] = []
    shape = (0, 0)
    left_out = Reasons()
    with (part / "frames.bin").open("wb") as file:
        for frame in frames:
            grey = to_grey(frame.image)
            t_us = int(frame.t_us) - offset_us
            if times and grey.shape != shape:
                left_out.add("another size than the first one")
            elif times and t_us < times[-1]:
                left_out.add("earlier than the one before")
            else:
                shape = (int(grey.shape[0]), int(grey.shape[1]))
                times.append(t_us)
                file.write(np.ascontiguousarray(grey).tobytes())
    return times, shape, left_out


def _fingerprint(path: Path, reading: Mapping[str, str]) -> str:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    files += [p for p in (path.parent / IMAGE_LIST,) if p.is_file()]
    facts: list[object] = [FORMAT_VERSION, os.fspath(path.resolve()), sorted(reading.items())]
    for file in files:
        status = file.stat()
        facts += [file.name, status.st_size, status.st_mtime_ns]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
