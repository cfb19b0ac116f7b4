"""One line for every mistake of a user: what failed, which file, what to do."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback

from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.foundation.extras import extra_of, install_command

_OURS = ("evdistill_core", "evdistill_ros")

FAILED = 1
MISUSED = 2

_CURES = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "your quota is used up: free some space, or write to another disk",
    errno.EFBIG: "the file system or a limit (ulimit -f) allows no larger file",
    errno.EACCES: "check who may read or write it (ls -ld), or choose another path",
    errno.EPERM: "check who may read or write it (ls -ld), or choose another path",
    errno.EROFS: "choose a path on another file system",
    errno.EISDIR: "give the name of a file, not of a folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ENOENT: "check the path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def explain(error: BaseException) -> tuple[str, int] | None:
    """Return the line for an error and the exit code; None for one that is a mistake of ours.

    Args:
        error: what ended a command.
    """
    if isinstance(error, EvdistillError):
        return str(error), error.exit_code
    if isinstance(error, ImportError):
        return _explain_import(error)
    if isinstance(error, OSError):
        return _explain_os(error), FAILED
    if isinstance(error, RuntimeError) and "cannot cache function" in str(error):
        return (
            "compiled kernels cannot be kept anywhere: set NUMBA_CACHE_DIR to a folder that can be "
            "written"
        ), FAILED
    if isinstance(error, MemoryError):
        return (
            f"out of memory{f': {error}' if str(error) else ''}; close other programs, or ask for "
            "less at once (a shorter span, a smaller batch)"
        ), FAILED
    return None


def keep_traceback(error: BaseException) -> str:
    """Write the traceback of an error of ours into a file and return its path; "" if it cannot."""
    text = "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix="evdistill-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return ""
    return path


def _explain_import(error: ImportError) -> tuple[str, int] | None:
    name = error.name or ""
    extra = extra_of(name)
    if isinstance(error, ModuleNotFoundError) and extra is not None:
        cure = install_command(extra)
        return f"this needs {name.partition('.')[0]}, which is not installed: {cure}", FAILED
    if name.startswith(_OURS):
        return None
    return f"{name or 'a library'} cannot be loaded: {error}; install it again", FAILED


def _explain_os(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    path = error.filename2 if error.filename2 is not None else error.filename
    cure = _CURES.get(error.errno or 0)
    text = f"{os.fsdecode(path)}: {what}" if isinstance(path, str | bytes | os.PathLike) else what
    return f"{text}; {cure}" if cure else text
