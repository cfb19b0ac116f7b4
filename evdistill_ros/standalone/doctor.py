"""Looks at everything that keeps a node from working, and says what to change."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import PacketDecoder, is_event_type
from evdistill_core.foundation.errors import EvdistillError, MessageError
from evdistill_core.foundation.extras import install_command
from evdistill_core.messages.event_messages import EVENT_PACKET_TYPES, EventPacket
from evdistill_core.perception.front_end import open_student
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_ros import qos
from evdistill_ros.dds.domain import RANGES, discovery_warnings, domain_id
from evdistill_ros.standalone.finding import Finding

SYSCTL = Path("/proc/sys/net/core")
WANTED_RMEM_BYTES = {"rmem_max": 16 << 20, "rmem_default": 4 << 20}
LOW_RATE_HZ = 20.0
_FAST_DDS = ("rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp")
_DDS_RMW = ("rmw_cyclonedds_cpp", *_FAST_DDS, "rmw_connextdds")


def check_environment(environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Look at RMW, domain and discovery range.

    Args:
        environment: os.environ unless told otherwise.
    """
    env = os.environ if environment is None else environment
    rmw = env.get("RMW_IMPLEMENTATION", "")
    if rmw.startswith("rmw_zenoh"):
        yield Finding(
            "error", "RMW", f"RMW_IMPLEMENTATION is {rmw}: DDS does not see Zenoh graphs",
            "export RMW_IMPLEMENTATION=rmw_cyclonedds_cpp for all nodes, or use the rclpy node",
        )  # fmt: skip
    elif rmw and rmw not in _DDS_RMW:
        yield Finding("warn", "RMW", f"RMW_IMPLEMENTATION is {rmw}, which is not known to us")
    else:
        yield Finding(
            "ok", "RMW", rmw or "not set: the default of the distribution (Jazzy, Humble: Fast DDS)"
        )
    try:
        yield Finding("ok", "domain", f"ROS_DOMAIN_ID {domain_id(env)}")
    except EvdistillError as error:
        yield Finding("error", "domain", str(error), "export ROS_DOMAIN_ID=0")
    reach = env.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or "SUBNET"
    warnings = [w for w in discovery_warnings(env) if "zenoh" not in w]
    for text in warnings:
        yield Finding(
            "warn", "discovery", text,
            f"export ROS_AUTOMATIC_DISCOVERY_RANGE to one of {', '.join(RANGES)} on all machines",
        )  # fmt: skip
    if reach == "OFF":
        yield Finding(
            "error", "discovery", "ROS_AUTOMATIC_DISCOVERY_RANGE is OFF: nobody is seen",
            "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST, or SUBNET for other machines",
        )  # fmt: skip
    elif not warnings:
        peers = env.get("ROS_STATIC_PEERS", "")
        yield Finding("ok", "discovery", f"{reach}{', peers ' + peers if peers else ''}")


def check_buffers(
    folder: Path = SYSCTL, environment: Mapping[str, str] | None = None
) -> Iterator[Finding]:
    """Look at how much the system lets a socket buffer, for each vendor of DDS.

    Cyclone asks for a buffer and gets ``rmem_max`` at most. Fast DDS takes ``rmem_default``.

    Args:
        folder: where the system shows its settings.
        environment: os.environ unless told otherwise.
    """
    env = os.environ if environment is None else environment
    rmw = env.get("RMW_IMPLEMENTATION", "")
    yield _buffer(
        folder / "rmem_max", "receive buffer of Cyclone DDS",
        "bursts of large packets get lost between machines",
    )  # fmt: skip
    if rmw in {"", *_FAST_DDS}:
        yield _buffer(
            folder / "rmem_default", "receive buffer of Fast DDS",
            "masks and overlays of evdistill live above 0.1 MB arrive late, or not at all, at its "
            "subscribers",
            " or subscribe to ~/mask/compressed and ~/overlay/compressed",
        )  # fmt: skip


def _buffer(path: Path, topic: str, loss: str, otherwise: str = "") -> Finding:
    try:
        granted = int(path.read_text())
    except (OSError, ValueError):
        return Finding("warn", topic, f"{path} cannot be read on {platform.system()}")
    text, wanted = f"net.core.{path.name} is {granted} bytes", WANTED_RMEM_BYTES[path.name]
    if granted >= wanted:
        return Finding("ok", topic, text)
    return Finding(
        "warn", topic, f"{text}: {loss}",
        f"sudo sysctl -w net.core.{path.name}={wanted} (and in /etc/sysctl.d to stay){otherwise}",
    )  # fmt: skip


def check_student(parameters: PerceptionParameters) -> Finding:
    """Load the student and name what runs it."""
    try:
        student, runner = open_student(parameters)
    except EvdistillError as error:
        return Finding("error", "student", str(error), "name another file with --student")
    return Finding("ok", "student", f"{student.path.name}: {runner.description}")


