"""Writing files so that a killed process leaves the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

#: Errors of writing alone: with one of these and no name, the file being written is meant.
_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}

_NUMBER_IN_TEXT = re.compile(r"\berrno ?[=:] ?(\d+)", re.IGNORECASE)


@contextlib.contextmanager
def atomic_path(target: Path, *, salvage: Path | None = None) -> Iterator[Path]:
    """Give a temporary path beside ``target`` and move it there when the block ends well.

    The temporary file has the suffix of the target (writers choose formats by it). It is removed
    when the block raises; the target then keeps what it held before.

    Args:
        target: the file to make; missing parent folders are made.
        salvage: where the temporary file goes instead when the block ends with an OSError (disk
            full), for formats that are read as far as they go.

    Raises:
        OSError: the disk is full, or writing is refused; ``filename`` is that of ``target``.
    """
    # The name comes first and the file inside the block: Ctrl-C between the two would leave it.
    name = f".{target.stem}.{secrets.token_hex(4)}.part{target.suffix}"
    temporary = target.parent / name
    try:
        with writing(target, temporary):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch(exist_ok=False)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
    except OSError:
        if salvage is not None and temporary.exists() and temporary.stat().st_size:
            temporary.replace(salvage)
        raise
    finally:
        # Where it could not be made there is nothing to remove; why is told already.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(target: Path, temporary: Path | None = None) -> Iterator[None]:
    """Let an error of writing inside the block name the file that is made.

    Writing to a full disk raises an error without a name. HDF5 tells its number in the text alone,
    and others name the temporary file.

    Args:
        target: the file to make.
        temporary: where it is written.

    Raises:
        OSError: the disk is full, or writing is refused; ``filename`` is that of ``target``.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = _number_of(error)
        name = getattr(error, "filename", None)
        unnamed = name is None and number in _OF_WRITING
        if number is None or not (unnamed or str(name) == str(temporary)):
            raise
        raise OSError(number, os.strerror(number), str(target)) from error


def _number_of(error: OSError | RuntimeError) -> int | None:
    """Return the system's number of an error."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER_IN_TEXT.search(str(error))
    return int(found[1]) if found else None


class FinishedBlock:
    """A with block over what is written, which is finished only when the block ends well.

    Those who inherit open their files on ``_stack``, usually with ``atomic_path``, and write what
    they hold back in ``_finish``. When the block raises, only the stack is unwound.
    """

    _stack: contextlib.ExitStack

    def _finish(self) -> None:
        """Write what is held back; the files are still open."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._finish()


def write_text_atomic(target: Path, text: str) -> None:
    """Write UTF-8 text in one step (see ``atomic_path``)."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def write_bytes_atomic(target: Path, data: bytes) -> None:
    """Write bytes in one step (see ``atomic_path``)."""
    with atomic_path(target) as path:
        path.write_bytes(data)
