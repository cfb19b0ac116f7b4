"""Latency, loss and CPU per message of the DDS front end, between two processes on this machine.

    python benchmarks/dds.py [--seconds 5] [--rclpy] [--json FILE]

A sender process publishes at a camera's rate; each message carries the CLOCK_MONOTONIC time before
`publish`, the receiver notes it in its callback. CPU is the whole process (all DDS threads), less
what it uses idle. ``--rclpy`` adds, with ROS 2 sourced (RMW_IMPLEMENTATION=rmw_cyclonedds_cpp, the
same Python version), a row with an rclpy raw subscriber in place of ours.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evdistill_core.events.packet import Packet
from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.foundation.latency import percentiles_ms
from evdistill_core.messages.event_messages import EventPacket
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode

CASES = (
    # bytes, messages a second: a DAVIS346 at work, VGA masks, an HD sensor near its limit
    (36_000, 100),
    (307_200, 60),
    (1_000_000, 100),
)
RELIABILITIES = ("best_effort", "reliable")
TOPIC = "/bench/events"
HEADER = struct.Struct("<Iqq")  # CDR header, number, send time
TYPE = EventPacket.TYPE


def profile(reliability: str) -> qos.QosProfile:
    """Return the events profile with this reliability."""
    return qos.QosProfile(
        reliability="reliable" if reliability == "reliable" else "best_effort", depth=1000
    )


def cpu_s() -> float:
    """Return the CPU time of this process, all threads."""
    return time.process_time()


def send(size: int, rate_hz: int, reliability: str, seconds: float) -> dict[str, float]:
    """Publish at the rate; return counts and CPU."""
    count = int(rate_hz * seconds)
    buffer = bytearray(size)
    with DdsNode("bench_sender") as node:
        pub = node.create_publisher(TOPIC, TYPE, profile(reliability))
        if not pub.wait_for_subscriber(30):
            raise SystemExit("no receiver")
        time.sleep(0.5)
        idle = cpu_s()
        time.sleep(1)
        idle = cpu_s() - idle
        begin, used = time.monotonic(), cpu_s()
        for number in range(count):
            time.sleep(max(0.0, begin + number / rate_hz - time.monotonic()))
            HEADER.pack_into(buffer, 0, 0x0100, number, time.monotonic_ns())
            pub.publish(buffer)
        wall = time.monotonic() - begin
        used = cpu_s() - used - idle * wall
        time.sleep(0.5)
        # The receiver ends on a message that is too short to be one of the benchmark.
        for _ in range(5):
            pub.publish(b"\x00\x01\x00\x00" + bytes(4))
            time.sleep(0.05)
    return {"sent": count, "wall_s": wall, "cpu_ms_per_message": used / count * 1e3}


class Receiver:
    """Notes number and latency of every message until the short one."""

    def __init__(self) -> None:
        self.latency_ns: list[int] = []
        self.done = threading.Event()
        self.cpu_begin = self.cpu_end = 0.0

    def take(self, data: bytes | bytearray | memoryview) -> None:
        """Note one message."""
        now_ns = time.monotonic_ns()
        if len(data) < HEADER.size:
            self.done.set()
            return
        _, number, sent_ns = HEADER.unpack_from(data, 0)
        if number == 0:
            self.cpu_begin = cpu_s()
        self.cpu_end = cpu_s()
        self.latency_ns.append(now_ns - sent_ns)

    def report(self) -> dict[str, object]:
        """Return what was measured."""
        count = len(self.latency_ns)
        return {
            "received": count,
            "latency_ms": percentiles_ms(ns / 1e6 for ns in self.latency_ns).to_dict(),
            "cpu_ms_per_message": (self.cpu_end - self.cpu_begin) / max(count, 1) * 1e3,
        }


def receive_dds(reliability: str) -> dict[str, object]:
    """Subscribe with our DDS node."""
    receiver = Receiver()

    def take(packet: Packet) -> None:
        receiver.take(packet.data)

    with DdsNode("bench_receiver") as node:
        node.create_subscription(TOPIC, TYPE, profile(reliability), take)
        receiver.done.wait(120)
    return receiver.report()


def receive_rclpy(reliability: str) -> dict[str, object]:
    """Subscribe with an rclpy node, raw."""
    import rclpy  # noqa: PLC0415 - only where ROS is installed
    from event_camera_msgs.msg import EventPacket as RosPacket  # noqa: PLC0415

    receiver = Receiver()
    rclpy.init()
    node = rclpy.create_node("bench_receiver")
    node.create_subscription(
        RosPacket, TOPIC, receiver.take, profile(reliability).to_rclpy(), raw=True
    )
    while not receiver.done.is_set():
        rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_node()
    rclpy.try_shutdown()
    return receiver.report()


def run_case(arguments: argparse.Namespace, receiver: str, case: tuple[int, int], rel: str) -> dict:
    """Run one row: a receiver process and a sender process."""
    size, rate_hz = case
    common = ["--size", size, "--rate", rate_hz, "--reliability", rel]
    common += ["--seconds", arguments.seconds, "--range", arguments.range]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--role", role, *map(str, common)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for role in (receiver, "send")
    ]
    received, sent = (json.loads(p.communicate(timeout=180)[0].splitlines()[-1]) for p in processes)
    return {
        "receiver": receiver,
        "bytes": size,
        "rate_hz": rate_hz,
        "reliability": rel,
        "sent": sent["sent"],
        "received": received["received"],
        "latency_ms": received["latency_ms"],
        "cpu_ms_per_message": {
            "sender": round(sent["cpu_ms_per_message"], 3),
            "receiver": round(received["cpu_ms_per_message"], 3),
        },
    }


def show(rows: list[dict]) -> None:
    """Print the rows as a table."""
    table = Table(title=f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs")
    heads = ("receiver", "bytes", "Hz", "QoS", "lost", "p50 ms", "p95", "p99", "CPU ms tx", "rx")
    for head in heads:
        table.add_column(head, justify="right")
    for row in rows:
        latency, cpu = row["latency_ms"], row["cpu_ms_per_message"]
        table.add_row(
            row["receiver"],
            f"{row['bytes']:,}",
            str(row["rate_hz"]),
            row["reliability"],
            str(row["sent"] - row["received"]),
            *(f"{latency[k]:.2f}" for k in ("p50", "p95", "p99")),
            f"{cpu['sender']:.2f}",
            f"{cpu['receiver']:.2f}",
        )
    Console(width=max(Console().width, 110)).print(table)


def main() -> None:
    """Run the rows, or be one of the two processes of a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rclpy", action="store_true", help="add rows with an rclpy receiver")
    parser.add_argument("--range", default="LOCALHOST", help="ROS_AUTOMATIC_DISCOVERY_RANGE")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--role", choices=["send", "dds", "rclpy"], help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--reliability", choices=RELIABILITIES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = arguments.range
    os.environ.setdefault("ROS_DOMAIN_ID", "99")
    rel = arguments.reliability
    if arguments.role == "send":
        print(json.dumps(send(arguments.size, arguments.rate, rel, arguments.seconds)))
    elif arguments.role:
        receive = {"dds": receive_dds, "rclpy": receive_rclpy}[arguments.role]
        print(json.dumps(receive(rel)))
    else:
        receivers = ["dds", "rclpy"] if arguments.rclpy else ["dds"]
        rows = [
            run_case(arguments, receiver, case, reliability)
            for receiver in receivers
            for case in CASES
            for reliability in RELIABILITIES
        ]
        show(rows)
        if arguments.json:
            report = {
                "date": datetime.date.today().isoformat(),
                "python": platform.python_version(),
                "machine": platform.machine(),
                "cpus": os.cpu_count(),
                "seconds": arguments.seconds,
                "discovery_range": arguments.range,
                "load_average": os.getloadavg(),
                "rows": rows,
            }
            write_text_atomic(arguments.json, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
