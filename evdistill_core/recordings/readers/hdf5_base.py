"""What all HDF5 files of events have in common: opening, checks, spans by halving."""

from __future__ import annotations

import contextlib
import struct
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import EvdistillError, MessageError, RecordingError
from evdistill_core.foundation.extras import install_command
from evdistill_core.foundation.reasons import Reasons
from evdistill_core.messages.images import EightBits
from evdistill_core.recordings.base import (
    REORDER_US,
    EventBatch,
    Frame,
    RecordingInfo,
    TopicInfo,
    checked_size,
)
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.chips import camera_size
from evdistill_core.recordings.readers.hdf5_heaps import opened_checked
from evdistill_core.recordings.readers.hdf5_size import stored_size
from evdistill_core.recordings.readers.records import StreamRecording
from evdistill_core.recordings.readers.time_unit import TIME_LIMIT_US

COLUMN_NAMES = frozenset("xytp")
BATCH_ROWS = 65_536
#: A chunk is decompressed as a whole, and its size is a number in the file.
MAX_CHUNK_BYTES = 1 << 28
DAVIS346 = (346, 260)
COLUMN_SIZES = ((640, 480), (1280, 720))
SAMPLED_BLOCKS = 16
#: 'hhiiiiii' of libcaer: type, source, size, time offset, overflow, capacity, number, valid
CAER_HEADER = struct.Struct("<hhiiiiii")
CAER_POLARITY, CAER_FRAME = 1, 2
CAER_FRAME_HEAD = 36
MAX_CAER_OVERFLOW = 1000


def h5py_module() -> ModuleType:
    """Import h5py with the compressors that data sets use.

    Raises:
        RecordingError: it is not installed.
    """
    try:
        import h5py  # noqa: PLC0415
        import hdf5plugin  # noqa: F401, PLC0415 - registers Blosc
    except ImportError as error:
        raise RecordingError(
            f"HDF5 files need h5py and hdf5plugin: {install_command('hdf5')}"
        ) from error
    module: ModuleType = h5py
    return module


# What h5py raises on damaged bytes: names and texts may be no UTF-8, types none that NumPy has.
_DAMAGE = (OSError, KeyError, RuntimeError, TypeError, AttributeError, ValueError)


@contextlib.contextmanager
def opened(path: Path, *, checked: bool = True) -> Iterator[Any]:
    """Open for reading; what h5py says about damage becomes our error.

    Args:
        path: an HDF5 file.
        checked: refuse damaged heaps, where texts and rows of free length lie; see
            ``hdf5_heaps``. Columns of numbers can do without, and are read faster.
    """
    h5py = h5py_module()
    try:
        with opened_checked(path) if checked else h5py.File(path, "r") as file:
            yield file
    except EvdistillError:
        raise
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecordingError(f"{path} is cut off or damaged (HDF5: {reason})") from error


