import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from evdistill_core.foundation import kernel_cache
from evdistill_core.foundation.kernel_cache import (
    COMPILING,
    VARIABLE,
    choose_kernel_cache,
    telling_of_compilation,
)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """A machine without a writable package or home, before numba is imported."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(kernel_cache, "_PACKAGE", tmp_path / "absent")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_kernels_go_into_a_folder_of_ours_alone(tmp_path):
    choose_kernel_cache()
    folder = Path(os.environ[VARIABLE])
    assert folder == tmp_path / f"evdistill-kernels-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_is_not_taken(tmp_path):
    planted = tmp_path / f"evdistill-kernels-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    choose_kernel_cache()
    folder = Path(os.environ[VARIABLE])
    assert folder != planted
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_link_is_not_taken(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    planted = tmp_path / f"evdistill-kernels-{os.getuid()}"
    planted.symlink_to(tmp_path / "elsewhere")
    choose_kernel_cache()
    assert Path(os.environ[VARIABLE]) != planted


def test_what_numba_finds_or_was_told_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    choose_kernel_cache()
    assert VARIABLE not in os.environ
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv(VARIABLE, "told")
    choose_kernel_cache()
    assert os.environ[VARIABLE] == "told"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    choose_kernel_cache()
    assert VARIABLE not in os.environ  # nowhere at all: numba says so itself


def test_the_package_asks_before_numba_is_imported(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = (
        "import os, sys\n"
        "os.access = lambda *_: False\n"
        "import evdistill_core\n"
        f"print(os.environ.get({VARIABLE!r}), 'numba' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [str(tmp_path / f"evdistill-kernels-{os.getuid()}"), "False"]


def test_compilation_is_told_once_and_a_compiled_kernel_is_silent():
    one, two = numba.njit(lambda x: x + 1), numba.njit(lambda x: x * 2)
    told = []
    with telling_of_compilation(told.append):
        assert (one(1), two(3)) == (2, 6)
    assert told == [COMPILING]
    with telling_of_compilation(told.append):
        assert one(5) == 6
    numba.njit(lambda x: x - 1)(1)  # nobody listens any more
    assert told == [COMPILING]
