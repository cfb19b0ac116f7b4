"""A place for compiled kernels where neither the package nor the home can be written.

numba keeps what it compiled beside the source, or in the user's cache. A robot may have both on a
read-only file system, or run the node as a user without a home; numba then refuses to start.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "NUMBA_CACHE_DIR"
COMPILING = "compiling for this machine: only the first run waits for it, 10 to 60 s"
_PACKAGE = Path(__file__).parents[1]


def choose_kernel_cache() -> None:
    """Let numba keep compiled kernels in the folder for temporary files, if nowhere else.

    Does nothing where numba finds a place by itself, or was told one (``NUMBA_CACHE_DIR``). The
    choice is in the environment, so that child processes make the same one.
    """
    if VARIABLE in os.environ or "numba" in sys.modules:
        return
    if os.access(_PACKAGE, os.W_OK) or _is_writable(_user_cache()):
        return
    private = _private_folder()
    if private is not None:
        os.environ[VARIABLE] = str(private)


@contextmanager
def telling_of_compilation(say: Callable[[str], None]) -> Iterator[None]:
    """Say once if kernels are compiled meanwhile, in any thread; loading kept ones is silent.

    Args:
        say: takes the line.
    """
    from numba.core import event  # noqa: PLC0415 - half a second, and not everybody compiles

    class Tell(event.Listener):
        told = False

        def on_start(self, _: Any) -> None:
            if not self.told:
                self.told = True
                say(COMPILING)

        def on_end(self, _: Any) -> None:
            """Nothing is told at the end of one kernel: others follow."""

    with event.install_listener("numba:compile", Tell()):
        yield


def _user_cache() -> Path:
    """Return where numba would keep the kernels of this user."""
    named = os.environ.get("XDG_CACHE_HOME")
    return Path(named or Path("~/.cache").expanduser()) / "numba"


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _private_folder() -> Path | None:
    """Return a folder of ours alone; None if there is none.

    numba unpickles what lies in it: a folder that somebody else made, or may write, is not taken.
    """
    import tempfile  # noqa: PLC0415 - only where it is needed

    try:
        place = Path(tempfile.gettempdir())
        if place == Path.cwd():  # what tempfile takes where there is no such folder
            return None
        folder = place / f"evdistill-kernels-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if is_ours and not found.st_mode & 0o077:
            return folder
        return Path(tempfile.mkdtemp(prefix="evdistill-kernels-"))
    except OSError:
        return None
