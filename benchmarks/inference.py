"""Latency of the networks, or of student files, per input size, runtime and threads.

    python benchmarks/inference.py [--network onboard-seg] [--instances] [--seconds 4] [--out FILE]
    python benchmarks/inference.py --student a.evstudent --student b.evstudent --sensor DAVIS346

Sizes are those that ``InputSpec`` makes of common sensors: DAVIS346 (264x352), VGA (480x640) and
1280x720, both whole and shrunk by the factor that the default ``max_pixels`` gives. One process
measures one row after another, so rows of one run can be compared; every row has its own warm-up.
Student files are measured instead of networks, if given: one window of each in turn, so that what
disturbs one disturbs all. Weights of networks are random: time is not.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table

from evdistill_core.export.onnx_model import to_onnx
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.foundation.latency import percentiles_ms
from evdistill_core.inference.runner import Runner
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import NetworkInfo, StudentFile, StudentInfo, write_student
from evdistill_core.models.network import parameter_count
from evdistill_core.models.registry import NETWORKS, build_network
from evdistill_core.representations.spec import InputSpec

SENSORS = {"DAVIS346": (260, 346), "VGA": (480, 640), "1280x720": (720, 1280)}
NAMES = [name for name, entry in NETWORKS.own.items() if entry.task == "segmentation"]


def make_student(name: str, folder: Path, *, instances: bool = False) -> StudentFile:
    """Return a student with random weights, ONNX included.

    Args:
        name: of the network.
        folder: where its file is written.
        instances: whether it has an instance head.
    """
    torch.manual_seed(0)
    spec = (
        InputSpec(kind="counts2", size_multiple=1)
        if name == "evdistill-2021"
        else InputSpec(size_multiple=8)
    )
    options = {"instances": True} if instances else {}
    network = build_network(
        name, options, in_channels=spec.channels, num_classes=len(SIX_CLASSES)
    ).eval()
    info = StudentInfo(
        network=NetworkInfo(
            name=name,
            size_multiple=network.size_multiple,
            output_stride=network.output_stride,
            parameters=parameter_count(network),
            options=options,
            has_instances=network.has_instances,
        ),
        input=spec,
        classes=SIX_CLASSES,
    )
    path = folder / f"{name}{'-instances' if instances else ''}.evstudent"
    weights = {k: v.numpy() for k, v in network.state_dict().items()}
    write_student(path, info, weights=weights, onnx=to_onnx(network))
    return StudentFile.open(path)


def input_sizes(spec: InputSpec, sensors: list[str]) -> dict[str, tuple[int, int]]:
    """Return the input sizes to measure, by sensor; a shrunk one says its factor."""
    sizes = {}
    for sensor in sensors:
        height, width = SENSORS[sensor]
        whole = InputSpec(kind=spec.kind, size_multiple=spec.size_multiple, max_pixels=1 << 30)
        for form in (whole, spec):
            grid = form.grid(height=height, width=width)
            sizes[f"{sensor} / {grid.factor}"] = (grid.height, grid.width)
    return sizes


def measure(
    runners: Sequence[Runner], channels: int, size: tuple[int, int], seconds: float
) -> list[list[float]]:
    """Return milliseconds per window of each runner: as many as fit in the time, 5 to 1000."""
    rng = np.random.default_rng(0)
    window = rng.normal(0, 1, (channels, *size)).astype(np.float32)
    window[rng.random(window.shape) < 0.8] = 0  # events are sparse
    for runner in runners:
        runner.warm_up(*size)
    times_ms: list[list[float]] = [[] for _ in runners]
    end = time.perf_counter() + seconds * len(runners)
    while len(times_ms[0]) < 5 or (time.perf_counter() < end and len(times_ms[0]) < 1000):
        for runner, times in zip(runners, times_ms, strict=True):
            start = time.perf_counter()
            runner.run(window)
            times.append((time.perf_counter() - start) * 1e3)
    return times_ms


def groups(arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, StudentFile]]:
    """Yield, by name, what is measured in turn: a network at a time, or all student files at once.

    Raises:
        SystemExit: student files that differ in their input.
    """
    if not arguments.student:
        for name in arguments.network or sorted(NAMES, reverse=True):
            made = {name: make_student(name, folder)}
            if arguments.instances and name != "evdistill-2021":
                made[f"{name} with instances"] = make_student(name, folder, instances=True)
            yield made
        return
    students = {str(path): StudentFile.open(path) for path in arguments.student}
    if len({s.input for s in students.values()}) > 1:
        raise SystemExit("students that are measured in turn must have the same input")
    yield students


def runners(student: StudentFile) -> list[tuple[str, int, Runner]]:
    """Return what this machine can run the student with."""
    found: list[tuple[str, int, Runner]] = []
    threads = sorted({1, min(2, os.cpu_count() or 1)})
    for count in threads:
        found.append(
            ("onnxruntime fp32", count, make_runner(student, runtime="onnxruntime", threads=count))
        )
    found.append(("torch fp32", 1, make_runner(student, runtime="torch", device="cpu", threads=1)))
    if torch.cuda.is_available():
        for precision in ("fp32", "fp16"):
            runner = make_runner(student, device="cuda", precision=precision)  # type: ignore[arg-type]
            found.append((f"torch cuda {precision}", 0, runner))
    return found


def device_name() -> str:
    """Return processor, cores, memory in GB, and GPU if there is one."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    parts = [names[0] if names else platform.processor(), f"{os.cpu_count()} cores"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=sorted(NAMES), action="append")
    parser.add_argument(
        "--instances", action="store_true", help="also with an instance head, in turn with without"
    )
    parser.add_argument("--student", type=Path, action="append", help="instead of networks")
    parser.add_argument("--sensor", choices=sorted(SENSORS), action="append")
    parser.add_argument("--seconds", type=float, default=4.0, help="measuring time of a row")
    parser.add_argument("--out", type=Path, default=Path("out/benchmarks/inference.json"))
    arguments = parser.parse_args()
    sensors = arguments.sensor or list(SENSORS)
    rows = []
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        for students in groups(arguments, Path(folder)):
            spec = next(iter(students.values())).input
            for same in zip(*map(runners, students.values()), strict=True):
                runtime, threads, _ = same[0]
                for sensor, size in input_sizes(spec, sensors).items():
                    taken = measure(
                        [runner for *_, runner in same], spec.channels, size, arguments.seconds
                    )
                    for name, times in zip(students, taken, strict=True):
                        row = {
                            "network": name,
                            "sensor": sensor,
                            "input": list(size),
                            "runtime": runtime,
                            "threads": threads,
                            "windows": len(times),
                            "min_ms": round(min(times), 3),
                            **{f"{k}_ms": v for k, v in percentiles_ms(times).to_dict().items()},
                        }
                        rows.append(row)
                        print(json.dumps(row), flush=True)
    report = {
        "device": device_name(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "versions": {
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
        "rows": rows,
    }
    write_text_atomic(arguments.out, json.dumps(report, indent=1) + "\n")
    table = Table(
        "network", "sensor / factor", "input", "runtime", "threads", "min ms", "p50 ms", "p95 ms"
    )
    for row in rows:
        size = "x".join(str(n) for n in row["input"])
        table.add_row(
            row["network"],
            row["sensor"],
            size,
            row["runtime"],
            str(row["threads"] or "-"),
            f"{row['min_ms']:.1f}",
            f"{row['p50_ms']:.1f}",
            f"{row['p95_ms']:.1f}",
        )
    console = Console(width=120)
    console.print(table)
    console.print(f"{report['device']}; load {report['load_average']}; {report['date']}")


if __name__ == "__main__":
    main()
