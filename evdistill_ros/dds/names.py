"""Names as ROS 2 writes them, and what becomes of them in DDS.

Rules of rcl and rmw: a topic is resolved against namespace and node name, then remapped; in DDS
it carries the prefix ``rt``, and ``pkg/msg/Type`` is called ``pkg::msg::dds_::Type_``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from evdistill_core.foundation.errors import ConfigError

MAX_NAME_LENGTH = 255
TOPIC_PREFIX = "rt"
REQUEST_PREFIX, REPLY_PREFIX = "rq", "rr"

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TYPE = re.compile(r"([A-Za-z][A-Za-z0-9_]*)/(msg|srv|action)/([A-Za-z][A-Za-z0-9_]*)")
_DDS_TYPE = re.compile(r"([A-Za-z][A-Za-z0-9_]*)::(msg|srv|action)::dds_::([A-Za-z0-9_]+)_")


def check_node_name(name: str) -> str:
    """Return the name, or raise ConfigError: letters, digits, underscores, no leading digit."""
    if not _TOKEN.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise ConfigError(
            f"node name {name!r} is not allowed: letters, digits and underscores, "
            f"not starting with a digit, at most {MAX_NAME_LENGTH}"
        )
    return name


def check_namespace(namespace: str) -> str:
    """Return the namespace with its leading slash, ``/`` for none; raise ConfigError if bad."""
    absolute = "/" + namespace.strip("/")
    if absolute != "/":
        _check_tokens(absolute, "namespace", namespace)
    return absolute


def resolve_topic(
    topic: str, node_name: str, namespace: str = "/", remaps: Mapping[str, str] | None = None
) -> str:
    """Return the fully qualified topic name after remapping.

    Args:
        topic: absolute (``/a/b``), relative (``b``) or private (``~/b``).
        node_name: name of the node, without namespace.
        namespace: namespace of the node; "/" is none.
        remaps: rules ``from -> to``; both sides are resolved like ``topic``.

    Returns:
        The name with its leading slash.

    Raises:
        ConfigError: a name breaks the ROS rules.
    """
    name = _expand(topic, node_name, namespace)
    for source, target in (remaps or {}).items():
        if _expand(source, node_name, namespace) == name:
            return _expand(target, node_name, namespace)
    return name


def parse_remap(rule: str) -> tuple[str, str]:
    """Split ``from:=to``; raise ConfigError when it is not of that form."""
    source, separator, target = rule.partition(":=")
    if not separator or not source or not target:
        raise ConfigError(f"remap rule {rule!r} must read FROM:=TO, e.g. ~/events:=/camera/events")
    return source, target


def dds_topic(topic: str) -> str:
    """Return the DDS name of a fully qualified ROS topic."""
    return TOPIC_PREFIX + topic


def dds_request_topic(service: str) -> str:
    """Return the DDS name of the topic on which a service gets its requests."""
    return f"{REQUEST_PREFIX}{service}Request"


def dds_reply_topic(service: str) -> str:
    """Return the DDS name of the topic on which a service sends its replies."""
    return f"{REPLY_PREFIX}{service}Reply"


def ros_topic(dds_name: str) -> str | None:
    """Return the ROS topic of a DDS topic, ``None`` when it is none (a service, for one)."""
    prefix = TOPIC_PREFIX + "/"
    return dds_name[len(TOPIC_PREFIX) :] if dds_name.startswith(prefix) else None


def dds_type(type_name: str) -> str:
    """Return ``pkg::msg::dds_::Type_`` for ``pkg/msg/Type``.

    Raises:
        ConfigError: the name is not of the form ``pkg/msg/Type``.
    """
    match = _TYPE.fullmatch(type_name)
    if match is None:
        raise ConfigError(
            f"message type {type_name!r} must read package/msg/Type, e.g. sensor_msgs/msg/Image"
        )
    package, kind, name = match.groups()
    return f"{package}::{kind}::dds_::{name}_"


def ros_type(dds_name: str) -> str | None:
    """Return ``pkg/msg/Type`` for a DDS type name, ``None`` when it is not a ROS type."""
    match = _DDS_TYPE.fullmatch(dds_name)
    return "/".join(match.groups()) if match else None


def _expand(topic: str, node_name: str, namespace: str) -> str:
    base = namespace.rstrip("/")
    if topic.startswith("~"):
        rest = topic[1:]
        if rest and not rest.startswith("/"):
            raise ConfigError(f"topic {topic!r}: ~ must be followed by /")
        name = f"{base}/{node_name}{rest}"
    elif topic.startswith("/"):
        name = topic
    else:
        name = f"{base}/{topic}"
    _check_tokens(name, "topic", topic)
    return name


def _check_tokens(absolute: str, kind: str, given: str) -> None:
    tokens = absolute.split("/")[1:]
    bad = [t for t in tokens if not _TOKEN.fullmatch(t) or "__" in t]
    if bad or len(absolute) > MAX_NAME_LENGTH:
        raise ConfigError(
            f"{kind} {given!r} is not allowed: names between slashes are letters, digits and "
            f"single underscores, not starting with a digit, no slash at the end, "
            f"{MAX_NAME_LENGTH} characters in all"
        )
