"""Runs commands in one process whose world has a fault; prints what became of each as JSON.

``python fault_walk.py SPEC.json``, with

- ``mounts``: (folder, options, bytes to leave free or null) of small file systems to mount first, in
  a namespace of our own,
- ``blocked``: modules that cannot be imported, as if an extra were not installed,
- ``cases``: (name, arguments, watched folder) of commands, run one after the other.
"""

import contextlib
import importlib.abc
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path


class Blocker(importlib.abc.MetaPathFinder):
    """Modules that are not installed."""

    def __init__(self, names):
        self._names = set(names)

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


FILLER = "filler"


def files_in(folder):
    paths = [p for p in Path(folder).rglob("*") if p.is_file() and p.name != FILLER]
    return sorted(str(p.relative_to(folder)) for p in paths)


def fill(folder, free_bytes):
    """Leave so much room in a file system."""
    room = os.statvfs(folder)
    size = room.f_bavail * room.f_frsize - free_bytes
    (folder / FILLER).write_bytes(bytes(size))


def main():
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for folder, options, free in spec["mounts"]:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        subprocess.run(command, check=True, timeout=10)
        if free is not None:
            fill(Path(folder), free)
    sys.meta_path.insert(0, Blocker(spec["blocked"]))
    os.chdir(spec["folder"])
    from evdistill_core.cli.main import run

    for name, arguments, watched in spec["cases"]:
        out, err = io.StringIO(), io.StringIO()
        began = time.monotonic()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(arguments)
        result = {
            "name": name,
            "code": code,
            "out": out.getvalue(),
            "err": err.getvalue(),
            "left": files_in(watched) if watched and Path(watched).is_dir() else [],
            "seconds": round(time.monotonic() - began, 2),
        }
        print(json.dumps(result), flush=True)
        if watched:  # the next command finds as little room
            for path in Path(watched).iterdir():
                if path.name != FILLER:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main()
