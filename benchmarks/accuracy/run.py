"""The accuracy benchmark: label-free methods on a camera and a drive that no label was seen of.

Run: python benchmarks/accuracy/run.py --config benchmarks/accuracy/reduced.yaml
         [--camvid DIR] [--rows source,wide,...] [--seeds 0,1] [--results FILE] [--table]
         [--steps N] [--batch-size N] [--precision float32]

recognition.yaml has rows of its own. Another number of steps, or another precision, is a budget of
its own: a CPU without units for bfloat16 takes float32.

Every row and seed is written to the results as soon as it is done; what is there already is
skipped, and an interrupted training goes on from its checkpoint. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypeVar, cast

import recognition
import torch
from methods import Methods
from recognition import RecognitionMethods, RecognitionSettings
from rows import ROWS
from settings import Settings
from table import print_tables, summarise

from evdistill_core.foundation.config import from_mapping, load_yaml
from evdistill_core.foundation.errors import ConfigError, EvdistillError
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.foundation.suggestions import did_you_mean

HERE = Path(__file__).resolve().parent
S = TypeVar("S", Settings, RecognitionSettings)


def main() -> None:
    """Run the rows that are missing, then print the tables."""
    arguments = _arguments()
    methods = open_methods(arguments)
    names = arguments.rows.split(",") if arguments.rows else list(methods.rows)
    unknown = sorted(set(names) - set(methods.rows))
    if unknown:
        close = did_you_mean(unknown[0], methods.rows)
        raise ConfigError(f"unknown rows {unknown}; there are {', '.join(methods.rows)}{close}")
    seeds = methods.settings.seeds
    if arguments.seeds:
        texts = arguments.seeds.split(",")
        if not all(t.isdecimal() for t in texts):
            raise ConfigError(f"--seeds takes whole numbers such as 0,1, got {arguments.seeds!r}")
        seeds = tuple(int(t) for t in texts)
    if not arguments.table:
        for seed in seeds:  # a whole table with one seed before the second begins
            for name in names:
                run_row(methods, methods.rows[name], seed, arguments.results)
    results = read_results(arguments.results)
    entries = [r for r in results if r["budget"]["name"] == methods.settings.name]
    if isinstance(methods, RecognitionMethods):
        recognition.print_tables(entries)
    else:
        print_tables(methods, entries)


def open_methods(arguments: argparse.Namespace) -> Methods | RecognitionMethods:
    """Return what trains the rows of the configuration's task."""
    content = load_yaml(arguments.config)
    is_recognition = content.pop("task", "segmentation") == "recognition"
    kind = RecognitionSettings if is_recognition else Settings
    settings = from_mapping(kind, content)
    if arguments.camvid and not is_recognition:
        settings = dataclasses.replace(settings, camvid=arguments.camvid)
    if arguments.work:
        settings = dataclasses.replace(settings, work=arguments.work)
    if arguments.precision:
        if isinstance(settings, RecognitionSettings):
            raise ConfigError("recognition is trained in float32: leave --precision out")
        name = f"{settings.name}-{arguments.precision}"
        settings = dataclasses.replace(settings, name=name, precision=arguments.precision)
    if arguments.steps or arguments.batch_size:
        settings = rescaled(settings, arguments.steps, arguments.batch_size)
    return RecognitionMethods(settings) if is_recognition else Methods(settings)


def rescaled(settings: S, steps: int | None, batch_size: int | None) -> S:
    """Return the settings with another budget for all students, and a name that says so."""
    student = dataclasses.replace(
        settings.student,
        steps=steps or settings.student.steps,
        batch_size=batch_size or settings.student.batch_size,
    )
    name = f"{settings.name}-{student.steps}x{student.batch_size}"
    return dataclasses.replace(settings, name=name, student=student)


def run_row(
    methods: Methods | RecognitionMethods,
    row: Any,
    seed: int,
    path: Path,
) -> None:
    """Train and score one row with one seed, unless the results hold it; write the results."""
    if any(run["seed"] == seed for run in find_entry(methods, row, read_results(path))["runs"]):
        return
    print(f"{row.name}, seed {seed}", flush=True)
    start = time.perf_counter()
    sets = methods.scores(row, seed)
    seconds = time.perf_counter() - start
    run = {"seed": seed, "seconds": round(seconds, 1), "commit": commit(), "sets": sets}
    add_run(methods, row, run, path)
    print(f"  {methods.headline(sets)}", flush=True)


def add_run(
    methods: Methods | RecognitionMethods, row: Any, run: dict[str, Any], path: Path
) -> None:
    """Write a run beside the others, those that other processes wrote meanwhile too."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = read_results(path)
        entry = find_entry(methods, row, results)
        others = [r for r in entry["runs"] if r["seed"] != run["seed"]]
        entry["runs"] = sorted([*others, run], key=lambda r: int(r["seed"]))
        summary = recognition.summarise if methods.task == "recognition" else summarise
        entry.update(summary(entry))
        if entry not in results:
            results.append(entry)
        write_results(path, results)


def find_entry(
    methods: Methods | RecognitionMethods, row: Any, results: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the entry of a row under these settings; a new one where there is none.

    An entry of the same name and budget under other settings is out of date and is removed.
    """
    key = methods.key(row)
    for entry in list(results):
        if entry["name"] == row.name and entry["budget"]["name"] == methods.settings.name:
            if entry["key"] == key:
                return entry
            results.remove(entry)
    return {
        "task": methods.task,
        "name": row.name,
        "title": row.title,
        "label_free": methods.is_label_free(row),
        "key": key,
        "device": device_name(methods.device),
        "budget": methods.budget(row),
        "runs": [],
    }


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a results file; none where it is missing."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return cast("list[dict[str, Any]]", known)


def write_results(path: Path, results: list[dict[str, object]]) -> None:
    """Write the entries, one a line."""
    rows = {"segmentation": list(ROWS), "recognition": list(recognition.ROWS)}

    def place(entry: dict[str, Any]) -> tuple[str, int]:
        names = rows[entry["task"]]
        at = names.index(entry["name"]) if entry["name"] in names else len(names)
        return entry["budget"]["name"], at

    results.sort(key=place)
    lines = ",\n".join(json.dumps(e) for e in results)
    write_text_atomic(path, f"[\n{lines}\n]\n")


def commit() -> str:
    """Return the commit that is checked out; ``+`` where other files than results were changed."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=HERE, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        but_results = ("--untracked-files=no", "--", ":/", ":!*results.json")
        changed = git("status", "--porcelain", *but_results)
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def device_name(device: torch.device) -> str:
    """Return what trained."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "reduced.yaml")
    parser.add_argument("--camvid", type=Path, help="instead of the configuration's")
    parser.add_argument("--work", type=Path, help="instead of the configuration's")
    parser.add_argument("--rows", help="comma-separated; else all")
    parser.add_argument("--seeds", help="comma-separated; instead of the configuration's")
    parser.add_argument("--steps", type=int, help="of every student; the budget gets a name of it")
    parser.add_argument("--batch-size", type=int, help="the same")
    parser.add_argument("--precision", help="of segmentation; the same")
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    parser.add_argument("--table", action="store_true", help="print the tables, run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except EvdistillError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
