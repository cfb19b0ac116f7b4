"""Global heaps of HDF5 files: texts and rows of free length lie there. Checked before use.

The HDF5 library (2.0 and earlier) walks through a heap object by object, by their sizes. Zeros in
the place of an object have the size 0: it walks on the spot, without end, in C, where nothing can
stop it. A file that ends in zeros after a power cut has such heaps.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import struct
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: with the version; what is reserved behind it may hold anything
HEAP_MARK = b"GCOL\1"
#: mark, reserved, size of the heap
HEAP_HEAD = struct.Struct("<5s3xQ")
LENGTH_BYTES = 8
#: number of the object (0: free space), references, reserved, size
OBJECT_HEAD = struct.Struct("<HHIQ")
MAX_HEAP_BYTES = 1 << 28
FIRST_BYTES = 1 << 16

_open: weakref.WeakSet[Any] = weakref.WeakSet()


@contextlib.contextmanager
def opened_checked(path: Path) -> Iterator[Any]:
    """Open an HDF5 file so that damaged heaps are an ``OSError``; slower than h5py's own way."""
    import h5py  # noqa: PLC0415

    with CheckedFile(path) as raw, h5py.File(raw, "r") as file:
        _open.add(file)
        # Files with shorter lengths can be made; nothing that we know of makes them.
        raw.is_checking = file.id.get_create_plist().get_sizes()[1] == LENGTH_BYTES
        yield file


@atexit.register
def _close_all() -> None:
    # A generator may still hold one. HDF5 closes it after Python has ended, and crashes.
    for file in list(_open):
        file.close()


class CheckedFile(io.RawIOBase):
    """A file for reading that refuses to hand out a damaged heap.

    Args:
        path: an HDF5 file.

    Attributes:
        is_checking: whether it refuses, or hands out everything.

    Raises:
        OSError: it cannot be read; when reading: a heap is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._number = self._file.fileno()
        self._size = os.fstat(self._number).st_size
        self._at = 0
        self._checked = -1
        self.is_checking = False

    def readable(self) -> bool:
        """Tell h5py that it may read."""
        return True

    def seekable(self) -> bool:
        """Tell h5py that it may move."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, as files do."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; behind the file's end with zeros, as HDF5's own drivers do."""
        view = memoryview(buffer)
        if not 0 <= self._at <= self._size:
            raise OSError(f"byte {self._at} is asked for, the file has {self._size}")
        data = os.pread(self._number, len(view), self._at)
        place = data.find(HEAP_MARK) if self.is_checking else -1
        while place >= 0:
            self._check_heap(self._at + place)
            place = data.find(HEAP_MARK, place + 1)
        if len(data) < len(view):
            data += bytes(len(view) - len(data))
        view[:] = data
        self._at += len(view)
        return len(view)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()

    def _check_heap(self, place: int) -> None:
        if place == self._checked:
            return  # HDF5 reads the first 4096 bytes, then all of it
        heap = os.pread(self._number, FIRST_BYTES, place)
        size = HEAP_HEAD.unpack_from(heap)[1] if len(heap) >= HEAP_HEAD.size else 0
        if size > min(self._size - place, MAX_HEAP_BYTES):
            raise OSError(f"a global heap claims {size} bytes")
        if size > len(heap):
            heap += os.pread(self._number, size - len(heap), place + len(heap))
        heap = heap[:size]
        at = HEAP_HEAD.size
        while at + OBJECT_HEAD.size <= len(heap):
            number, _, _, length = OBJECT_HEAD.unpack_from(heap, at)
            # What is free counts its own head, and is not padded to 8 bytes.
            step = OBJECT_HEAD.size + (length + 7) // 8 * 8 if number else length
            if not step or at + step > size:
                raise OSError(f"a global heap is damaged: an object of {length} bytes")
            at += step
        self._checked = place
