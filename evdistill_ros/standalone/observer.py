"""Watches a running segmentation node from another process, and measures the whole way."""

from __future__ import annotations

import json
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evdistill_core.drawing.colours import Image as Picture
from evdistill_core.drawing.colours import fit, video_size
from evdistill_core.events.packet import Packet
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.latency import percentiles_ms
from evdistill_core.messages.standard import DiagnosticArray, Image
from evdistill_core.messages.vision import Detection2DArray, LabelInfo
from evdistill_core.perception.messages import LABEL_INFO
from evdistill_core.perception.pipeline import STAGES
from evdistill_core.perception.result_files import ResultFiles
from evdistill_core.perception.tasks import SEGMENTATION
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode, Subscription
from evdistill_ros.standalone.console import UNKNOWN, Row

WATCHED = ("mask", "mask_color", "overlay", "detections")
_DEEP = qos.QosProfile(depth=1000)

Line = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Received:
    """One message as it came in.

    Attributes:
        name: topic below the node's name.
        packet: topic, type and bytes.
        stamp_ns: of its header.
    """

    name: str
    packet: Packet
    stamp_ns: int


class Observer:
    """Subscribes to everything that a segmentation node publishes and keeps it.

    Nothing is encoded or written while it listens: on two cores that would slow down what is
    being measured. Memory grows by about 0.7 MB a window of a DAVIS346.

    Args:
        node: in the graph.

    Attributes:
        masks: stamp of each mask -> monotonic time of its arrival.
    """

    def __init__(self, node: DdsNode) -> None:
        self.masks: dict[int, int] = {}
        self._received: list[Received] = []
        self._values: dict[str, str] = {}
        self._events_per_s = 0.0
        self._recent: deque[int] = deque(maxlen=64)
        self._last_ns = time.monotonic_ns()
        self._lock = threading.Lock()
        self._subscriptions: list[Subscription] = []
        node_name, types = SEGMENTATION.name, SEGMENTATION.topics
        topics = {f"/{node_name}/{name}": (types[name], _DEEP) for name in WATCHED}
        topics[f"/{node_name}/{LABEL_INFO}"] = (LabelInfo.TYPE, qos.LATCHED)
        topics["/diagnostics"] = (DiagnosticArray.TYPE, _DEEP)
        for topic, (type_name, profile) in topics.items():
            self._subscriptions.append(
                node.create_subscription(topic, type_name, profile, self._take)
            )

    @property
    def is_ready(self) -> bool:
        """Whether the node has announced its classes and all its topics are connected."""
        with self._lock:
            announced = any(r.name == LABEL_INFO for r in self._received)
        return announced and all(s.matched_count for s in self._subscriptions)

    def silent_s(self) -> float:
        """Return the seconds since the last mask."""
        return (time.monotonic_ns() - self._last_ns) / 1e9

    def values(self) -> dict[str, str]:
        """Return the latest diagnostics by key."""
        with self._lock:
            return dict(self._values)

    def rows(self) -> list[Row]:
        """Return the live table: what the node reports of itself, and what arrives here."""
        with self._lock:
            values, recent, masks = dict(self._values), list(self._recent), len(self.masks)
        span_s = (recent[-1] - recent[0]) / 1e9 if len(recent) > 1 else 0.0
        known = masks > 0
        return [
            ("events/s", f"{self._events_per_s:,.0f}" if self._events_per_s else UNKNOWN),
            ("windows/s", f"{(len(recent) - 1) / span_s:.1f}" if span_s else UNKNOWN),
            ("windows", str(masks) if known else UNKNOWN),
            ("dropped", values.get("windows_dropped", "0") if known else UNKNOWN),
            ("p50 ms", values.get("total_ms_p50", UNKNOWN) if known else UNKNOWN),
            ("p95 ms", values.get("total_ms_p95", UNKNOWN) if known else UNKNOWN),
        ]

    def write(self, files: ResultFiles, *, cut_off: Container[int] = ()) -> None:
        """Write what was received: every message to the bag, overlays to the video.

        Args:
            files: where.
            cut_off: stamps of windows that are no pictures, since the recording ended within them.
        """
        with self._lock:
            received = list(self._received)
        found = {
            r.stamp_ns: len(Detection2DArray.parse(r.packet.data).detections)
            for r in received
            if r.name == "detections"
        }
        overlays = [r for r in received if r.name == "overlay" and r.stamp_ns not in cut_off]
        overlays.sort(key=lambda r: r.stamp_ns)
        for r in received:
            packet = r.packet
            files.write(packet.topic, packet.type_name, packet.data, packet.receive_time_ns)
        for i, r in enumerate(overlays):
            seconds = (r.stamp_ns - overlays[0].stamp_ns) / 1e9
            caption = f"{i}: {seconds:.2f} s, {found.get(r.stamp_ns, 0)} detections"
            data = r.packet.data
            files.add_picture(
                partial(_picture, data), r.stamp_ns, caption, size_bytes=len(data), wait=True
            )

    def _take(self, packet: Packet) -> None:
        now_ns = time.monotonic_ns()
        name = packet.topic.rsplit("/", 1)[-1]
        # The header stands first in all of these messages: seconds, nanoseconds.
        seconds, nanoseconds = np.frombuffer(packet.data, "<u4", 2, 4)
        stamp_ns = int(seconds) * 1_000_000_000 + int(nanoseconds)
        values: dict[str, str] = {}
        if name == "diagnostics":
            for status in DiagnosticArray.parse(packet.data).status:
                values |= {row.key: row.value for row in status.values}
        with self._lock:
            self._received.append(Received(name, packet, stamp_ns))
            self._values |= values
            # When the camera has stopped, its last rate is still worth reading.
            self._events_per_s = float(values.get("events_per_s", 0)) or self._events_per_s
            if name == "mask":
                self.masks[stamp_ns] = now_ns
                self._recent.append(now_ns)
                self._last_ns = now_ns


