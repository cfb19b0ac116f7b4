"""What the node keeps up with: synthetic HD EVT3 at several event rates, in real time.

    python benchmarks/live_rate.py [--rates 1 5 10 20] [--seconds 15] [-p NAME:=VALUE] [--json FILE]

``evdistill live`` runs as a process of its own with the shipped student; with ``--front-end rclpy``
the node on the ROS 2 found in /opt/ros. A subscriber takes the masks. A sender gives it moving
edges and a fifth of noise, 1280 x 720 pixels, as EVT3 messages of 4.096 ms over DDS. For each rate
the table has the windows of 50 ms that were dropped, the messages that were lost, the CPU time of
the whole process, and the time from the arrival of a window's last packet until its mask was
published (``total_ms_*`` of the node's diagnostics). ``represent`` and ``postprocess`` are stages
of it. Sender, node and subscriber share the machine's cores: where ``received_mev_per_s`` stays
below the wanted rate, the machine was too busy to say anything.
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
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from evdistill_core.events.array import Events
from evdistill_core.events.packet import Packet
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import DiagnosticArray, Header, Image, Time
from evdistill_core.recordings.encoders.evt3 import encode_evt3
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode

EVENTS = "/event_camera/events"
WIDTH, HEIGHT = 1280, 720
# The upper half of EVT3's time counts steps of 4096 us: a message for each, and a loop of so many.
STEP_US, STEPS = 4096, 25
TIME_HIGH = 8
# Places of stamp, seq and time_base in an EventPacket with a frame_id of three letters.
STAMP, SEQ = 4, 28
COUNTERS = ("messages_received", "events", "windows", "windows_done", "windows_dropped",
            "stream_lost_messages", "messages_lost_queue")  # fmt: skip
LATENCIES = ("total_ms_p50", "total_ms_p99", "mailbox_ms_p50", "represent_ms_p50", "infer_ms_p50",
             "postprocess_ms_p50")  # fmt: skip


def scene(rate_hz: float) -> list[Events]:
    """Return one loop: 20 vertical edges that move by one distance in it, and a fifth of noise."""
    rng = np.random.default_rng(0)
    count = round(rate_hz * STEP_US * STEPS / 1e6)
    t_us = np.sort(rng.integers(0, STEP_US * STEPS, count))
    distance = WIDTH // 20
    edge = t_us * distance // (STEP_US * STEPS) + rng.integers(0, 20, count) * distance
    x = np.where(rng.random(count) < 1 / 5, rng.integers(0, WIDTH, count),
                 (edge + rng.integers(0, 3, count)) % WIDTH)  # fmt: skip
    events = Events.from_columns(
        x, rng.integers(0, HEIGHT, count), t_us, rng.integers(0, 2, count),
        width=WIDTH, height=HEIGHT,
    )  # fmt: skip
    cuts = np.searchsorted(t_us, np.arange(STEPS + 1) * STEP_US)
    return [events[cuts[i] : cuts[i + 1]] for i in range(STEPS)]


class Message:
    """One message of the loop, whose time goes on from turn to turn."""

    def __init__(self, events: Events) -> None:
        payload = encode_evt3(events, 0)
        message = EventPacket(
            Header(Time(1, 0), "cam"), HEIGHT, WIDTH, 0, 0, "evt3", False, payload
        )
        self._data = bytearray(message.serialize())
        start = bytes(self._data).rindex(payload)
        self._words = np.frombuffer(self._data, "<u2", len(payload) // 2, start)
        self._places = np.flatnonzero(self._words >> 12 == TIME_HIGH)
        self._high = self._words[self._places] & 0xFFF

    def at(self, number: int) -> bytes:
        """Return its bytes as the stream's message of a number."""
        turn = number // STEPS
        self._words[self._places] = TIME_HIGH << 12 | (self._high + turn * STEPS) & 0xFFF
        struct.pack_into("<iI", self._data, STAMP, *divmod(time.time_ns(), 10**9))
        struct.pack_into("<Q", self._data, SEQ, number)
        return bytes(self._data)


def send(rate_hz: float) -> None:
    """Publish until the process is ended."""
    messages = [Message(events) for events in scene(rate_hz)]
    with DdsNode("sender") as node:
        publisher = node.create_publisher(EVENTS, EventPacket.TYPE, qos.EVENTS)
        publisher.wait_for_subscriber(120)
        time.sleep(1)
        began_s, number = time.monotonic(), 0
        while True:
            time.sleep(max(0.0, began_s + number * STEP_US / 1e6 - time.monotonic()))
            publisher.publish(messages[number % STEPS].at(number))
            number += 1


