"""The state of a node and its pipeline as a diagnostic_msgs/DiagnosticArray, with its limits.

Every status is named for the node with its namespace (``/left/segmentation: events``) and has the
camera as its hardware_id, so that several cameras in one graph stay apart.

Status ``state``: whether the node works, and why not; see ``state_status``.
Status ``events``: WARN when no packet came for ``stall_warn_ms``, or on a gap, damage or a break
in the last period; ERROR when none came for ``stall_error_ms``, or packets were lost because the
queue was full. Status ``results``: WARN when a window was dropped in the last period. Where the
node reads a camera itself there is also ``camera``: WARN when it lost or damaged anything, or went
away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evdistill_core.messages.standard import (
    DiagnosticArray,
    DiagnosticStatus,
    Header,
    KeyValue,
    Time,
)
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.perception.pipeline import STAGES, Snapshot

# Counters that stand with the results, not with the stream of events.
_RESULTS = ("windows", "state_")
# Counters of a camera that tell of no trouble.
_USUAL = frozenset({"events", "frames", "triggers", "triggers_not_published"})

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True)
class Rates:
    """What happened between two snapshots.

    Attributes:
        events_per_s: decoded events a second.
        messages_per_s: packets received a second.
        windows_per_s: results a second.
        changes: counter name to its rise.
    """

    events_per_s: float
    messages_per_s: float
    windows_per_s: float
    changes: dict[str, int]


def rates(before: Snapshot, after: Snapshot) -> Rates:
    """Return the rates between two snapshots of one pipeline."""
    span_s = max((after.time_ns - before.time_ns) / 1e9, 1e-9)
    changes = {name: count - before.counters.get(name, 0) for name, count in after.counters.items()}
    return Rates(
        changes.get("events", 0) / span_s,
        changes.get("messages_received", 0) / span_s,
        changes.get("windows_done", 0) / span_s,
        changes,
    )


OFFLINE = "offline"
"""Value beside the results that says "true" where nothing was live: latencies mean nothing."""


def diagnostics(  # noqa: PLR0913 - two snapshots and what to call things
    before: Snapshot,
    after: Snapshot,
    parameters: PerceptionParameters,
    *,
    stamp_ns: int,
    node: str,
    camera: str,
    student: str,
    is_on: bool = True,
    extra: Mapping[str, str] | None = None,
    beside: Sequence[DiagnosticStatus] = (),
) -> DiagnosticArray:
    """Return the diagnostics of the period between two snapshots.

    Args:
        before: at the last message.
        after: now.
        parameters: for the limits.
        stamp_ns: host time of the message.
        node: fully qualified name of the node, in front of each status.
        camera: hardware_id of each status: the topic that the events come from, or the camera.
        student: description of student and runtime.
        is_on: somebody wants the events; if not, their absence is no trouble.
        extra: more values for the results.
        beside: more states.
    """
    period = rates(before, after)
    level, message = OK, "switched off"
    if is_on:
        level, message = _events_level(after, period, parameters)
    stream = DiagnosticStatus(level, f"{node}: events", message, camera, _stream(after, period))
    dropped = period.changes.get("windows_dropped", 0)
    results = DiagnosticStatus(
        WARN if dropped else OK,
        f"{node}: results",
        f"{dropped} windows dropped: the network is slower than the windows come"
        if dropped
        else "every window computed" + (f"; {after.input_note}" if after.input_note else ""),
        camera,
        _results(after, period, {"student": student, **(extra or {})}),
    )
    return DiagnosticArray(Header(Time.from_ns(stamp_ns)), [stream, results, *beside])


def state_status(*, node: str, camera: str, level: int, message: str) -> DiagnosticStatus:
    """Return what a node says of itself, also while it has no pipeline.

    Args:
        node: fully qualified name of the node.
        camera: hardware_id, as of the other states.
        level: OK while it works, WARN while nobody wants it to, ERROR when it cannot.
        message: state of its life cycle, and the reason.
    """
    return DiagnosticStatus(level, f"{node}: state", message, camera)


def camera_status(
    before: Mapping[str, int], after: Mapping[str, int], *, node: str, camera: str
) -> DiagnosticStatus:
    """Return the state of a camera that the node reads itself, from its counters.

    Args:
        before: counters at the last message.
        after: counters now.
        node: fully qualified name of the node, in front of the status.
        camera: name and serial number.
    """
    rises = {name: count - before.get(name, 0) for name, count in sorted(after.items())}
    trouble = [f"{n} {rise}" for n, rise in rises.items() if rise > 0 and n not in _USUAL]
    values = [KeyValue(name, str(count)) for name, count in sorted(after.items())]
    said = ", ".join(trouble) or "nothing lost"
    return DiagnosticStatus(WARN if trouble else OK, f"{node}: camera", said, camera, values)


def _events_level(
    after: Snapshot, period: Rates, parameters: PerceptionParameters
) -> tuple[int, str]:
    if not after.last_message_ns:
        return WARN, "no packet yet"
    silent_ms = (after.time_ns - after.last_message_ns) / 1e6
    if silent_ms >= parameters.stall_error_ms:
        return ERROR, f"no packet for {silent_ms / 1000:.1f} s"
    lost = period.changes.get("messages_lost_queue", 0)
    if lost:
        return ERROR, f"{lost} packets lost: they come faster than they are decoded"
    if silent_ms >= parameters.stall_warn_ms:
        return WARN, f"no packet for {silent_ms / 1000:.1f} s"
    trouble = {
        name: rise
        for name, rise in period.changes.items()
        if rise > 0
        and (name.startswith("breaks_") or name in {"messages_damaged", "stream_lost_messages"})
    }
    if trouble:
        return WARN, ", ".join(f"{name} {rise}" for name, rise in sorted(trouble.items()))
    return OK, f"{period.events_per_s / 1e6:.3f} million events/s"


def _stream(after: Snapshot, period: Rates) -> list[KeyValue]:
    rows = {
        "sensor": f"{after.width}x{after.height}",
        "events_per_s": f"{period.events_per_s:.0f}",
        "messages_per_s": f"{period.messages_per_s:.1f}",
        "queue_packets": str(after.queue_packets),
        "queue_bytes": str(after.queue_bytes),
    }
    rows |= {n: str(v) for n, v in sorted(after.counters.items()) if not n.startswith(_RESULTS)}
    return [KeyValue(key, value) for key, value in rows.items()]


def _results(after: Snapshot, period: Rates, extra: Mapping[str, str]) -> list[KeyValue]:
    rows = {"windows_per_s": f"{period.windows_per_s:.1f}"}
    rows |= {n: str(v) for n, v in sorted(after.counters.items()) if n.startswith(_RESULTS)}
    rows |= {f"input_{name}": str(v) for name, v in after.input.items() if v is not None}
    for stage in STAGES:
        for name, value_ms in after.latency_ms[stage].to_dict().items():
            rows[f"{stage}_ms_{name}"] = f"{value_ms:.2f}"
    rows |= extra
    return [KeyValue(key, value) for key, value in rows.items()]
