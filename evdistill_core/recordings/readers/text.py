"""Text files of events, one a line: plain columns, or CSV with or without a header.

Columns are told by a header, the user or the values; lines may be separated by blanks, tabs, commas
or semicolons. A zip archive that holds one such file is read as that file.
"""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import MessageError, RecordingError
from evdistill_core.foundation.reasons import Reasons
from evdistill_core.recordings.base import (
    REORDER_US,
    EventBatch,
    Frame,
    RecordingInfo,
    TopicInfo,
    checked_size,
)
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.column_order import (
    Order,
    named_order,
    role_of,
    told_order,
)
from evdistill_core.recordings.readers.columns import BATCH_EVENTS, ColumnsRecording, Quad
from evdistill_core.recordings.readers.listed_images import (
    IMAGE_LIST,
    MAX_IMAGE_BYTES,
    listed_frames,
)
from evdistill_core.recordings.readers.numpy_files import ZIP_DAMAGE, opened_zip
from evdistill_core.recordings.readers.records import SeekTable
from evdistill_core.recordings.readers.time_unit import microseconds

#: characters of one line of text that are looked at
MAX_LINE = 256
#: lines that tell the columns, and the unit of time
HEAD_LINES = 1000
SEEK_SAMPLES = 1024
#: samples are not closer than that: so much is read in a few ms
SEEK_BYTES = 1 << 16
USUAL_ORDER = "txyp"
MOST_COLUMNS = 64
BOM = b"\xef\xbb\xbf"
TEXT = ("utf-8", "replace")
TEXT_SUFFIXES = (".txt", ".csv", ".tsv", ".dat")
#: As we write it above the header of a CSV file.
_SIZE_COMMENT = re.compile(
    rb"\s*#\s*width\W{1,3}(\d{1,6})\W+height\W{1,3}(\d{1,6})\s*$", re.IGNORECASE
)
_BLANKS = bytes.maketrans(b",;\t", b"   ")
# Where columns are separated by semicolons, a comma is the decimal point of half of Europe.
_SEMICOLONS = bytes.maketrans(b",;\t", b".  ")
Array = npt.NDArray[Any]


