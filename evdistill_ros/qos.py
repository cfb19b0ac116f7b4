"""Quality of service of every topic that we read or write, in one place.

A profile is plain data: ``evdistill_ros.dds`` turns it into DDS policies, `QosProfile.to_rclpy`
into an rclpy ``QoSProfile``. rclpy is imported only there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from evdistill_core.foundation.errors import ConfigError

Reliability = Literal["reliable", "best_effort"]
Durability = Literal["volatile", "transient_local"]

MAX_DEPTH = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class QosProfile:
    """What a publisher offers, or what a subscriber asks for.

    Attributes:
        reliability: ``reliable`` resends what was lost; ``best_effort`` does not. A reliable
            subscriber receives nothing from a best-effort publisher.
        durability: ``transient_local`` keeps the last ``depth`` messages for late joiners. A
            transient-local subscriber receives nothing from a volatile publisher.
        depth: messages kept (keep last), 1 .. 2**31 - 1; 0 keeps all. A reliable publisher that
            keeps the last ones never waits: what a slow subscriber has not fetched in time is
            overwritten. One that keeps all waits for it.
        lifespan_ms: age after which a message is worthless; ``None`` is never.
    """

    reliability: Reliability = "reliable"
    durability: Durability = "volatile"
    depth: int = 10
    lifespan_ms: int | None = None

    def __post_init__(self) -> None:
        """Refuse what neither DDS nor rclpy would take."""
        if self.reliability not in {"reliable", "best_effort"}:
            raise ConfigError(
                f"reliability must be reliable or best_effort, got {self.reliability!r}"
            )
        if self.durability not in {"volatile", "transient_local"}:
            raise ConfigError(
                f"durability must be volatile or transient_local, got {self.durability!r}"
            )
        if not 0 <= self.depth <= MAX_DEPTH:
            raise ConfigError(f"depth must be 0 (all) .. {MAX_DEPTH}, got {self.depth}")
        if self.lifespan_ms is not None and self.lifespan_ms <= 0:
            raise ConfigError(f"lifespan_ms must be above 0 or None, got {self.lifespan_ms}")

    def accepts(self, offered: QosProfile) -> str:
        """Tell why this request does not match an offer.

        Args:
            offered: the profile of a publisher.

        Returns:
            "" when they match, else the policy and the cure, in one sentence.
        """
        if self.reliability == "reliable" and offered.reliability == "best_effort":
            return (
                "the publisher is best_effort and this subscriber asks for reliable: "
                "subscribe with best_effort"
            )
        if self.durability == "transient_local" and offered.durability == "volatile":
            return (
                "the publisher is volatile and this subscriber asks for transient_local: "
                "subscribe with volatile"
            )
        return ""

    def to_rclpy(self) -> Any:
        """Return the same as an ``rclpy.qos.QoSProfile``."""
        from rclpy.duration import Duration  # noqa: PLC0415 - only where ROS is installed
        from rclpy.qos import (  # noqa: PLC0415
            DurabilityPolicy,
            HistoryPolicy,
            QoSProfile,
            ReliabilityPolicy,
        )

        options: dict[str, Any] = {}
        if self.lifespan_ms is not None:
            options["lifespan"] = Duration(nanoseconds=self.lifespan_ms * 1_000_000)
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST if self.depth else HistoryPolicy.KEEP_ALL,
            depth=self.depth,
            reliability=ReliabilityPolicy[self.reliability.upper()],
            durability=DurabilityPolicy[self.durability.upper()],
            **options,
        )


class QosOverrides:
    """What ``qos_overrides`` parameters change, as rclpy understands them.

    Args:
        values: policy by its name below ``qos_overrides``, such as
            ``/event_camera/events.subscription.depth``.

    Raises:
        ConfigError: a name or a value is none that we can set.
    """

    ENTITIES = ("publisher", "subscription")
    POLICIES = ("depth", "durability", "history", "reliability")

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        self._found: dict[tuple[str, str], dict[str, object]] = {}
        for name, value in (values or {}).items():
            topic, _, rest = name.rpartition(".")
            topic, _, entity = topic.rpartition(".")
            if entity not in self.ENTITIES or rest not in self.POLICIES or topic[:1] != "/":
                kinds, policies = "|".join(self.ENTITIES), "|".join(self.POLICIES)
                raise ConfigError(
                    f"qos_overrides.{name} is none that can be set: expected "
                    f"qos_overrides./TOPIC.({kinds}).({policies}), with the topic's full name"
                )
            self._found.setdefault((topic, entity), {})[rest] = value
        for key in self._found:
            self.apply(QosProfile(), *key)

    def apply(self, profile: QosProfile, topic: str, entity: str) -> QosProfile:
        """Return the profile with what was given for one topic.

        Args:
            profile: of the publisher or subscription.
            topic: its full name, after remaps.
            entity: ``publisher`` or ``subscription``.
        """
        given = dict(self._found.get((topic, entity), {}))
        history = given.pop("history", None)
        if history not in {None, "keep_last", "keep_all"}:
            raise ConfigError(
                f"qos_overrides.{topic}.{entity}.history must be keep_last or keep_all, "
                f"got {history!r}"
            )
        depth = given.get("depth", profile.depth)
        if not isinstance(depth, int) or isinstance(depth, bool):
            raise ConfigError(
                f"qos_overrides.{topic}.{entity}.depth must be a whole number, got {depth!r}"
            )
        if history == "keep_all":
            given["depth"] = 0
        return replace(profile, **given)  # type: ignore[arg-type]  # __post_init__ checks them


DEFAULT = QosProfile()
EVENTS = QosProfile(reliability="best_effort", depth=1000)
"""What event drivers offer. At 250 to 1000 messages a second a smaller depth loses some."""
SENSOR_DATA = QosProfile(reliability="best_effort", depth=5)
RESULTS = QosProfile(depth=5)
"""Masks, pictures, detections: readers of either reliability match."""
LATCHED = QosProfile(durability="transient_local", depth=1)
"""label_info: whoever joins late still learns the classes."""
DIAGNOSTICS = QosProfile(depth=10)
CLOCK = QosProfile(reliability="best_effort", depth=1)
PARAMETERS = QosProfile(depth=1000)
"""Services of parameters, as rmw has them."""
ROSOUT = QosProfile(durability="transient_local", depth=1000, lifespan_ms=10_000)
GRAPH = QosProfile(durability="transient_local", depth=1)
