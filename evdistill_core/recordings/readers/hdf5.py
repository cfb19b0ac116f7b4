"""HDF5 files of events in the layouts of data sets and tools.

Read are groups of the columns x, y, t, p (DSEC, M3ED) or of other names (event_utils), structured
datasets (Metavision), tables of N x 4 (MVSEC: x, y, t, p in seconds; v2e and the export of DDD20:
t, x, y, p) and the recorder's own packets of DDD17 and DDD20. Which one it is shows in the names
inside the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import (
    Recording,
)
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.column_order import (
    lacking,
    named_order,
    role_of,
)
from evdistill_core.recordings.readers.hdf5_base import (
    COLUMN_NAMES,
    Hdf5Recording,
    opened,
)
from evdistill_core.recordings.readers.hdf5_columns import (
    ColumnsHdf5,
    EventUtilsHdf5,
    LooseTableHdf5,
    StructHdf5,
    columns_of_group,
)
from evdistill_core.recordings.readers.hdf5_datasets import CaerHdf5, ExportHdf5, MvsecHdf5

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def open_hdf5(path: Path, topic: str | None, options: ReadOptions = AS_THE_FILE_SAYS) -> Recording:
    """Return the reader that fits the names inside the file.

    Raises:
        RecordingError: no layout that we know, or several streams and no choice among them.
    """
    with opened(path) as file:
        streams = _streams(file)
        names = list(file)[:20]
        near = "" if streams else _nearly(file)
        # A camera that recorded nothing is no candidate where another one did.
        full = {n: kind for n, kind in streams.items() if _has_rows(file[n])} or streams
    if not streams:
        raise RecordingError(
            f"{path} has no events in a layout that we know; it holds {', '.join(names)}{near}. "
            "Known: groups of x, y, t, p (DSEC), davis/*/events (MVSEC), event (DDD20's export), "
            "dvs/data (DDD17), CD/events (Metavision), events of N x 4 (v2e)"
        )
    if topic is not None and topic not in streams:
        raise RecordingError(f"{path} has no stream '{topic}'; it has: {', '.join(streams)}")
    if topic is None and len(full) > 1:
        raise RecordingError(
            f"{path} has several event streams, choose one with --topic: {', '.join(full)}"
        )
    name = topic or next(iter(full))
    return streams[name](path, name, tuple(streams), options)


def _has_rows(item: Any) -> bool:
    sizes = [getattr(d, "size", 1) for d in (item.values() if hasattr(item, "keys") else [item])]
    return any(size > 1 for size in sizes)


def _fields(dataset: Any) -> tuple[str, ...]:
    """Return the names of a compound's fields; none for numbers and for types that NumPy lacks."""
    try:
        return dataset.dtype.names or ()
    except (TypeError, ValueError):
        return ()


def _streams(file: Any) -> dict[str, type[Hdf5Recording]]:
    found: dict[str, type[Hdf5Recording]] = {}

    def look(name: str, item: Any) -> None:
        is_group = hasattr(item, "keys")
        if is_group:
            columns = columns_of_group(item)
            if columns:
                exact = set(columns.values()) == COLUMN_NAMES
                found[name] = ColumnsHdf5 if exact else EventUtilsHdf5
            return
        fields = _fields(item)
        if fields and item.ndim == 1 and named_order(fields):
            found[name] = StructHdf5
        elif name.startswith("davis/") and name.endswith("/events"):
            found[name.removesuffix("/events")] = MvsecHdf5
        elif name == "event":
            found[name] = ExportHdf5
        elif name == "dvs/data":
            found["dvs"] = CaerHdf5
        elif name.rpartition("/")[2] == "events" and item.ndim == 2 and 4 <= item.shape[1] <= 64:
            found[name] = LooseTableHdf5

    if set(file.keys()) >= COLUMN_NAMES:
        found["/"] = ColumnsHdf5
    file.visititems(look)
    return found


def _nearly(file: Any) -> str:
    """Return what a file lacks that nearly is one of events."""
    found = ""

    def look(name: str, item: Any) -> None:
        nonlocal found
        names = list(item.keys()) if hasattr(item, "keys") else list(_fields(item))
        letters = {role_of(n)[0] for n in names} - {""}
        if len(letters) == len(COLUMN_NAMES) - 1 and not found:
            found = f". '{name}' looks like columns of events, but lacks {lacking(names)}"

    file.visititems(look)
    return found
