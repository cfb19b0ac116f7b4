"""The QoS that the publishers of a recorded topic offered, as text that every rosbag2 reads.

Bags note it as YAML in two forms: with numbers (metadata up to version 8, Humble), and with words
(version 9, Jazzy). Newer releases read both where the bag's metadata is of the older version, which
is what we write; so numbers are what a copy gets.
"""

from __future__ import annotations

from typing import Any

#: Words by their number, as in ``rmw/types.h``.
POLICIES = {
    "history": ("system_default", "keep_last", "keep_all", "unknown"),
    "reliability": ("system_default", "reliable", "best_effort", "unknown", "best_available"),
    "durability": ("system_default", "transient_local", "volatile", "unknown", "best_available"),
    "liveliness": (
        "system_default",
        "automatic",
        "manual_by_node",
        "manual_by_topic",
        "unknown",
        "best_available",
    ),
}
DURATIONS = ("deadline", "lifespan", "liveliness_lease_duration")
#: In the order of rosbag2.
KEYS = (
    "history",
    "depth",
    "reliability",
    "durability",
    "deadline",
    "lifespan",
    "liveliness",
    "liveliness_lease_duration",
    "avoid_ros_namespace_conventions",
)
TRANSIENT_LOCAL = POLICIES["durability"].index("transient_local")
LIMIT_BYTES = 1 << 16
MAX_PROFILES = 64


def with_numbers(text: str) -> str:
    """Return offered profiles in the form with numbers.

    Args:
        text: as a bag has it, in either form.

    Returns:
        YAML, a list with one profile for each publisher; ``""`` for none.

    Raises:
        ValueError: the text holds no such profiles.
    """
    import yaml  # noqa: PLC0415

    profiles = _profiles(text)
    return str(yaml.safe_dump(profiles, sort_keys=False)) if profiles else ""


def is_latched(text: str) -> bool:
    """Tell whether a subscriber that joins late still gets the last messages.

    Args:
        text: as ``with_numbers`` returns it.
    """
    return any(profile["durability"] == TRANSIENT_LOCAL for profile in _profiles(text))


def _profiles(text: str) -> list[dict[str, Any]]:
    import yaml  # noqa: PLC0415

    if len(text) > LIMIT_BYTES:
        raise ValueError(f"{len(text)} bytes")
    # Without aliases, a short text cannot stand for a long one.
    if "&" in text or "*" in text:
        raise ValueError("aliases")
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"no YAML: {error}") from error
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > MAX_PROFILES:
        raise ValueError(f"no list of up to {MAX_PROFILES} profiles")
    return [_profile(given) for given in found]


def _profile(given: object) -> dict[str, Any]:
    if not isinstance(given, dict) or not set(KEYS) <= set(given):
        raise ValueError(f"a profile has {', '.join(KEYS)}")
    return {key: _value(key, given[key]) for key in KEYS}


def _value(key: str, value: object) -> object:
    if key in DURATIONS:
        if not isinstance(value, dict) or not {"sec", "nsec"} <= set(value):
            raise ValueError(f"{key} has sec and nsec")
        return {part: _number(key, value[part]) for part in ("sec", "nsec")}
    if key == "avoid_ros_namespace_conventions":
        if not isinstance(value, bool):
            raise ValueError(f"{key} is true or false")
        return value
    words = POLICIES.get(key)
    if words is not None and isinstance(value, str):
        if value not in words:
            raise ValueError(f"{key} is one of {', '.join(words)}")
        return words.index(value)
    number = _number(key, value)
    if words is not None and number >= len(words):
        raise ValueError(f"{key} is below {len(words)}")
    return number


def _number(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise ValueError(f"{key} holds a number of 64 bits")
    return value
