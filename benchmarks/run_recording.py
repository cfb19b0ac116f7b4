"""CPU seconds of `evdistill run` on a recording, in all and by stage.

    python benchmarks/run_recording.py RECORDING [--student FILE] [--runs 3] [--json out/run.json]

Whole runs are processes of their own, with and without pictures in turn, so that what disturbs one
disturbs both; the table has the medians. CPU seconds are user plus system time of all threads. The
stages are those of one more run in this process: thread time of a stage without the stages inside
it. They do not add up to a whole run, which also starts Python and loads the libraries.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evdistill_core.drawing import colours, overlay
from evdistill_core.drawing.films import FilmWriter
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.inference import postprocess
from evdistill_core.inference.student import StudentFile
from evdistill_core.inference.torch_runner import TorchRunner
from evdistill_core.perception import ahead, offline, pipeline, predictor, result_pictures
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.perception.segmentation_messages import SegmentationMessages
from evdistill_core.recordings.writers.mcap import McapWriter

Facts = dict[str, float]

STAGES: tuple[tuple[Any, str, str], ...] = (
    (offline, "open_student", "load the student"),
    (offline, "_feed", "read the recording"),
    (pipeline.Perception, "_run_ingest", "decode, cut windows"),
    (ahead.InputAhead, "follow", "represent"),
    (ahead.InputAhead, "finish", "represent"),
    (ahead.SeriesAhead, "follow", "represent"),
    (ahead.SeriesAhead, "finish", "represent"),
    (predictor, "represent", "represent"),
    (postprocess, "event_support", "mask: where events are"),
    (postprocess, "segment", "mask: classes"),
    (postprocess, "find_components", "detections"),
    (postprocess, "group", "detections"),
    (SegmentationMessages, "_make_one", "messages"),
    (McapWriter, "write", "write the bag"),
    (colours, "blank", "draw"),
    (overlay, "shrink", "draw"),
    (overlay, "overlay", "draw"),
    (FilmWriter, "add", "encode the video"),
    (result_pictures.ResultPictures, "_write_sheet", "contact sheet"),
    (pipeline.Perception, "_infer", "rest of the inference thread"),
    (result_pictures.ResultPictures, "_work", "rest of the pictures' thread"),
)


class Stages:
    """Thread time of functions, without what was measured inside them."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inside = threading.local()

    def measure(self, owner: Any, name: str, label: str) -> None:
        """Replace a function by one that takes its time."""
        work: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(work)
        def timed(*arguments: Any, **options: Any) -> Any:
            inside: list[float] = self._inside.__dict__.setdefault("stack", [])
            inside.append(0.0)
            began = time.thread_time()
            try:
                return work(*arguments, **options)
            finally:
                taken = time.thread_time() - began
                self.seconds[label] += taken - inside.pop()
                if inside:
                    inside[-1] += taken

        setattr(owner, name, timed)


def whole_run(recording: Path, out: Path, options: list[str]) -> Facts:
    """Run the command; return CPU and wall seconds and peak memory in MB."""
    command = [sys.executable, "-m", "evdistill_core", "run", str(recording), "--out", str(out)]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--overwrite", "--quiet", *options], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"`{' '.join(command)}` ended with {process.returncode}")
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.perf_counter() - began,
        "peak_mb": usage.ru_maxrss * 1024 / 1e6,
    }


def stages(recording: Path, out: Path, student: str) -> dict[str, float]:
    """Return CPU seconds by stage of one run in this process."""
    found = Stages()
    for owner, name, label in STAGES:
        found.measure(owner, name, label)
    opening = offline.open_student

    def open_student(parameters: Any) -> tuple[StudentFile, Any]:
        opened, runner = opening(parameters)
        if isinstance(runner, TorchRunner):
            raise SystemExit("the network runs in torch: its threads are not measured by stage")
        found.measure(type(runner), "run_whole", "network")
        return opened, runner

    offline.open_student = open_student
    parameters = SegmentationParameters(student=student)
    offline.run_recording(recording, out, parameters, show_progress=False)
    return dict(found.seconds.most_common())


def main() -> None:
    """Print two tables, and JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("--student", default="", help="student file; default: the package's")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    given = ["--student", options.student] if options.student else []
    kinds = {"with pictures": given, "--no-pictures": [*given, "--no-pictures"]}
    runs: dict[str, list[Facts]] = {kind: [] for kind in kinds}
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        whole_run(options.recording, out, given)  # compiles what is not compiled yet
        for _ in range(options.runs):
            for kind, more in kinds.items():
                runs[kind].append(whole_run(options.recording, out, more))
        by_stage = stages(options.recording, out, options.student)
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    medians = {
        kind: {name: round(statistics.median(r[name] for r in found), 2) for name in found[0]}
        for kind, found in runs.items()
    }
    facts = {
        "recording": options.recording.name,
        "size": f"{report['width']}x{report['height']}",
        "sensor_s": report["sensor_s"],
        "windows": report["windows"],
        "student": report["student"],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0],
        "runs": options.runs,
        "whole": medians,
        "stages_cpu_s": {name: round(seconds, 3) for name, seconds in by_stage.items()},
    }
    _print(console, facts, medians, by_stage)
    if options.json:
        write_text_atomic(options.json, json.dumps(facts, indent=2) + "\n")


def _print(
    console: Console,
    facts: dict[str, Any],
    medians: dict[str, Facts],
    by_stage: dict[str, float],
) -> None:
    console.print(
        f"{facts['recording']} {facts['size']}, {facts['sensor_s']:.1f} s, {facts['windows']} "
        f"windows; {facts['student']}; {facts['machine']}, load {facts['load']:.1f}"
    )
    table = Table("whole run, median", "CPU s", "wall s", "peak MB")
    for kind, found in medians.items():
        cells = [f"{found['cpu_s']:.2f}", f"{found['wall_s']:.2f}", f"{found['peak_mb']:.0f}"]
        table.add_row(kind, *cells)
    console.print(table)
    table = Table("stage", "CPU s", "ms a window")
    for stage, seconds in by_stage.items():
        table.add_row(stage, f"{seconds:.2f}", f"{1e3 * seconds / max(1, facts['windows']):.2f}")
    table.add_row("all stages", f"{sum(by_stage.values()):.2f}", "")
    console.print(table)


if __name__ == "__main__":
    main()