class TextRecording(ColumnsRecording):
    """Lines of numbers: seconds when times have a decimal point, else microseconds.

    The usual order is ``t x y p``. A first line of two numbers is the sensor's width and height;
    ``#`` starts a comment; one of ``# width=346 height=260`` above the events tells the size too.
    Images that a list ``images.txt`` names beside ``events.txt`` are its frames. A span
    is entered by times sampled over the file, if those never fall by more than ``REORDER_US``; a
    file in an archive is read from its beginning.
    """

    kind = "text"

    def __init__(
        self, path: Path, options: ReadOptions = AS_THE_FILE_SAYS, member: str = ""
    ) -> None:
        self._member = member
        self._table: SeekTable | None = None
        super().__init__(path, options)

    @staticmethod
    def matches(head: bytes) -> bool:
        """Tell whether the first bytes of a file look like such text."""
        return rows_of_numbers(head) >= len(USUAL_ORDER)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if not self._member:
            with self._path.open("rb") as file:
                yield file
            return
        with opened_zip(self._path) as archive, archive.open(self._member) as file:
            yield file

    @property
    def info(self) -> RecordingInfo:
        """Size, and whether images lie beside the events."""
        has_images = self._image_list is not None
        images = (TopicInfo("images", "images"),) * has_images
        return self._describe(
            self.kind,
            self.kind,
            frame_topic="images" if has_images else "",
            topics=(TopicInfo("events", "events"), *images),
        )

    def _find_image_list(self) -> str | None:
        """Return the name of the list of images beside ``events.txt``; None where there is none."""
        if not self._member:
            path = self._path.with_name(IMAGE_LIST)
            has_list = self._path.stem.lower() == "events" and path.is_file()
            return str(path) if has_list else None
        name = str(PurePosixPath(self._member).with_name(IMAGE_LIST))
        with opened_zip(self._path) as archive:
            return name if name in archive.namelist() else None

    def frames(self) -> Iterator[Frame]:
        """Yield the images that ``images.txt`` lists beside ``events.txt``."""
        self._left_out_frames = left_out = Reasons()
        if self._image_list is None:
            return
        if not self._member:
            folder = self._path.parent
            with Path(self._image_list).open("rb") as file:
                read = partial(_read_beside, folder)
                yield from listed_frames(_lines(file), read, self._unit, left_out)
            return
        folder_name = PurePosixPath(self._member).parent
        with opened_zip(self._path) as archive, archive.open(self._image_list) as file:
            read = partial(_read_member, archive, folder_name)
            yield from listed_frames(_lines(file), read, self._unit, left_out)

    def _tell(self) -> None:
        self._image_list = self._find_image_list()
        with self._opened() as file:
            lines = [line for line, _ in zip(_lines(file), range(HEAD_LINES), strict=False)]
        self._bytes = self._path.stat().st_size
        if self._member:
            with opened_zip(self._path) as archive:
                self._bytes = archive.getinfo(self._member).file_size
        self._blanks = _blanks(lines)
        self._stated: tuple[int, int] | None = None
        names: list[str] = []
        rows: list[list[str]] = []
        for line in lines:
            words = self._words(line)
            if not words and not rows and (size := _SIZE_COMMENT.match(line)):
                self._stated = (int(size[1]), int(size[2]))
            elif words and not rows and not _is_numbers(words):
                names = words
            elif len(words) == 2 and not rows:
                self._stated = (_whole(self._path, words[0]), _whole(self._path, words[1]))
            elif words:
                rows.append(words)
        # The last of a thousand lines may be cut off, and a damaged one does not tell columns.
        width = len(rows[0]) if rows else len(USUAL_ORDER)
        whole = [row for row in rows if len(row) == width and _is_numbers(row)]
        self._width = width
        self._order = self._told_order(names or _commented_names(lines), whole, width)
        t_words = [row[self._order.letters.index("t")] for row in whole]
        # The very first time may be a plain 0, and the others seconds.
        self._is_float = any(set(".eEnN") & set(word) for word in t_words)
        if whole:
            kind = np.float64 if self._is_float else np.int64
            with contextlib.suppress(OverflowError):  # said where that line is to be read
                self._unit = self._told_unit(np.array(t_words, kind), self._order.unit)
        if self._order.note:
            self._warn(self._order.note)

    _unit = ""

    def _told_order(self, names: list[str], rows: list[list[str]], width: int) -> Order:
        given = self._options.columns
        named = named_order(names) if len(names) == width and not given else None
        if named is not None:
            return named
        if not rows:
            return Order(given or USUAL_ORDER)
        columns = [np.array([row[k] for row in rows], np.float64) for k in range(width)]
        return told_order(self._path, columns, USUAL_ORDER, given)

    def _stored_size(self) -> tuple[int, int] | None:
        return checked_size(self._path, *self._stated) if self._stated else None

    def _words(self, line: bytes) -> list[str]:
        """Return the words of a line without its comment."""
        plain = line.split(b"#")[0].translate(self._blanks)
        return plain.decode(*TEXT).split()

    def _chunks(self) -> Iterator[Quad]:
        return self._chunks_at(0)

    def _chunks_at(self, place: int) -> Iterator[Quad]:
        """Yield what stands from the line on that begins at a byte."""
        with self._opened() as file:
            if place:
                file.seek(place)
            begun = place > 0
            source = _lines(file)
            while lines := list(islice(source, BATCH_EVENTS)):
                if not begun:
                    count = self._header_lines(lines)
                    place += sum(map(len, lines[:count]))
                    lines = lines[count:]
                begun = True
                if self._is_cut(lines, place):
                    self._counts["not_events"] += 1
                    self._warn(
                        f"the last line is cut and was left out: {lines[-1].decode(*TEXT)[:80]!r}"
                    )
                    lines = lines[:-1]
                columns = self._columns(lines, place)
                place = file.tell()
                self._fraction = min(1.0, place / max(1, self._bytes))
                yield columns

    def _is_cut(self, lines: list[bytes], place: int) -> bool:
        """Tell whether the file ends inside its last line, as when its writer was stopped."""
        if not lines or lines[-1].endswith(b"\n") or len(lines[-1]) >= MAX_LINE:
            return False
        words = self._words(lines[-1])
        is_event = len(words) == self._width and _is_numbers(words)
        # A file of a single line that is none has no events at all, and is told so.
        return bool(words) and not is_event and (len(lines) > 1 or place > 0)

    def _header_lines(self, lines: list[bytes]) -> int:
        """Return how many lines stand before the first event: comments, names, the size."""
        for number, words in enumerate(map(self._words, lines)):
            if len(words) > 2 and _is_numbers(words):
                return number
            if len(words) == 2 and _is_numbers(words):
                return number + 1
        return 0

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        if self._member:
            return self._all_batches()
        self._table = self._table or self._sampled()
        if not len(self._table.places):
            return self._all_batches()
        place, _ = self._table.before(start_us)
        return self._batches_of(self._chunks_at(place))

    def _sampled(self) -> SeekTable:
        """Read the times of lines spread over the file; nothing if they fall."""
        found: list[tuple[int, int]] = []
        with self._path.open("rb") as file:
            for aim in range(0, self._bytes, max(-(-self._bytes // SEEK_SAMPLES), SEEK_BYTES)):
                file.seek(aim)
                if aim:
                    next(_lines(file), None)  # the rest of a line
                place = file.tell()
                with contextlib.suppress(RecordingError):  # said where that line is to be read
                    t_us, *_ = self._columns([next(_lines(file), b"")], place)
                    if len(t_us):
                        found.append((place if found else 0, int(t_us[0])))
        places, times = np.array(found, np.int64).reshape(-1, 2).T
        if (np.maximum.accumulate(times) - times > REORDER_US).any():
            self._warn("times fall: a span is found by reading the whole file")
            return SeekTable(places[:0], times[:0])
        return SeekTable(places, times)

    def _columns(self, lines: list[bytes], place: int) -> Quad:
        if self._blanks is not None:
            lines = [line.translate(self._blanks) for line in lines]
        if not any(map(self._words, lines)):
            none = np.empty(0)
            return np.empty(0, np.int64), none, none, none
        kinds = [
            (f"{k}{letter}", np.int64 if letter == "t" and not self._is_float else np.float64)
            for k, letter in enumerate(self._order.letters)
        ]
        try:
            table = np.loadtxt(lines, kinds, comments="#", ndmin=1, encoding=None)
        except (ValueError, OverflowError) as error:
            raise RecordingError(self._reason(lines, place, error)) from error
        t, x, y, p = self._order.pick([table[name] for name, _ in kinds])
        return microseconds(t, self._unit, path=self._path), x, y, p

    def _reason(self, lines: list[bytes], place: int, error: Exception) -> str:
        """Return what is wrong in lines that are no events."""
        what = "four numbers 't x y p'" if self._width == 4 else f"{self._width} numbers"
        expected = f"{self._path}: expected {what} a line"
        for line in lines:
            words = self._words(line)
            if words and (len(words) != self._width or not _is_numbers(words)):
                return f"{expected}, at byte {place}: got {' '.join(words)[:80]!r}"
            place += len(line)
        return f"{expected}: {error}"


def _read_member(archive: zipfile.ZipFile, folder: PurePosixPath, name: str) -> bytes:
    try:
        with archive.open(str(folder / name)) as file:
            return _bounded(file)
    except ZIP_DAMAGE as error:
        raise MessageError(
            f"it cannot be read from the archive ({type(error).__name__})"
        ) from error


def _read_beside(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise MessageError(f"{IMAGE_LIST} names a file of another folder")
    try:
        with path.open("rb") as file:
            return _bounded(file)
    except (OSError, ValueError) as error:
        raise MessageError(f"it cannot be read ({type(error).__name__})") from error


def _bounded(file: IO[bytes]) -> bytes:
    data = file.read(MAX_IMAGE_BYTES + 1)
    if len(data) > MAX_IMAGE_BYTES:
        raise MessageError(f"it has more than {MAX_IMAGE_BYTES} bytes")
    return data


def rows_of_numbers(head: bytes) -> int:
    """Return how many numbers a line of text has; 0 if it is no text of numbers.

    Args:
        head: the first bytes of a file, at least a line of events.
    """
    if b"\0" in head:
        return 0
    lines = head.removeprefix(BOM).splitlines()
    blanks = _blanks(lines)
    bare = (line.split(b"#")[0].translate(blanks) for line in lines)
    rows = (line.decode("utf-8", "replace").split() for line in bare)
    several = [row for row in rows if row][:3]
    # Above the first event may stand names and the size.
    widths = [len(row) for row in several if _is_numbers(row) and len(row) > 2]
    return widths[0] if widths and widths[0] <= MOST_COLUMNS else 0


def text_members(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the text files of events in an archive."""
    found = []
    for name in archive.namelist():
        if name.lower().endswith(TEXT_SUFFIXES):
            with archive.open(name) as file:
                if TextRecording.matches(file.read(4096)):
                    found.append(name)
    named = [name for name in found if Path(name).stem.lower() == "events"]
    return named or found


def _blanks(lines: list[bytes]) -> bytes | None:
    """Return how separators become blanks; None if lines are separated by blanks already."""
    bare = [line.split(b"#")[0] for line in lines]
    if any(b";" in line for line in bare):
        return _SEMICOLONS
    return _BLANKS if any(b"," in line for line in bare) else None


def _commented_names(lines: list[bytes]) -> list[str]:
    """Return the names of columns in a comment above the events."""
    for line in lines:
        text = line.decode("utf-8", "replace").strip()
        if text and not text.startswith("#"):
            break
        words = text.lstrip("# ").translate({ord(c): " " for c in ",;"}).split()
        if sum(bool(role_of(word)[0]) for word in words) >= len(USUAL_ORDER):
            return words
    return []


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield lines, cut where they get too long: a file may be one line of gigabytes."""
    if file.seekable() and file.tell() == 0 and file.read(len(BOM)) != BOM:
        file.seek(0)
    while line := file.readline(MAX_LINE):
        yield line
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)


def _whole(path: Path, word: str) -> int:
    try:
        return int(word)
    except ValueError as error:
        raise RecordingError(
            f"{path}: its first line must be the sensor's width and height, got {word[:80]!r}"
        ) from error


def _is_numbers(words: list[str]) -> bool:
    try:
        [float(word) for word in words]
    except ValueError:
        return False
    return True
