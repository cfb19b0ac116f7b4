"""``open_recording``: one door for every kind of file, told apart by content."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.foundation.suggestions import near_path
from evdistill_core.recordings.base import Recording
from evdistill_core.recordings.formats import FORMATS_HINT
from evdistill_core.recordings.read_options import ReadOptions
from evdistill_core.recordings.readers.aedat2 import AEDAT2_MAGIC, Aedat2Recording
from evdistill_core.recordings.readers.aedat3 import AEDAT3_MAGIC, Aedat3Recording
from evdistill_core.recordings.readers.aedat4 import AEDAT4_MAGIC, Aedat4Recording
from evdistill_core.recordings.readers.bag import BagRecording
from evdistill_core.recordings.readers.ess_folder import EssFolder
from evdistill_core.recordings.readers.event_stream import ES_MAGIC, EventStreamRecording
from evdistill_core.recordings.readers.hdf5 import HDF5_MAGIC, open_hdf5
from evdistill_core.recordings.readers.matlab import MATLAB_MAGIC, MatlabRecording
from evdistill_core.recordings.readers.numpy_files import (
    NPY_MAGIC,
    ZIP_MAGIC,
    NpyRecording,
    NpzRecording,
    opened_zip,
)
from evdistill_core.recordings.readers.raw import RawRecording
from evdistill_core.recordings.readers.records import (
    DatRecording,
    FiveByteRecording,
    text_header,
)
from evdistill_core.recordings.readers.rosbag1 import ROSBAG1_MAGIC
from evdistill_core.recordings.readers.storage import MCAP_MAGIC, SQLITE_MAGIC, ZSTD_MAGIC
from evdistill_core.recordings.readers.text import (
    TextRecording,
    rows_of_numbers,
    text_members,
)

HEAD_BYTES = 4096
#: Files of a bag, as rosbag2 numbers them: NAME_0.mcap, NAME_1.mcap, ...
_BAG_FILE = re.compile(r"(.*?)(_\d+)?\.(mcap|db3)(\.zstd)?")
#: Kinds that we recognise but do not read, with the way out.
KNOWN_ELSEWHERE = (
    (b"#ROSBAG V", "a ROS 1 bag older than version 2.0; convert it with `rosbag fix`"),
    (b"\x89PNG", "a PNG image, no recording"),
    (b"\xff\xd8\xff", "a JPEG image, no recording"),
    (b"\x1aE\xdf\xa3", "a video (Matroska), no recording of events"),
    (b"\x1f\x8b", "compressed with gzip; unpack it with `gunzip` first"),
)


def open_recording(  # noqa: PLR0913 - a path, and what a file may leave open
    path: str | Path,
    *,
    topic: str | None = None,
    columns: str | None = None,
    time_unit: str | None = None,
    size: str | Sequence[int] | None = None,
    camera: str | None = None,
) -> Recording:
    """Open a recording for reading, whatever its format; names and suffixes do not matter.

    Args:
        path: a file, or the directory of a rosbag2 (with or without ``metadata.yaml``).
        topic: event topic (bags) or stream (other files); needed when there is more than one.
        columns: order of plain columns, for example ``"xypt"`` or ``"t,x,y,p"``; None: told by
            names or values.
        time_unit: ``"ns"``, ``"us"``, ``"ms"`` or ``"s"`` of plain columns; None: told by the
            file.
        size: width and height of the sensor, ``"640x480"`` or (640, 480), where the file does not
            tell them.
        camera: name of the camera, for example ``"DAVIS346"``, where the file does not tell it.

    Returns:
        A context manager; see ``Recording``. Nothing is loaded ahead.

    Raises:
        RecordingError: it is missing, empty, damaged, or of a kind that we do not read. Or it is a
            folder of several recordings, the topic is missing or not unique, or an option means
            nothing for this kind of file.
        ConfigError: an option with an impossible value.
    """
    if not str(path).strip():
        raise RecordingError("an empty path was given: name a recording")
    path = Path(path).expanduser()
    options = ReadOptions.parse(columns=columns, time_unit=time_unit, size=size, camera=camera)
    if path.is_dir() and EssFolder.matches(path):
        return _one_stream(EssFolder, path, topic, options)
    head = b"" if path.is_dir() else _head(path)
    if path.is_dir():
        told = {"columns": columns, "time_unit": time_unit, "size": size, "camera": camera}
        _refuse_several(path, lambda other: _opens(other, told))
    if path.is_dir() or head.startswith((SQLITE_MAGIC, MCAP_MAGIC, ROSBAG1_MAGIC, ZSTD_MAGIC)):
        options.refuse_all_but(frozenset(), path, "a bag, which tells how to read it")
        return BagRecording(path, topic)
    several = next((kind for magic, kind in _SEVERAL_STREAMS if head.startswith(magic)), None)
    if several is not None:
        return several(path, topic, options)
    kind = _stream_type(path, head)
    if kind is None:
        raise RecordingError(f"{path} is {_guess(head)}. {FORMATS_HINT}")
    return _one_stream(kind, path, topic, options)


def _refuse_several(folder: Path, opens: Callable[[Path], bool]) -> None:
    """Refuse a folder that is no bag but holds recordings beside each other.

    A bag that was recorded has ``metadata.yaml``. Without it (the recorder was killed) the files of
    one bag have one name and a number; files of other names, or of other formats, are recordings of
    their own.

    Args:
        folder: that is given as a recording.
        opens: tells whether an entry of it is a recording.

    Raises:
        RecordingError: it holds more than one.
    """
    if (folder / "metadata.yaml").exists():
        return
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    parts = {p: match[1] for p in entries if (match := _BAG_FILE.fullmatch(p.name))}
    if not parts:
        return
    found = list(parts) if len(set(parts.values())) > 1 else []
    if not found:
        others = [p for p in entries if p not in parts and opens(p)]
        found = [next(iter(parts)), *others] if others else []
    if found:
        names = ", ".join(p.name for p in found[:5]) + (", ..." if len(found) > 5 else "")
        raise RecordingError(
            f"{folder} holds several recordings and is no bag of its own: {names}. Name one of "
            "them; `evdistill info`, `run` and `convert` take all of a folder"
        )


def _opens(path: Path, reading: Mapping[str, Any]) -> bool:
    try:
        with open_recording(path, **reading):
            return True
    except RecordingError:
        return False


#: files that may hold several streams, and take the options of reading
_SEVERAL_STREAMS: tuple[tuple[bytes, Callable[[Path, str | None, ReadOptions], Recording]], ...] = (
    (HDF5_MAGIC, open_hdf5),
    (MATLAB_MAGIC, MatlabRecording),
    (AEDAT3_MAGIC, Aedat3Recording),
    (AEDAT4_MAGIC, Aedat4Recording),
)


def _one_stream(
    kind: Callable[[Path, ReadOptions], Recording],
    path: Path,
    topic: str | None,
    options: ReadOptions,
) -> Recording:
    if topic not in (None, "events"):
        raise RecordingError(f"{path} has no topics: it holds one stream of events; got '{topic}'")
    return kind(path, options)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        near = near_path(path)
        raise RecordingError(f"there is no recording {path}: check the path{near}") from error
    except OSError as error:
        raise RecordingError(f"{path} cannot be opened: {error}") from error
    if not head:
        raise RecordingError(f"{path} is empty (0 bytes): nothing was recorded into it")
    return head


def _stream_type(path: Path, head: bytes) -> Callable[[Path, ReadOptions], Recording] | None:
    """Return the reader of a file that holds one stream of events; ``None`` if none fits."""
    readers: tuple[tuple[bytes, Callable[[Path, ReadOptions], Recording]], ...] = (
        (AEDAT2_MAGIC, Aedat2Recording),
        (ES_MAGIC, EventStreamRecording),
        (b"%", _prophesee),
        (ZIP_MAGIC, _zipped),
        (NPY_MAGIC, NpyRecording),
    )
    for magic, reader in readers:
        if head.startswith(magic):
            return reader
    if any(head.startswith(magic) for magic, _ in KNOWN_ELSEWHERE):
        return None
    if TextRecording.matches(head):
        return TextRecording
    # The only kind without any mark comes last.
    return FiveByteRecording if FiveByteRecording.matches(path, head) else None


def _prophesee(path: Path, options: ReadOptions) -> Recording:
    """RAW files name an encoding in their header, DAT files do not."""
    fields, _ = text_header(path)
    kind = RawRecording if {"evt", "format"} & fields.keys() else DatRecording
    return kind(path, options)


def _zipped(path: Path, options: ReadOptions) -> Recording:
    """An archive holds NumPy columns, or a text file of events."""
    with opened_zip(path) as archive:
        names = archive.namelist()
        texts = [] if any(n.endswith(".npy") for n in names) else text_members(archive)
    if len(texts) > 1:
        raise RecordingError(
            f"{path} holds several text files of events: {', '.join(texts[:10])}. Unpack the one "
            "that you mean"
        )
    return TextRecording(path, options, texts[0]) if texts else NpzRecording(path, options)


def _guess(head: bytes) -> str:
    for magic, words in KNOWN_ELSEWHERE:
        if head.startswith(magic):
            return words
    if head[4:8] == b"ftyp":
        return "a video (MP4), no recording of events"
    columns = rows_of_numbers(head)
    if columns:
        return f"text of {columns} numbers a line; events need four: t, x, y and p"
    return f"of a kind that we do not know (it starts with {head[:16]!r})"