class Hdf5Recording(StreamRecording):
    """What all layouts have in common.

    Args:
        path: the file.
        name: of the stream in it.
        streams: all of them.
        options: what the user said of the file.
    """

    layout = ""
    in_heaps = False
    """Whether events lie in rows of free length."""
    takes = frozenset({"size", "camera"})

    def __init__(
        self,
        path: Path,
        name: str,
        streams: tuple[str, ...],
        options: ReadOptions = AS_THE_FILE_SAYS,
    ) -> None:
        super().__init__(path, f"hdf5-{self.layout}", options=options)
        self._name = name
        self._topics = tuple(TopicInfo(s, "events") for s in streams)
        self._frame_topic = ""
        with opened(path) as file:
            self._rows = self._check(file)
            self._size = self._told_size(file) or self._find_size(file)

    def _told_size(self, file: Any) -> tuple[int, int] | None:
        """Return width and height as the user says, or as the file does anywhere."""
        if self._options.size:
            return self._options.size
        if self._options.camera:
            return camera_size(self._path, self._options.camera)
        size = stored_size(file, self._name)
        return checked_size(self._path, *size) if size else None

    @property
    def info(self) -> RecordingInfo:
        """Size, streams and the images' name."""
        return self._describe(
            self._kind,
            self._encoding,
            topic=self._name,
            frame_topic=self._frame_topic,
            topics=self._topics,
        )

    def _frame_maker(self) -> Callable[[Any, int, int], Iterator[Frame]]:
        """Return what makes an image of stored pixels, t_us and stamp_ns, or counts it as lost."""
        self._left_out_frames = left_out = Reasons()
        to_eight_bits = EightBits()

        def make(stored: Any, t_us: int, stamp_ns: int) -> Iterator[Frame]:
            pixels = np.array(stored)
            if pixels.dtype.kind in "iu" and pixels.dtype != np.uint8:
                narrow = pixels.astype(np.uint16)
                pixels = narrow if (narrow == pixels).all() else pixels
            try:
                if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
                    raise MessageError(f"an image is (H, W) or (H, W, 3), got {pixels.shape}")
                image = to_eight_bits(pixels)
            except MessageError as error:
                left_out.add(str(error))
                return
            image.flags.writeable = False
            yield Frame(image, t_us, stamp_ns)

        return make

    @abstractmethod
    def _check(self, file: Any) -> int:
        """Return the number of rows; refuse shapes and types that cannot be."""

    @abstractmethod
    def _find_size(self, file: Any) -> tuple[int, int]:
        """Return width and height where the file does not tell them."""

    @abstractmethod
    def _time_us(self, file: Any, row: int) -> int:
        """Return the time of one row."""

    @abstractmethod
    def _block(self, file: Any, start: int, end: int) -> Iterator[EventBatch]:
        """Yield the events of rows ``start`` to ``end``."""

    def _row_at(self, file: Any, start_us: int) -> int:
        """Return a row before which nothing from ``start_us`` on lies, by halving."""
        low, high = 0, self._rows
        while low < high:
            middle = (low + high) // 2
            if self._time_us(file, middle) < start_us - REORDER_US:
                low = middle + 1
            else:
                high = middle
        return low

    def _all_batches(self) -> Iterator[EventBatch]:
        return self._batches_at(None)

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        return self._batches_at(start_us)

    def _batches_at(self, start_us: int | None) -> Iterator[EventBatch]:
        self._counts = Counter()
        with opened(self._path, checked=self.in_heaps) as file:
            row = 0 if start_us is None else self._row_at(file, start_us)
            step = self._step()
            while row < self._rows:
                end = min(row + step, self._rows)
                self._fraction = end / self._rows
                yield from self._block(file, row, end)
                row = end
            yield from self._rest(file)

    def _step(self) -> int:
        return BATCH_ROWS

    def _rest(self, file: Any) -> Iterator[EventBatch]:
        """Yield what comes after the last event."""
        return iter(())

    def _numbers(self, item: Any, what: str, width: int | None = None) -> Any:
        """Check one dataset: (N,) or (N, width) numbers in chunks of a sane size."""
        shape = tuple(getattr(item, "shape", None) or ())
        tail = () if width is None else (width,)
        if not shape or item.dtype.kind not in "iufb" or shape[1:] != tail:
            expected = "(N,)" if width is None else f"(N, {width})"
            raise RecordingError(
                f"{self._path}: {what} must be {expected} numbers, got {shape or 'none'}"
            )
        if item.chunks and int(np.prod(item.chunks)) * item.dtype.itemsize > MAX_CHUNK_BYTES:
            raise RecordingError(f"{self._path}: {what} has chunks of {item.chunks}: damaged")
        return item


def one_number(file: Any, name: str, group: Any) -> int:
    """Return a single number beside or in a group; 0 where there is none."""
    item = file.get(name, group.get(name))
    return 0 if item is None else int(np.asarray(item).reshape(-1)[0])


def from_seconds(path: Path, seconds: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return times as microseconds.

    Raises:
        RecordingError: a time is no number, or beyond 2^62 us.
    """
    t_us = np.rint(seconds.astype(np.float64) * 1e6)
    if not (np.abs(t_us) < TIME_LIMIT_US).all():  # False for NaN too
        raise RecordingError(f"{path} holds times that are no numbers or beyond 2^62 us")
    return t_us.astype(np.int64)
