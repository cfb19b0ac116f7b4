"""CPU time of the node without the student (take, decode, window, publish), per million events.

    python benchmarks/node_cpu.py [--seconds 20] [--json FILE] [--codecs DIR]

Each front end (rclpy on the ROS 2 found in /opt/ros, ours over DDS) runs as a process of its own
with a network that answers at once; one subscriber takes the masks. A sender gives it the demo
recording at 4 times real time (small messages: what a message costs), or messages of 100 kB at
250 Hz (what an event costs). CPU is that of the whole process while it receives, all threads. With
``--codecs`` (headers of event_camera_codecs, see ``codecs_peer.py``) the drivers' own C++ decoder
decodes the same messages: what the decoding alone would cost, without any receiving.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import codecs_peer
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from evdistill_core.events.array import Events
from evdistill_core.events.packet import Packet
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.inference.runner import Output
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import DiagnosticArray, Header, Image, Time
from evdistill_core.recordings.encoders.libcaer_cmp import encode_libcaer_cmp
from evdistill_core.recordings.opening import open_recording
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode

REPOSITORY = Path(__file__).resolve().parents[1]
EVENTS = "/event_camera/events"
WIDTH, HEIGHT = 640, 480
DEMO = REPOSITORY / "demo" / "davis346_street.mcap"
FLOOD_HZ, FLOOD_BYTES = 250, 100_000
DEMO_CASE, FLOOD_CASE = "demo at 4x", "100 kB at 250 Hz"
# Places of stamp, seq and time_base in an EventPacket with a frame_id of three letters.
STAMP, SEQ, TIME_BASE = 4, 28, 36


def flood_message(step_us: int, size: int) -> EventPacket:
    """Return a message of a size."""
    rng = np.random.default_rng(0)
    n = size // 4  # 4.3 bytes each; the rest is cut off
    events = Events.from_columns(
        rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n),
        np.sort(rng.integers(0, step_us, n)), rng.integers(0, 2, n), width=WIDTH, height=HEIGHT,
    )  # fmt: skip
    payload = encode_libcaer_cmp(events, 0)[: size // 8 * 8]
    header = Header(Time(1, 0), "cam")
    return EventPacket(header, HEIGHT, WIDTH, 0, 0, "libcaer_cmp", False, payload)


def flood(count: int, rate_hz: float, size: int) -> None:
    """Publish messages of a size at a rate: the same events over and over, time and seq go on."""
    step_us = round(1e6 / rate_hz)
    data = bytearray(flood_message(step_us, size).serialize())
    with DdsNode("flood") as node:
        publisher = node.create_publisher(EVENTS, EventPacket.TYPE, qos.EVENTS)
        publisher.wait_for_subscriber(60)
        time.sleep(1)
        began_s = time.monotonic()
        for i in range(count):
            time.sleep(max(0.0, began_s + i / rate_hz - time.monotonic()))
            struct.pack_into("<iI", data, STAMP, *divmod(10**18 + i * step_us * 1000, 10**9))
            struct.pack_into("<Q", data, SEQ, i)
            struct.pack_into("<Q", data, TIME_BASE, i * step_us * 1000)
            publisher.publish(bytes(data))
        print(f"sent {count} messages of {len(data)} bytes in {time.monotonic() - began_s:.2f} s")
        time.sleep(3)


class InstantRunner:
    """A network that answers at once: class 0 everywhere."""

    description = "none: answers at once"
    size_multiple = 8
    output_stride = 4
    is_recurrent = False
    has_instances = False

    def reset(self) -> None:
        """Nothing to forget."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._logits = np.zeros((0, 0, 0), np.float32)

    def run(self, input_chw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return constant logits."""
        _, height, width = input_chw.shape
        shape = (self._classes, height // 4, width // 4)
        if self._logits.shape != shape:
            self._logits = np.zeros(shape, np.float32)
            self._logits[0] = 9
        return self._logits

    def run_whole(self, input_chw: np.ndarray[Any, Any]) -> Output:
        """Return the same as what a student without an instance head says."""
        return Output(self.run(input_chw))

    def warm_up(self, height: int, width: int) -> None:
        """Nothing to warm."""


def work(front_end: str) -> None:
    """Be the node under test."""
    from evdistill_core.perception import front_end as shared  # noqa: PLC0415

    def open_student(parameters: Any) -> tuple[Any, Any]:
        student = shared.check_student(parameters)
        return student, InstantRunner(len(student.info.classes))

    if front_end == "rclpy":
        from evdistill_ros.nodes import perception_node, segmentation_node  # noqa: PLC0415

        perception_node.open_student = open_student
        segmentation_node.main(["--ros-args", "-r", f"~/events:={EVENTS}"])
        return
    from evdistill_core.perception.parameters import SegmentationParameters  # noqa: PLC0415
    from evdistill_ros.standalone import console, live  # noqa: PLC0415

    live.open_student = open_student
    console.run_live(SegmentationParameters(), live.GraphOptions())


def sender(case: str, seconds: float) -> list[str]:
    """Return the command that sends for so long."""
    if case == DEMO_CASE:
        return [sys.executable, "-m", "evdistill_core", "play", str(DEMO), "--rate", "4",
                "--loop", "--wait-for-subscriber"]  # fmt: skip
    count = str(round(FLOOD_HZ * seconds) + 2000)
    return [sys.executable, __file__, "--send", count, str(FLOOD_HZ), str(FLOOD_BYTES)]


def measure(front_end: str, case: str, seconds: float) -> dict[str, object]:
    """Run one case; return its row."""
    values: dict[str, str] = {}

    def take(packet: Packet) -> None:
        for status in DiagnosticArray.parse(packet.data).status:
            values.update({row.key: row.value for row in status.values})

    words = [sys.executable, __file__, "--work", front_end]
    command = words
    if front_end == "rclpy":
        setup = sorted(Path("/opt/ros").glob("*/setup.bash"))[-1]
        command = ["bash", "-c", f"source {setup} && exec {shlex.join(words)}"]
    with DdsNode("meter") as node:
        node.create_subscription("/diagnostics", DiagnosticArray.TYPE, qos.DEFAULT, take)
        node.create_subscription("/segmentation/mask", Image.TYPE, qos.RESULTS, lambda _: None)
        under_test = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        sending = subprocess.Popen(sender(case, seconds), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            process = psutil.Process(under_test.pid)
            first = _wait_for_report(values, 0)
            began_cpu = sum(process.cpu_times()[:2])
            time.sleep(seconds)
            last = _wait_for_report(values, first["messages_received"])
            cpu_s = sum(process.cpu_times()[:2]) - began_cpu
        finally:
            for each in (sending, under_test):
                each.terminate()
                each.wait(120)  # a loaded machine ends slowly
    return _row(front_end, case, cpu_s, {name: last[name] - first[name] for name in last})


def _row(front_end: str, case: str, cpu_s: float, rise: dict[str, int]) -> dict[str, object]:
    millions = rise["events"] / 1e6
    return {
        "front_end": front_end,
        "case": case,
        "messages": rise["messages_received"],
        "lost": rise.get("stream_lost_messages", ""),
        "million_events": round(millions, 2),
        "windows": rise.get("windows_done", ""),
        "cpu_s": round(cpu_s, 4),
        "cpu_ms_per_million_events": round(1e3 * cpu_s / millions, 1),
        "cpu_ms_per_message": round(1e3 * cpu_s / rise["messages_received"], 4),
    }


def decode_with_codecs(headers: Path, repeats: int = 20) -> list[dict[str, object]]:
    """Decode the messages of each case in C++, without receiving them."""
    with open_recording(DEMO) as recording:
        demo = [EventPacket.parse(packet.data) for packet in recording.packets()]
    step_us = round(1e6 / FLOOD_HZ)
    one = flood_message(step_us, FLOOD_BYTES)
    full = [replace(one, time_base=i * step_us * 1000) for i in range(100)]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = codecs_peer.build(headers, folder)
        for case, messages in ((DEMO_CASE, demo), (FLOOD_CASE, full)):
            first = messages[0]
            packets = [(message.time_base, bytes(message.events)) for message in messages]
            size = (first.width, first.height)
            peer = codecs_peer.decode(program, first.encoding, size, packets, repeats, folder)
            rise = {"messages_received": len(messages), "events": len(peer.events)}
            rows.append(_row("C++ decoder", case, float(np.mean(peer.cpu_ms)) / 1e3, rise))
    return rows


def _wait_for_report(values: dict[str, str], above: int) -> dict[str, int]:
    """Return the counters of the next diagnostics message."""
    names = ("messages_received", "events", "windows_done", "stream_lost_messages")
    end_s = time.monotonic() + 90
    values.clear()
    while int(values.get("messages_received", 0)) <= above:
        if time.monotonic() > end_s:
            raise SystemExit("the node does not report")
        time.sleep(0.01)
    return {name: int(values.get(name, 0)) for name in names}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--domain", type=int, default=76)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--codecs", type=Path, help="headers of event_camera_codecs")
    parser.add_argument("--work", choices=("rclpy", "dds"), help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs=3, type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.send:
        flood(int(options.send[0]), options.send[1], int(options.send[2]))
        return
    if options.work:
        work(options.work)
        return
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ["ROS_DOMAIN_ID"] = str(options.domain)
    os.environ["RMW_IMPLEMENTATION"] = "rmw_cyclonedds_cpp"
    fronts = ["dds"] + (["rclpy"] if list(Path("/opt/ros").glob("*/setup.bash")) else [])
    rows = [
        measure(front, case, options.seconds)
        for case in (DEMO_CASE, FLOOD_CASE)
        for front in fronts
    ]
    if options.codecs:
        rows += decode_with_codecs(options.codecs)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=160).print(table)
    if options.json:
        machine = f"{os.cpu_count()} CPUs, {platform.machine()}"
        report = {"date": time.strftime("%Y-%m-%d"), "machine": machine,
                  "load_average": os.getloadavg(), "rows": rows}  # fmt: skip
        write_text_atomic(options.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
