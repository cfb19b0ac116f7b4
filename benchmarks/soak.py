"""Plays a recording in a loop into the node for long, and watches memory, threads and every packet.

    python benchmarks/soak.py --minutes 60 --rate 4 --front-end rclpy --out soak.json

The node (rclpy on the ROS 2 found in /opt/ros, or ours over DDS) and the player are processes of
their own. Every few seconds the node's resident memory and threads are read from /proc, and its
counters from /diagnostics. At the end every packet that the player sent must be accounted for:
sent = received + lost on the way (gaps of ``seq``), received = used + counted as lost.
Writes JSON and, beside it, a figure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from evdistill_core.events.packet import Packet
from evdistill_core.foundation.files import atomic_path, write_text_atomic
from evdistill_core.messages.standard import DiagnosticArray
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode

REPOSITORY = Path(__file__).resolve().parents[1]
RECORDING = REPOSITORY / "demo" / "davis346_street.mcap"
LOSSES = ("messages_damaged", "messages_lost_queue", "messages_discarded")


class Watch:
    """Keeps the latest diagnostics."""

    def __init__(self, node: DdsNode) -> None:
        self.values: dict[str, str] = {}
        node.create_subscription("/diagnostics", DiagnosticArray.TYPE, qos.DEFAULT, self._take)

    def count(self, name: str) -> int:
        """Return a counter."""
        return int(self.values.get(name, 0))

    def _take(self, packet: Packet) -> None:
        for status in DiagnosticArray.parse(packet.data).status:
            self.values |= {row.key: row.value for row in status.values}


def node_command(front_end: str, student: Path | None) -> list[str]:
    """Return how the node under test is started."""
    given = ["-p", f"student:={student}"] if student else []
    if front_end == "dds":
        return [sys.executable, "-m", "evdistill_core", "live", *given]
    setup = sorted(Path("/opt/ros").glob("*/setup.bash"))
    if not setup:
        raise SystemExit("no ROS 2 in /opt/ros: take --front-end dds")
    words = [sys.executable, "-m", "evdistill_ros.nodes.segmentation_node", "--ros-args", *given]
    words += ["-r", "~/events:=/event_camera/events"]
    return ["bash", "-c", f"source {setup[-1]} && exec {shlex.join(words)}"]


def sample(process: psutil.Process, watch: Watch, began_s: float) -> dict[str, float]:
    """Return one row of the series."""
    cpu = process.cpu_times()
    return {
        "t_s": round(time.monotonic() - began_s, 1),
        "rss_mb": round(process.memory_info().rss / 1e6, 2),
        "threads": process.num_threads(),
        "open_files": process.num_fds(),
        "cpu_s": round(cpu.user + cpu.system, 2),
        "received": watch.count("messages_received"),
        "used": watch.count("messages_used"),
        "lost": sum(watch.count(name) for name in LOSSES),
        "gaps": watch.count("stream_lost_messages"),
        "windows": watch.count("windows_done"),
        "dropped": watch.count("windows_dropped"),
    }


def verdict(rows: Sequence[dict[str, float]], sent: int, watch: Watch) -> dict[str, object]:
    """Judge the series; memory is compared between the second and the last fifth."""
    fifth = max(1, len(rows) // 5)

    def mean(name: str, part: Sequence[dict[str, float]]) -> float:
        return sum(row[name] for row in part) / len(part)

    early, late = rows[fifth : 2 * fifth] or rows, rows[-fifth:]
    received, used = watch.count("messages_received"), watch.count("messages_used")
    counted = used + sum(watch.count(n) for n in LOSSES) + watch.count("queue_packets")
    return {
        "sent": sent,
        "received": received,
        "used": used,
        "counted_as_lost": {n: watch.count(n) for n in LOSSES},
        "lost_before_reception": watch.count("stream_lost_messages"),
        "every_received_packet_accounted_for": received == counted,
        "every_sent_packet_accounted_for": sent == received + watch.count("stream_lost_messages"),
        "rss_mb_second_fifth": round(mean("rss_mb", early), 1),
        "rss_mb_last_fifth": round(mean("rss_mb", late), 1),
        "threads_first_last": [rows[0]["threads"], rows[-1]["threads"]],
        "loops": watch.count("stream_time_jumps"),
        "windows": watch.count("windows_done"),
        "windows_dropped": watch.count("windows_dropped"),
        "counters": {k: int(v) for k, v in sorted(watch.values.items()) if v.isdecimal()},
    }


def draw(rows: Sequence[dict[str, float]], path: Path, title: str) -> None:
    """Draw memory and threads over time."""
    import matplotlib as mpl  # noqa: PLC0415 - slow, and only for the figure

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    minutes = [row["t_s"] / 60 for row in rows]
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(8, 5))
    rss_mb = [row["rss_mb"] for row in rows]
    top.plot(minutes, rss_mb)
    top.set_ylim(0, 1.25 * max(rss_mb))
    top.set_ylabel("resident memory, MB")
    top.set_title(title)
    bottom.step(minutes, [row["threads"] for row in rows])
    bottom.set_ylim(0, 1.25 * max(row["threads"] for row in rows))
    bottom.set_ylabel("threads")
    bottom.set_xlabel("minutes")
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Run the soak and return its report."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ["ROS_DOMAIN_ID"] = str(options.domain)
    os.environ["RMW_IMPLEMENTATION"] = "rmw_cyclonedds_cpp"
    play = [sys.executable, "-m", "evdistill_core", "play", str(options.recording), "--loop",
            "--rate", str(options.rate), "--wait-for-subscriber"]  # fmt: skip
    rows: list[dict[str, float]] = []
    with DdsNode("soak") as node:
        watch = Watch(node)
        under_test = subprocess.Popen(node_command(options.front_end, options.student))
        player = subprocess.Popen(play, stdout=subprocess.PIPE, text=True)
        try:
            process = psutil.Process(under_test.pid)
            end_s = time.monotonic() + 60
            while not watch.count("windows_done") and time.monotonic() < end_s:
                time.sleep(0.2)
            began_s = time.monotonic()
            while time.monotonic() - began_s < 60 * options.minutes:
                if under_test.poll() is not None or player.poll() is not None:
                    raise SystemExit("the node or the player has ended before its time")
                rows.append(sample(process, watch, began_s))
                time.sleep(options.every)
            player.send_signal(signal.SIGINT)
            said, _ = player.communicate(timeout=30)
            time.sleep(3)  # the last packets, and a diagnostics message after them
            under_test.send_signal(signal.SIGTERM)
            try:
                code = under_test.wait(30)
            except subprocess.TimeoutExpired:
                code = -signal.SIGKILL  # the series is not lost for it; the verdict says so
        finally:
            for each in (player, under_test):
                if each.poll() is None:
                    each.kill()
    sent = int(re.search(r"([\d,]+) packets", said).group(1).replace(",", ""))  # type: ignore[union-attr]
    return {
        "command": " ".join(sys.argv),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}",
        "front_end": options.front_end,
        "rate": options.rate,
        "minutes": options.minutes,
        "load_average": os.getloadavg(),
        "exit_code": code,
        "verdict": verdict(rows, sent, watch),
        "series": rows,
    }


def main() -> None:
    """Run from the command line; exit code 1 when a packet is not accounted for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=4)
    parser.add_argument("--every", type=float, default=5, help="seconds between samples")
    parser.add_argument("--front-end", choices=("rclpy", "dds"), default="rclpy")
    parser.add_argument("--recording", type=Path, default=RECORDING)
    parser.add_argument("--student", type=Path)
    parser.add_argument("--domain", type=int, default=77)
    parser.add_argument("--out", type=Path, default=Path("out/soak.json"))
    options = parser.parse_args()
    report = run(options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(options.out, json.dumps(report, indent=1) + "\n")
    title = f"{options.front_end} node, looped replay at {options.rate:g} times real time"
    draw(report["series"], options.out.with_suffix(".png"), title)  # type: ignore[arg-type]
    found = report["verdict"]
    assert isinstance(found, dict)
    print(json.dumps({k: v for k, v in found.items() if k != "counters"}, indent=1))
    good = found["every_received_packet_accounted_for"] and found["every_sent_packet_accounted_for"]
    sys.exit(0 if good and report["exit_code"] in (0, 130) else 1)


if __name__ == "__main__":
    main()