def node_command(front_end: str, parameters: Sequence[str]) -> list[str]:
    """Return the command that starts the node under test."""
    given = [word for parameter in parameters for word in ("-p", parameter)]
    if front_end == "dds":
        return [sys.executable, "-m", "evdistill_core", "live", *given]
    start = "from evdistill_ros.nodes.segmentation_node import main; main()"
    words = [sys.executable, "-c", start, "--ros-args", "-r", f"~/events:={EVENTS}", *given]
    setup = sorted(Path("/opt/ros").glob("*/setup.bash"))[-1]
    return ["bash", "-c", f"source {setup} && exec {shlex.join(words)}"]


def measure(
    rate_hz: float, seconds: float, front_end: str, parameters: Sequence[str]
) -> dict[str, object]:
    """Run one rate; return its row."""
    values: dict[str, str] = {}

    def take(packet: Packet) -> None:
        for status in DiagnosticArray.parse(packet.data).status:
            values.update({row.key: row.value for row in status.values})

    live = node_command(front_end, parameters)
    with DdsNode("meter") as node:
        node.create_subscription("/diagnostics", DiagnosticArray.TYPE, qos.DEFAULT, take)
        node.create_subscription("/segmentation/mask", Image.TYPE, qos.RESULTS, lambda _: None)
        under_test = subprocess.Popen(live, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        sender = subprocess.Popen([sys.executable, __file__, "--send", str(rate_hz)])
        try:
            process = psutil.Process(under_test.pid)
            _wait_for_windows(values, 20, under_test)
            first, began_s = _counts(values), time.monotonic()
            began_cpu_s = sum(process.cpu_times()[:2])
            time.sleep(seconds)
            _wait_for_windows(values, first["windows"] + 1, under_test)
            last, wall_s = _counts(values), time.monotonic() - began_s
            cpu_s = sum(process.cpu_times()[:2]) - began_cpu_s
            latency = {name: float(values.get(name, "nan")) for name in LATENCIES}
        finally:
            for each in (sender, under_test):
                each.terminate()
                each.wait(120)  # a loaded machine ends slowly
    rise = {name: last[name] - first[name] for name in COUNTERS}
    dropped = rise["windows_dropped"] / max(1, rise["windows"])
    return {
        "wanted_mev_per_s": rate_hz / 1e6,
        "received_mev_per_s": round(rise["events"] / wall_s / 1e6, 2),
        "messages_lost": rise["stream_lost_messages"] + rise["messages_lost_queue"],
        "windows": rise["windows"],
        "dropped": f"{dropped:.1%}",
        "cpu_percent": round(100 * cpu_s / wall_s),
        "cpu_ms_per_million_events": round(1e9 * cpu_s / max(1, rise["events"]), 1),
        **latency,
    }


def _counts(values: dict[str, str]) -> dict[str, int]:
    return {name: int(values.get(name, 0)) for name in COUNTERS}


def _wait_for_windows(values: dict[str, str], above: int, node: subprocess.Popen[bytes]) -> None:
    """Wait for a diagnostics message that tells of more windows."""
    end_s = time.monotonic() + 180
    while int(values.get("windows", 0)) <= above:
        if time.monotonic() > end_s or node.poll() is not None:
            raise SystemExit("the node does not report windows")
        time.sleep(0.05)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[1, 5, 10, 20],
                        help="million events a second")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--student", default="", help="file or name; the shipped one without")
    parser.add_argument("-p", dest="parameters", action="append", default=[],
                        metavar="NAME:=VALUE", help="a parameter of the node")  # fmt: skip
    parser.add_argument("--front-end", choices=("dds", "rclpy"), default="dds")
    parser.add_argument("--domain", type=int, default=79)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--send", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.send:
        send(options.send)
        return
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ["ROS_DOMAIN_ID"] = str(options.domain)
    os.environ["RMW_IMPLEMENTATION"] = "rmw_cyclonedds_cpp"
    parameters = [*options.parameters, *([f"student:={options.student}"] * bool(options.student))]
    rows = []
    for rate in options.rates:
        rows.append(measure(rate * 1e6, options.seconds, options.front_end, parameters))
        print(json.dumps(rows[-1]), flush=True)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=200).print(table)
    if options.json:
        machine = f"{os.cpu_count()} CPUs, {platform.machine()}"
        report = {"date": time.strftime("%Y-%m-%d"), "machine": machine,
                  "load_average": os.getloadavg(), "rows": rows}  # fmt: skip
        write_text_atomic(options.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