def _picture(overlay: bytes | bytearray | memoryview) -> Picture:
    picture = np.asarray(Image.parse(overlay).to_array(), np.uint8)
    return fit(picture, video_size(*picture.shape[:2]))


def end_to_end_ms(
    masks: Mapping[int, int], sent: Sequence[Line], results: Sequence[Line]
) -> list[float]:
    """Return for each mask how long after its window's last event was sent it arrived.

    Args:
        masks: stamp -> monotonic time of arrival.
        sent: send log of ``evdistill play``: ``last_event_us`` and ``sent_monotonic_ns``.
        results: result log of ``evdistill live``: ``stamp_ns`` and ``last_event_us``.

    Returns:
        Milliseconds, in the order of ``results``. Windows without events, and those whose mask did
        not arrive, are left out.
    """
    packets = [line for line in sent if line["last_event_us"] is not None]
    ends_us = [line["last_event_us"] for line in packets]
    latencies = []
    for result in results:
        arrived_ns, last_us = masks.get(result["stamp_ns"]), result["last_event_us"]
        if arrived_ns is None or last_us is None:
            continue
        at = bisect_left(ends_us, last_us)
        if at < len(packets):
            latencies.append((arrived_ns - packets[at]["sent_monotonic_ns"]) / 1e6)
    return latencies


def cut_off_windows(sent: Sequence[Line], results: Sequence[Line]) -> set[int]:
    """Return the stamps of windows that end after the last event that was sent.

    Args:
        sent: send log of ``evdistill play``.
        results: result log of ``evdistill live``.
    """
    last_us = max((s["last_event_us"] for s in sent if s["last_event_us"] is not None), default=0)
    return {r["stamp_ns"] for r in results if r["t_end_us"] > last_us + 1}


def build_report(
    observer: Observer, sent: Sequence[Line], results: Sequence[Line]
) -> dict[str, object]:
    """Return the figures of a run: what the node counted, and what was measured from outside."""
    values = observer.values()

    def count(name: str) -> int:
        return int(values.get(name, 0))

    done = count("windows_done")
    latency = percentiles_ms(end_to_end_ms(observer.masks, sent, results))
    return {
        "events": count("events"),
        "events_sent": sum(line["events"] for line in sent),
        "windows": done,
        "windows_received": len(observer.masks),
        "windows_dropped": count("windows_dropped"),
        "seq_gaps": count("stream_seq_gaps"),
        "latency_ms": latency.to_dict(),
        "latency_windows": latency.count,
        "stages_ms": {
            stage: {p: float(values.get(f"{stage}_ms_{p}", 0)) for p in ("p50", "p95", "p99")}
            for stage in STAGES
        },
        "counters": {k: int(v) for k, v in sorted(values.items()) if v.isdecimal()},
    }


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSON-lines file.

    Raises:
        ConfigError: it is missing or damaged.
    """
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the log {path}: {error}") from error
