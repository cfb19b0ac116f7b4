"""Steps per second, memory and share of time spent waiting for data, of the training profiles.

    python benchmarks/training.py --data DATA [--profile onboard ...] [--batch-size 2] [--steps 5]

Networks, terms, sizes and batch are those of config/train/<profile>.yaml; images are CamVid's
(DATA/camvid), events the demo recording, the teacher is freshly made from its own profile: time
does not depend on weights. Each profile runs in a process of its own, through the trainer that
`evdistill train` uses. Memory is the peak of that process: of CUDA where there is one, resident
elsewhere (without the processes that make samples). Times are medians after the warm-up.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.distill_config import DistillConfig
from evdistill_core.training.loop import LAST, StepReport
from evdistill_core.training.stages import load_experiment, make_trainer

ROOT = Path(__file__).resolve().parents[1]
PROFILES = {"onboard": "teacher", "evdistill-2021": "teacher-2021"}
RECORDING = ROOT / "demo" / "davis346_street.mcap"


def placed(config: TrainConfig, data: Path, folder: Path, **changes: object) -> TrainConfig:
    """Return an experiment on the data at hand, with its caches in a folder."""
    places = {"data/camvid": str(data / "camvid"), "data/recordings": str(RECORDING)}

    def move(value: object) -> object:
        if isinstance(value, dict):
            return {k: str(folder / "cache") if k == "cache" else move(v) for k, v in value.items()}
        if isinstance(value, list):
            return [move(v) for v in value]
        return places.get(value, value) if isinstance(value, str) else value

    plain = to_mapping(config) | {"validate_every": 0, "checkpoint_every": 10**9}
    moved = {key: move(value) for key, value in plain.items()}
    return from_mapping(type(config), moved | {"tensorboard": False} | changes)


def measure(options: dict[str, object], data: Path, folder: Path) -> dict[str, object]:
    """Train a few steps of a profile in this process and return its row."""
    name, steps, warm_up = str(options["profile"]), int(options["steps"]), int(options["warm_up"])  # type: ignore[call-overload]
    teacher = load_experiment(ROOT / "config" / "train" / f"{PROFILES[name]}.yaml")
    make_trainer(placed(teacher, data, folder), folder / "teacher").save()
    config = load_experiment(ROOT / "config" / "train" / f"{name}.yaml")
    assert isinstance(config, DistillConfig)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, validation=()))
    changes = {k: v for k, v in dict(options["changes"]).items() if v is not None}  # type: ignore[call-overload]
    trainer = make_trainer(
        placed(config, data, folder, teacher=str(folder / "teacher" / LAST), **changes),
        folder / "student",
    )
    reports: list[StepReport] = []

    def on_step(report: StepReport) -> None:
        reports.append(report)
        print(f"{name} step {report.step}: {report.seconds:.2f} s", file=sys.stderr, flush=True)
        if len(reports) == warm_up + steps:
            trainer.stop()

    trainer.run(on_step)
    seconds = [r.seconds for r in reports[warm_up:]]
    waits = [r.wait_seconds for r in reports[warm_up:]]
    on_gpu = trainer.device.type == "cuda"
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if on_gpu:
        peak_gib = torch.cuda.max_memory_allocated() / 2**30
    crop = config.data.recordings.crop if config.data.recordings is not None else ()
    return {
        "profile": name,
        "batch_size": trainer.config.batch_size,
        "profile_batch_size": config.batch_size,
        "size": list(crop),
        "device": str(trainer.device),
        "precision": trainer.config.precision,
        "workers": trainer.config.workers,
        "threads": torch.get_num_threads(),
        "steps": len(seconds),
        "step_s": round(statistics.median(seconds), 3),
        "steps_per_s": round(1 / statistics.median(seconds), 4),
        "peak_gib": round(peak_gib, 2),
        "waiting_share": round(sum(waits) / sum(seconds), 4),
    }


def measure_apart(options: dict[str, object], data: Path) -> dict[str, object]:
    """Return the row of a profile, measured in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--data", str(data), "--row", json.dumps(options)]
        process = subprocess.run(
            [*command, "--folder", folder], stdout=subprocess.PIPE, text=True, check=False
        )
    if process.returncode:
        return options | {"failed": process.returncode}
    row: dict[str, object] = json.loads(process.stdout.splitlines()[-1])
    return row


def device_name() -> str:
    """Return processor, cores, memory, and GPU if there is one."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [names[0] if names else platform.processor(), f"{os.cpu_count()} cores"]
    parts.append(f"{memory_gib:.0f} GiB")
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with camvid/")
    parser.add_argument("--profile", choices=sorted(PROFILES), action="append")
    parser.add_argument("--batch-size", type=int, help="instead of the profile's")
    parser.add_argument("--steps", type=int, default=5, help="measured, after the warm-up")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--workers", type=int, help="instead of the profile's")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("out/benchmarks/training.json"))
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(json.loads(arguments.row), arguments.data, arguments.folder)))
        return
    names = ("batch_size", "device", "precision", "workers", "threads")
    shared: dict[str, object] = {
        "steps": arguments.steps,
        "warm_up": arguments.warm_up,
        "changes": {name: getattr(arguments, name) for name in names},
    }
    load_before = os.getloadavg()[0]
    rows = []
    for profile in arguments.profile or PROFILES:
        rows.append(measure_apart({"profile": profile, **shared}, arguments.data.resolve()))
        print(json.dumps(rows[-1]), flush=True)
    report = {
        "device": device_name(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "rows": rows,
    }
    write_text_atomic(arguments.out, json.dumps(report, indent=1) + "\n")
    show(report["device"], rows, report["load_average"])
    if any("failed" in row for row in rows):
        sys.exit(1)


def show(device: object, rows: list[dict[str, object]], load: object) -> None:
    """Print the rows as a table."""
    table = Table(
        "profile", "size", "batch", "precision", "s / step", "steps / s", "GiB", "waiting"
    )
    for row in rows:
        if "failed" in row:
            table.add_row(str(row["profile"]), "", "", "", f"exit code {row['failed']}")
            continue
        table.add_row(
            str(row["profile"]),
            "x".join(str(n) for n in row["size"]),  # type: ignore[attr-defined]
            f"{row['batch_size']} of {row['profile_batch_size']}",
            str(row["precision"]),
            *(f"{row[key]:.3g}" for key in ("step_s", "steps_per_s", "peak_gib")),
            f"{row['waiting_share']:.1%}",
        )
    console = Console(width=110)
    console.print(table)
    console.print(f"{device}; load {load}")


if __name__ == "__main__":
    main()
