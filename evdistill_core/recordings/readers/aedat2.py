"""AEDAT 2 of jAER: ``#`` lines, then big-endian address and microseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.read_options import ReadOptions
from evdistill_core.recordings.readers.chips import (
    CHIPS,
    DAVIS_LAYOUT,
    DVS128_LAYOUT,
    FAMILIES,
    Chip,
    chip_by_name,
)
from evdistill_core.recordings.readers.records import (
    BATCH_RECORDS,
    HEADER_LIMIT_BYTES,
    Array,
    Fields,
    RecordsRecording,
    read_records,
)

AEDAT2_MAGIC = b"#!AER-DAT2"
#: Bits that mark what is no event: images and IMU, and the trigger input.
SPECIAL = {DVS128_LAYOUT: 1 << 31 | 1 << 15, DAVIS_LAYOUT: 1 << 31 | 1 << 10}
#: Events of an unnamed DAVIS must reach this much of both sides of the sensor that is taken.
LEAST_REACH = 0.9


class Aedat2Recording(RecordsRecording):
    """Events of a DVS128 or a DAVIS, upright as jAER shows them.

    The header's ``AEChip`` line names the camera, and ``--camera`` does. jAER counts rows from the
    bottom and columns from the right; both are turned over. Images, IMU and external events are
    counted and left out.

    Raises:
        RecordingError: a camera whose addresses we do not know, or none named and addresses that
            do not tell.
    """

    takes = frozenset({"camera"})
    _dtype = np.dtype([("address", ">u4"), ("t", ">u4")])

    def __init__(self, path: Path, options: ReadOptions) -> None:
        lines, data_at = hash_header(path)
        self._chip = _DVS128
        super().__init__(path, "aedat2", data_at, options)
        line = next((line for line in lines if "aechip" in line.lower()), "")
        name = line.partition(":")[2].strip()
        if options.camera:
            self._chip = chip_by_name(path, options.camera, told_by="--camera")
        elif name:
            self._chip = chip_by_name(path, name, told_by="its AEChip line")
        else:
            self._chip = self._chip_of_addresses()
        self._size = self._chip.size

    def _stored_size(self) -> tuple[int, int] | None:
        return self._chip.size

    def _chip_of_addresses(self) -> Chip:
        """Tell the camera by the bits that its addresses use."""
        with self._path.open("rb") as file:
            file.seek(self._data_at)
            head = read_records(file, self._dtype, min(self._records, BATCH_RECORDS))
        address = head["address"].astype(np.uint32)
        if not len(address) or not int(address.max()) >> 16:
            self._warn(
                "the file does not name its camera; its addresses are those of a DVS128. If it was "
                "another one, say which with --camera"
            )
            return _DVS128
        events = address[(address & np.uint32(SPECIAL[DAVIS_LAYOUT])) == 0].astype(np.int64)
        width = int((events >> 12 & 0x3FF).max(initial=0)) + 1
        height = int((events >> 22 & 0x1FF).max(initial=0)) + 1
        for name in ("davis128", "davis240", "davis346", "davis640"):
            chip = CHIPS[name]
            reached = width >= LEAST_REACH * chip.width and height >= LEAST_REACH * chip.height
            if width <= chip.width and height <= chip.height and reached:
                self._warn(
                    f"the file does not name its camera; its addresses are those of a {name}. If "
                    "it was another one, say which with --camera"
                )
                return chip
        raise RecordingError(
            f"{self._path} does not name its camera (it has no '# AEChip' line), and its addresses "
            f"do not tell: as a DAVIS they reach column {width - 1} and row {height - 1}. Say "
            f"which with --camera: {', '.join(FAMILIES)}"
        )

    def _events(self, records: Array, t_us: Array) -> Events:
        address = records["address"].astype(np.uint32)
        keep = (address & np.uint32(SPECIAL[self._chip.layout])) == 0
        self._counts["not_events"] += int(len(address) - np.count_nonzero(keep))
        address, t_us = address[keep].astype(np.int64), t_us[keep]
        width, height = self._chip.size
        if self._chip.layout == DVS128_LAYOUT:
            x, y = address >> 1 & 0x7F, address >> 8 & 0x7F
            return self._in_frame(Fields(t_us, 127 - x, 127 - y, 1 - (address & 1)))
        x, y = address >> 12 & 0x3FF, address >> 22 & 0x1FF
        return self._in_frame(Fields(t_us, width - 1 - x, height - 1 - y, address >> 11 & 1))


_DVS128 = CHIPS["dvs128"]


def hash_header(path: Path) -> tuple[list[str], int]:
    """Read the ``#`` lines of an AEDAT file; return them and where the data begin.

    Raises:
        RecordingError: the last line has no end.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_LIMIT_BYTES)
    lines = []
    at = 0
    while head[at : at + 1] == b"#":
        end = head.find(b"\n", at)
        if end < 0:
            raise RecordingError(f"{path} is cut off inside its header: nothing can be read")
        lines.append(head[at:end].decode("utf-8", "replace").rstrip("\r"))
        at = end + 1
        # AEDAT 2 of jAER and AEDAT 3 of cAER end their headers differently, old files not at all.
        if any(mark in lines[-1].lower() for mark in HEADER_ENDS):
            break
    return lines, at


HEADER_ENDS = ("end of header", "end of ascii header", "!end-header")
