"""Event Stream files (``.es``, version 2): steps of time, then addresses, one event after another.

A DVS event is a byte (7 bits of time step, polarity) and two 16 bit addresses; 255 adds a step of
127 and no event, 254 is a mark without a meaning for us. An ATIS event has 6 bits of step and two
flags; a byte of six ones adds 63 for each count in its lower two bits. Steps add up from the first
byte on, so a span cannot be entered in the middle. Rows count from the bottom and are turned over.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from evdistill_core.events.decoders.base import Columns, KernelArray, put
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import EventBatch, checked_size
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.bounded import zero_tail, zeros_left_out
from evdistill_core.recordings.readers.records import StreamRecording

ES_MAGIC = b"Event Stream"
DVS, ATIS = 1, 2
TYPE_NAMES = {0: "generic", DVS: "DVS", ATIS: "ATIS", 3: "asynchronous", 4: "colour"}
HEADER = struct.Struct("<12s3BB2H")
EVENT_BYTES = 5
CHUNK_BYTES = 1 << 19


class EventStreamRecording(StreamRecording):
    """Polarity events of an ``.es`` file; exposure measurements of an ATIS are counted, not read.

    Raises:
        RecordingError: another version or type of events, or a damaged header.
    """

    def __init__(self, path: Path, options: ReadOptions = AS_THE_FILE_SAYS) -> None:
        super().__init__(path, "event-stream", options=options)
        with path.open("rb") as file:
            head = file.read(HEADER.size)
        if len(head) < HEADER.size:
            raise RecordingError(f"{path} is cut off inside its header: nothing can be read")
        _, major, minor, patch, kind, width, height = HEADER.unpack(head)
        if major != 2:
            raise RecordingError(f"{path} has version {major}.{minor}.{patch}; version 2 is read")
        if kind not in (DVS, ATIS):
            raise RecordingError(
                f"{path} holds {TYPE_NAMES.get(kind, f'type {kind}')} events; DVS and ATIS are read"
            )
        self._atis = kind == ATIS
        self._encoding = "es-atis" if self._atis else "es-dvs"
        self._size = checked_size(path, width, height)
        self._bytes = path.stat().st_size
        self._zeros = zero_tail(path, HEADER.size)
        if self._zeros:
            self._warn(zeros_left_out(self._bytes - self._zeros, self._bytes))

    def _all_batches(self) -> Iterator[EventBatch]:
        self._counts = Counter()
        width, height = self._size
        tally = np.zeros(2, np.int64)
        t_us = 0
        rest = b""
        with self._path.open("rb") as file:
            file.seek(HEADER.size)
            # The last event may end in zeros of its own: four more cannot make another one.
            end = self._bytes - self._zeros + (EVENT_BYTES - 1 if self._zeros else 0)
            while data := file.read(min(CHUNK_BYTES, end - file.tell())):
                self._fraction = file.tell() / self._bytes
                data = rest + data
                columns = Columns.room(len(data) // EVENT_BYTES)
                octets = np.frombuffer(data, np.uint8)
                count, used, t_us = _decode(octets, self._atis, t_us, width, height, tally, columns)
                rest = data[used:]
                self._counts["out_of_frame"] = int(tally[0])
                self._counts["not_events"] = int(tally[1])
                if count:
                    yield self._batch(columns.events(count, width, height))
        if rest and not self._zeros:
            self._warn(f"cut off: the last {len(rest)} bytes are no whole event and left out")


@njit(nogil=True, cache=True)
def _decode(  # noqa: PLR0913, PLR0917 - a kernel: columns in, columns out
    data: KernelArray,
    atis: bool,
    t: int,
    width: int,
    height: int,
    tally: KernelArray,
    columns: Columns,
) -> tuple[int, int, int]:
    """Decode whole events; return their number, the bytes used and the time reached."""
    count: Any = 0
    i: Any = 0
    while i < data.size:
        head: Any = np.int64(data[i])
        if atis and head >= 0b11111100:
            t += 63 * (head & 3)
            i += 1
            continue
        if not atis and head >= 254:
            t += 127 * (head & 1)
            i += 1
            continue
        if i + 5 > data.size:
            break
        column: Any = np.int64(data[i + 1]) | np.int64(data[i + 2]) << 8
        row: Any = np.int64(data[i + 3]) | np.int64(data[i + 4]) << 8
        t += head >> 2 if atis else head >> 1
        i += 5
        if atis and head & 1:
            tally[1] += 1
        elif column >= width or row >= height:
            tally[0] += 1
        else:
            polarity = (head >> 1) & 1 if atis else head & 1
            put(columns, count, column, height - 1 - row, t, polarity)
            count += 1
    return count, i, t
