"""Which runtime is the fastest for a student here: measured once, and remembered.

The memory is a small JSON file in the user's cache. It holds names and milliseconds; a damaged or
foreign one is measured again. Runtimes that are compared compute the same up to rounding, so the
choice changes how fast a result comes and not what it is.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.inference.parity import example_input
from evdistill_core.inference.runner import Runner
from evdistill_core.inference.student import StudentFile

_log = logging.getLogger(__name__)
FORMAT = "evdistill-runtimes"
VERSION = 1
VARIABLE, NAME = "EVDISTILL_CACHE", "runtimes.json"
MAX_ENTRIES = 200
_RUNS = 5
# Another than the first candidate must gain more than both: noise must not choose, and half a
# millisecond is not worth another runtime.
_MARGIN = 0.95
_WORTH_MS = 0.5
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino", "torch")


def fastest(
    student: StudentFile,
    candidates: Mapping[str, Callable[[], Runner]],
    *,
    precision: str,
    threads: int,
    memory: Path | None = None,
) -> Runner:
    """Return the runner that takes least time for one window.

    Args:
        student: the opened file.
        candidates: runtime to what loads the student into it; the preferred one first.
        precision: that they compute in.
        threads: of each.
        memory: file to remember the choice in; None: ``memory_path``.
    """
    precision = "fp32" if precision == "auto" else precision
    if len(candidates) == 1:
        return next(iter(candidates.values()))()
    memory = memory_path() if memory is None else memory
    x = example_input(student.input)
    key = "|".join(
        (student.checksum[:16], "x".join(map(str, x.shape)), precision, str(threads),
         ",".join(candidates), machine())
    )  # fmt: skip
    known = _read(memory)
    name = known.get(key, {}).get("runtime")
    if name in candidates:
        try:
            return candidates[str(name)]()
        except (ConfigError, StudentError) as error:
            _log.warning("runtime %s was the fastest and fails now: %s", name, error)
    runners: dict[str, Runner] = {}
    for name, make in candidates.items():
        try:
            runners[name] = make()
        except (ConfigError, StudentError) as error:
            if not runners and name == list(candidates)[-1]:
                raise
            _log.warning("runtime %s is left out: %s", name, error)
    times_ms = {name: _run_ms(runner, x) for name, runner in runners.items()}
    first = next(iter(runners))
    best = min(times_ms, key=lambda n: times_ms[n])
    gain_ms = times_ms[first] - times_ms[best]
    worth = gain_ms > max(_WORTH_MS, (1 - _MARGIN) * times_ms[first])
    chosen = best if worth else first
    told = ", ".join(f"{n} {ms:.1f} ms" for n, ms in times_ms.items())
    _log.info("runtime %s: measured %s", chosen, told)
    entry = {"runtime": chosen, "ms": {n: round(ms, 2) for n, ms in times_ms.items()}}
    _write(memory, {**known, key: entry})
    return runners[chosen]


def memory_path() -> Path:
    """Return where choices are remembered: in ``EVDISTILL_CACHE``, else in the user's cache."""
    if own := os.environ.get(VARIABLE):
        return Path(own) / NAME
    named = os.environ.get("XDG_CACHE_HOME")
    return Path(named or Path("~/.cache").expanduser()) / "evdistill" / NAME


def machine() -> str:
    """Return what a measured time depends on: processor, cores, versions of the runtimes."""
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return f"{_processor()}, {os.cpu_count()} cores, {', '.join(versions)}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    facts = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name",))]
    return facts[0] if facts else platform.machine()


def _run_ms(runner: Runner, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    runner.warm_up(*x.shape[1:])
    taken = []
    for _ in range(_RUNS):
        began_ns = time.perf_counter_ns()
        runner.run_whole(x)
        taken.append((time.perf_counter_ns() - began_ns) / 1e6)
    runner.reset()
    return min(taken)


def _read(path: Path) -> dict[str, dict[str, object]]:
    """Return what is remembered; nothing of a file that is not ours."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != VERSION:
            return {}
        return {
            key: entry
            for key, entry in content["entries"].items()
            if isinstance(entry, dict) and isinstance(entry.get("runtime"), str)
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _log.warning("%s is damaged and made again: %s", path, error)
        return {}


def _write(path: Path, entries: Mapping[str, object]) -> None:
    latest = dict(list(entries.items())[-MAX_ENTRIES:])
    content = {"format": FORMAT, "version": VERSION, "entries": latest}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        _log.info("the choice of the runtime is not remembered: %s", error)
