"""Fuzz decoders, parsers and readers.

    python test/fuzz/run.py [--minutes 1 | --steps N] [--target all | NAME ...] [--seed 0]
                            [--report FILE]
    python test/fuzz/run.py --engine atheris ...   (coverage-guided: docs/explanation/fuzzing.md)
    python test/fuzz/run.py --target NAME --seed S --step K     (one step again: a finding)

Every target runs in a process of its own, under a limit of memory and a watch for hangs, so that a
crash is a finding and not the end. The exit code is 1 when there are findings; the inputs lie in
the folder of findings.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import fnmatch
import json
import math
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import numpy as np  # noqa: E402

if {"--worker", "atheris"} <= set(sys.argv):
    import atheris

    with atheris.instrument_imports(include=["evdistill_core"]):
        import targets
else:
    import targets
from evdistill_core.events.warm_up import warm_up  # noqa: E402

HANG_S = 120


def work(name: str, seed: int, seconds: float, folder: Path, first: int, last: int | None) -> dict:
    """Run one target in this process and return what it did; findings end it."""
    tally = targets.Tally()
    step, current = targets.all_targets()[name].start(tally, folder)
    # Compiling and importing come before memory is limited and time is watched.
    warm_up()
    for number in range(3):
        step(np.random.default_rng(number))
    tally.__init__()
    place = (folder / f"step-{name}").open("w+b")
    place.truncate(8)
    shown = mmap.mmap(place.fileno(), 8)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + targets.FILE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    began, number, problem = time.monotonic(), first, ""
    while time.monotonic() - began < seconds and (last is None or number < last):
        shown[:8] = number.to_bytes(8, "little")
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        try:
            step(np.random.default_rng([seed, zlib.crc32(name.encode()), number]))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            problem = f"{type(error).__name__}: {error}"
            (folder / f"finding-{name}-{seed}-{number}.bin").write_bytes(current())
            trace = "".join(traceback.format_exception(error))
            (folder / f"finding-{name}-{seed}-{number}.txt").write_text(trace)
            break
        number += 1
    faulthandler.cancel_dump_traceback_later()
    spent = time.monotonic() - began
    return vars(tally) | {"seconds": spent, "next": number, "finding": problem}


def cover(name: str, seed: int, seconds: float, folder: Path) -> None:
    """Run one target under atheris in this process; libFuzzer ends the process itself."""
    import atheris

    corpus = folder / f"corpus-{name}"
    corpus.mkdir(exist_ok=True)
    for i, data in enumerate(_atheris_seeds(name)):
        (corpus / f"seed-{i}").write_bytes(data)
    entry = targets.atheris_entry(name, folder)
    arguments = [
        sys.argv[0], str(corpus), f"-max_total_time={int(seconds)}", f"-seed={seed + 1}",
        "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1",
        f"-artifact_prefix={folder}/atheris-{name}-",
    ]  # fmt: skip
    atheris.Setup(arguments, entry)
    atheris.Fuzz()


def _atheris_seeds(name: str) -> list[bytes]:
    import seeds

    if name.startswith("decoder-"):
        return [seeds.payloads()[name.removeprefix("decoder-")][:512]]
    if name == "stream":
        return [d for several in seeds.messages().values() for d in several]
    if name == "cdr":
        kinds = list(dict.fromkeys(kind for kind, _ in seeds.samples()))
        return [bytes([kinds.index(kind)]) + data for kind, data in seeds.samples()]
    return [seeds.files()[name.removeprefix("file-")]]


def spawn(options: argparse.Namespace, name: str, seconds: float, first: int) -> dict:
    """Run one target in a child and return its result; its death is a finding."""
    command = [
        sys.executable, str(HERE / "run.py"), "--worker", name, "--seed", str(options.seed),
        "--minutes", str(seconds / 60), "--findings", str(options.findings), "--step", str(first),
        "--engine", options.engine,
    ]  # fmt: skip
    if options.last is not None:
        command += ["--last", str(options.last)]
    environment = dict(os.environ)
    if options.engine == "atheris":
        environment["NUMBA_DISABLE_JIT"] = "1"  # kernels run as Python, which can be watched
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    spent = time.monotonic() - began
    if options.engine == "atheris":
        return _atheris_result(done, spent)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    number = _last_step(options.findings / f"step-{name}")
    why = f"ended by {_cause(done.returncode)}"
    log = options.findings / f"finding-{name}-{options.seed}-{number}.txt"
    log.write_text(f"{why}\n{done.stdout[-2000:]}\n{done.stderr[-8000:]}")
    return {"finding": f"{why}, see {log.name}", "next": number, "seconds": spent}


def _atheris_result(done: subprocess.CompletedProcess[str], spent: float) -> dict:
    stats = dict(
        line.removeprefix("stat::").split(":", 1)
        for line in done.stderr.splitlines()
        if line.startswith("stat::")
    )
    lines = [line for line in done.stderr.splitlines() if " cov: " in line]
    covered = int(lines[-1].split(" cov: ")[1].split()[0]) if lines else 0
    result = {
        "inputs": int(stats.get("number_of_executed_units", 0)),
        "seconds": spent,
        "coverage": covered,
        "finding": "",
        "next": 0,
    }
    if done.returncode:
        result["finding"] = (done.stdout + done.stderr)[-3000:]
    return result


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _last_step(path: Path) -> int:
    return int.from_bytes(path.read_bytes(), "little") if path.exists() else 0


def fuzz(options: argparse.Namespace, names: list[str]) -> list[dict]:
    """Run every target for its share of the time, or up to its last step; print a line each."""
    rows = []
    share = options.minutes * 60 / len(names)
    print(f"{'target':24} {'inputs':>10} {'/s':>8} {'refused':>8} {'peak MB':>8} findings")
    for name in names:
        total: dict = {"target": name, "inputs": 0, "packets": 0, "refused": 0, "events": 0,
                       "peak_bytes": 0, "seconds": 0.0, "findings": []}  # fmt: skip
        first = options.step or 0
        while (
            total["seconds"] < share
            and (options.last is None or first < options.last)
            and len(total["findings"]) < options.max_findings
        ):
            result = spawn(options, name, share - total["seconds"], first)
            for key in ("inputs", "packets", "refused", "events", "seconds"):
                total[key] += result.get(key, 0)
            total["peak_bytes"] = max(total["peak_bytes"], result.get("peak_bytes", 0))
            if "coverage" in result:
                total["coverage"] = result["coverage"]
            if result["finding"]:
                total["findings"].append({"step": result["next"], "what": result["finding"]})
            first = result["next"] + 1
            if options.engine == "atheris":
                break
        rows.append(total)
        rate = total["inputs"] / max(total["seconds"], 1e-9)
        print(
            f"{name:24} {total['inputs']:10} {rate:8.0f} {total['refused']:8} "
            f"{total['peak_bytes'] / 1e6:8.1f} {len(total['findings'])}"
            + (f"  cov {total['coverage']}" if "coverage" in total else ""),
            flush=True,
        )
        for finding in total["findings"]:
            print(f"    step {finding['step']}: {finding['what'][-1500:]}", flush=True)
    return rows


def main() -> int:
    """Read the command line; see the text at the top."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, help="of all targets together (1 when --steps is not given)"
    )
    parser.add_argument(
        "--steps", type=int, help="of every target: the same inputs on every machine (mutate only)"
    )
    parser.add_argument("--target", nargs="+", default=["all"], help="names or patterns (file-*)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("mutate", "atheris"), default="mutate")
    parser.add_argument("--report", type=Path, help="write the counts as JSON")
    parser.add_argument("--findings", type=Path, help="folder for inputs that are findings")
    parser.add_argument(
        "--max-findings", type=int, default=5, help="a target is left after so many"
    )
    parser.add_argument("--step", type=int, help="repeat this step of a target alone")
    parser.add_argument("--last", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps is not None and (options.steps < 1 or options.engine == "atheris"):
        parser.error(f"--steps {options.steps}: at least 1, and only with --engine mutate")
    if options.minutes is None:
        options.minutes = math.inf if options.steps else 1.0
    if options.worker:
        seconds = options.minutes * 60
        if options.engine == "atheris":
            cover(options.worker, options.seed, seconds, options.findings)
            return 0
        with contextlib.suppress(KeyboardInterrupt):
            first = options.step or 0
            result = work(
                options.worker, options.seed, seconds, options.findings, first, options.last
            )
            print(json.dumps(result))
        return 0
    options.last = options.steps if options.step is None else options.step + 1
    options.findings = options.findings or Path(tempfile.mkdtemp(prefix="fuzz-findings-"))
    options.findings.mkdir(parents=True, exist_ok=True)
    known = list(targets.all_targets())
    names = [n for n in known if any(p == "all" or fnmatch.fnmatch(n, p) for p in options.target)]
    if not names:
        parser.error(f"no such target; targets are: {', '.join(known)}")
    rows = fuzz(options, names)
    found = sum(len(row["findings"]) for row in rows)
    inputs, packets = (sum(row[key] for row in rows) for key in ("inputs", "packets"))
    seconds = sum(row["seconds"] for row in rows)
    print(f"{inputs} inputs ({packets} packets decoded), {seconds:.0f} s, {found} findings")
    if found:
        print(f"inputs of the findings: {options.findings}")
    if options.report:
        facts = {"seed": options.seed, "engine": options.engine, "inputs": inputs,
                 "packets": packets, "seconds": round(seconds, 1), "targets": rows}  # fmt: skip
        options.report.write_text(json.dumps(facts, indent=2) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
