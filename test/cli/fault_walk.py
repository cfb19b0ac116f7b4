"""Runs commands in one process whose world has a fault; prints what became of each as JSON.

``python fault_walk.py SPEC.json``, with

- ``mounts``: (folder, options, bytes to leave free or null) of small file systems to mount first,
  in a namespace of our own,
- ``cases``: (name, arguments, watched folder) of commands, run one after the other.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from evdistill_core.cli.main import run

FILLER = "filler"


def fill(folder, free_bytes):
    """Leave so much room in a file system."""
    room = os.statvfs(folder)
    (folder / FILLER).write_bytes(bytes(room.f_bavail * room.f_frsize - free_bytes))


def files_in(folder):
    paths = [p for p in Path(folder).rglob("*") if p.is_file() and p.name != FILLER]
    return sorted(str(p.relative_to(folder)) for p in paths)


def meet(name, arguments, watched):
    """Run a command and tell what became of it; a watched folder is emptied then."""
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
    for path in Path(watched).iterdir() if watched else ():
        if path.name != FILLER:  # the next command finds as little room
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return result


def main():
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for folder, options, free_bytes in spec["mounts"]:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        subprocess.run(command, check=True, timeout=10)
        if free_bytes is not None:
            fill(Path(folder), free_bytes)
    os.chdir(spec["folder"])
    for case in spec["cases"]:
        sys.stdout.write(json.dumps(meet(*case)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
