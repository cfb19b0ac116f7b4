"""What became of the events of a recording or a stream: read, used, and left out with a reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

LEFT_OUT = {
    "out_of_frame": "outside the sensor's frame",
    "bad_time": "with impossible times",
    "lost": "lost: they were not read or written fast enough",
    "before_sync": "before the first time word",
    "outside_span": "outside --start and --end",
    "at_jump": "at times that stray far from those around them",
    "outside_roi": "outside the region of interest (roi)",
    "hot_pixel": "at hot pixels",
    "refractory": "too soon after another one of their pixel",
    "background": "without company (background filter)",
    "rate_limit": "above max_events_per_s",
    "late": "too late: more than 10 ms out of order",
    "at_break": "in a window that lost messages cut off",
    "max_rate": "in windows that max_rate_hz skips",
    "dropped": "in windows that were dropped because the network was busy, or at the end",
    "at_end": "in a window that was not complete at the end",
}
"""Why an event is not used: name in JSON -> what people read."""
ASKED_FOR = {
    "outside_span", "outside_roi", "hot_pixel", "refractory", "background", "rate_limit", "max_rate"
}  # fmt: skip
"""Reasons of ``LEFT_OUT`` that the user set himself, as a span, a filter or a limit."""
DAMAGE = {
    "damaged_messages": "messages or packets damaged",
    "lost_messages": "messages missing",
    "unknown_words": "words unknown",
    "not_events": "records that are no events",
    "time_jumps": "jumps of time",
    "time_sorted": "events put in order of time",
}
"""What cannot be counted in events, or costs none: name of the counter -> what people read."""


@dataclass(frozen=True)
class EventAccount:
    """What became of the events; ``read == used + sum(left_out.values())``.

    Attributes:
        read: events in the recording, as far as their bytes could be told to be events.
        used: events that the command used: counted, written, or in a window that was computed.
        left_out: the others by reason; every name of ``LEFT_OUT`` is there.
        damage: counters of ``DAMAGE``; every name is there.
    """

    read: int
    used: int
    left_out: dict[str, int]
    damage: dict[str, int]

    def to_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return asdict(self)

    def lines(self, *, but: Collection[str] = ("outside_span",)) -> list[str]:
        """Return what people should know; nothing where every event was used unharmed.

        Args:
            but: reasons that are not told. What lies outside a span was not asked for, and reading
                stops soon after it.
        """
        lost = {n: count for n, count in self.left_out.items() if count and n not in but}
        read = self.read - self.left_out.get("outside_span", 0)
        told = [
            f"{sum(lost.values()):,} of {read:,} events left out: "
            + ", ".join(f"{count:,} {LEFT_OUT[name]}" for name, count in lost.items())
        ] * bool(lost)
        odd = {name: count for name, count in self.damage.items() if count}
        told += [", ".join(f"{count:,} {DAMAGE[name]}" for name, count in odd.items())] * bool(odd)
        return told


def account_of_stream(
    counters: Mapping[str, int], reader: Mapping[str, int] | None = None
) -> EventAccount:
    """Return what became of the events of a pipeline.

    Args:
        counters: of the pipeline, after its end: names with the prefixes stream, filter, window;
            of a camera that fed it, with the prefix camera.
        reader: of the recording, where it decoded the events itself.
    """
    decoder = reader or {}

    def decoding(name: str) -> int:
        return counters.get(f"stream_{name}", 0) + decoder.get(name, 0)

    # What the process of a camera left out never came into the pipeline.
    lost_before = _of_camera(
        {n.removeprefix("camera_"): c for n, c in counters.items() if n.startswith("camera_")}
    )
    given = counters.get("events_in_windows", 0)
    # With overlapping windows some of these were in another window too.
    dropped = min(given, counters.get("events_in_dropped_windows", 0))
    left_out = dict.fromkeys(LEFT_OUT, 0) | {
        **lost_before,
        "out_of_frame": decoding("out_of_frame") + lost_before["out_of_frame"],
        "before_sync": decoding("discarded_before_sync"),
        # The pipeline watches over time, whoever decodes.
        "at_jump": counters.get("stream_discarded_at_jump", 0),
        "late": counters.get("window_late", 0),
        "at_break": counters.get("window_discarded", 0),
        "max_rate": counters.get("window_used", 0) - given,
        "dropped": dropped,
        "at_end": counters.get("window_pending", 0),
    }
    for name in ("outside_roi", "hot_pixel", "refractory", "background", "rate_limit"):
        left_out[name] = counters.get(f"filter_{name}", 0)
    before = sum(
        left_out[name] for name in ("out_of_frame", "bad_time", "lost", "before_sync", "at_jump")
    )
    damage = {name: decoding(name) for name in DAMAGE}
    damage |= {n: counters.get(f"stream_{n}", 0) for n in ("time_jumps", "time_sorted")}
    return EventAccount(
        counters.get("stream_events", 0) + before, given - dropped, left_out, damage
    )


def account_of_reading(counters: Mapping[str, int], used: int) -> EventAccount:
    """Return what became of the events of a recording that was read to its end.

    Args:
        counters: of the recording, after its end.
        used: events that the command took.
    """
    left_out = dict.fromkeys(LEFT_OUT, 0) | {
        "out_of_frame": counters.get("out_of_frame", 0),
        "before_sync": counters.get("discarded_before_sync", 0),
        "at_jump": counters.get("discarded_at_jump", 0),
        "late": counters.get("late", 0),
        "at_break": counters.get("at_break", 0),
    }
    left_out["outside_span"] = (
        counters.get("events", 0)
        - used
        - sum(left_out[name] for name in ("at_jump", "late", "at_break"))
    )
    read = used + sum(left_out.values())
    return EventAccount(read, used, left_out, {n: counters.get(n, 0) for n in DAMAGE})


def account_of_camera(counters: Mapping[str, int], used: int) -> EventAccount:
    """Return what became of the events of a camera that was recorded.

    Args:
        counters: of the camera, see ``evdistill_core.cameras.camera.Camera``.
        used: events written.
    """
    left_out = dict.fromkeys(LEFT_OUT, 0) | _of_camera(counters)
    damage = dict.fromkeys(DAMAGE, 0) | {"time_jumps": counters.get("time_jumps", 0)}
    return EventAccount(used + sum(left_out.values()), used, left_out, damage)


def _of_camera(counters: Mapping[str, int]) -> dict[str, int]:
    """Return what a camera's process left out."""
    return {
        "out_of_frame": counters.get("out_of_frame", 0),
        "bad_time": counters.get("bad_time", 0),
        "lost": counters.get("lost_events", 0),
    }