def check_topic(topic: str, *, seconds: float, domain: int | None = None) -> Iterator[Finding]:
    """Look at a live event topic: publisher, QoS, encoding, rate, losses.

    Args:
        topic: fully qualified.
        seconds: how long to wait for it, and to listen.
        domain: DDS domain; None: ROS_DOMAIN_ID.
    """
    from evdistill_ros.dds import DdsError, DdsNode  # noqa: PLC0415 - an optional library

    warnings: list[str] = []
    try:
        node = DdsNode("evdistill_doctor", domain=domain, on_warning=warnings.append)
    except DdsError as error:
        yield Finding("error", "DDS", str(error), install_command("dds"))
        return
    with node:
        found = node.wait_for_publisher(topic, seconds)
        if not found:
            others = sorted(
                name
                for name, types in node.graph.topics().items()
                if any(map(is_event_type, types)) and node.graph.publishers(name)
            )
            there = f"topics with events: {', '.join(others)}" if others else "nobody sends events"
            yield Finding(
                "error", topic, f"no publisher within {seconds:g} s; {there}",
                "start the driver, remap ~/events, or compare domain and discovery range",
            )  # fmt: skip
            return
        kinds = sorted({e.type_name for e in found})
        events = [k for k in kinds if is_event_type(k)]
        if not events:
            yield Finding(
                "error", topic, f"carries {', '.join(kinds)}, which are no events",
                "remap ~/events to the event topic of the driver",
            )  # fmt: skip
            return
        offered = found[0].qos
        yield Finding(
            "ok", topic, f"{events[0]}, {len(found)} publisher(s), {offered.reliability}, "
            f"{offered.durability}",
        )  # fmt: skip
        refusal = qos.EVENTS.accepts(offered)
        if refusal:
            yield Finding("error", "QoS", refusal, "set qos_overrides of the subscription")
        else:
            yield Finding("ok", "QoS", "matches our best_effort subscription")
        yield from _listen(node.create_subscription, topic, events[0], seconds)
    for text in warnings:
        yield Finding("warn", "DDS", text)


def _listen(
    subscribe: Callable[..., object], topic: str, type_name: str, seconds: float
) -> Iterator[Finding]:
    packets: list[Packet] = []
    began_s = time.monotonic()
    subscribe(topic, type_name, qos.EVENTS, packets.append)
    time.sleep(seconds)
    span_s = time.monotonic() - began_s
    taken = list(packets)
    if not taken:
        yield Finding(
            "error", "rate", f"no message in {seconds:g} s although there is a publisher",
            "a camera that sees no change may be quiet; else check firewall and multicast",
        )  # fmt: skip
        return
    decoder = PacketDecoder()
    decoded = [d for d in map(decoder.push, taken) if d is not None]
    counters = decoder.counters
    rate_hz, size = len(taken) / span_s, counters.bytes / len(taken)
    yield Finding(
        "ok" if rate_hz >= LOW_RATE_HZ else "warn", "rate",
        f"{rate_hz:.0f} messages/s of {size / 1e3:.1f} kB, "
        f"{counters.events / span_s / 1e6:.3f} million events/s",
        "" if rate_hz >= LOW_RATE_HZ else "windows wait for their message: let the driver send "
        "shorter ones (event_message_time_threshold of metavision_driver)",
    )  # fmt: skip
    yield _encoding(taken[0], decoder, len(decoded))
    if counters.lost_messages:
        yield Finding(
            "warn", "losses", f"{counters.lost_messages} of {len(taken)} messages lost on the way",
            "enlarge net.core.rmem_max, or put driver and node on one machine",
        )  # fmt: skip
    age_ms = (taken[-1].receive_time_ns - decoded[-1].stamp_ns) / 1e6 if decoded else 0.0
    if decoded and not -50 <= age_ms <= 1000:
        yield Finding(
            "warn", "stamps", f"header stamps are {age_ms / 1000:.3f} s old",
            "a bag: set use_sim_time; a live camera: synchronise the clocks (chrony, PTP)",
        )  # fmt: skip


def _encoding(packet: Packet, decoder: PacketDecoder, decoded: int) -> Finding:
    text = packet.type_name
    if packet.type_name in EVENT_PACKET_TYPES:
        try:
            message = EventPacket.parse(packet.data)
            text = f"{message.encoding}, {message.width}x{message.height}"
        except MessageError as error:
            text = str(error)
    if not decoded:
        return Finding(
            "error", "encoding", f"{text}: {decoder.last_error}", "see `evdistill info` on a bag"
        )
    damaged = decoder.counters.damaged_messages
    if damaged:
        return Finding("warn", "encoding", f"{text}: {damaged} messages damaged")
    return Finding("ok", "encoding", text)
