"""The DDS domain, configured as rmw_cyclonedds configures it from the environment of ROS.

ROS_DOMAIN_ID chooses the domain; ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS and the deprecated
ROS_LOCALHOST_ONLY say who is looked for; CYCLONEDDS_URI comes after them and so overrides. Two
processes with other settings do not see each other, which is why we mirror them exactly.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

from evdistill_core.foundation.errors import ConfigError
from evdistill_ros.dds.library import PRECONDITION_NOT_MET, check, library

MAX_DOMAIN_ID = 232
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")

_log = logging.getLogger("evdistill.dds")

# Ours, before everything else and so overridden by everything else.
# Cyclone asks the system for 1 MB by default, less than a burst of event packets; the system may
# grant less than we ask.
# One fragment fills a datagram of the default size (14,720 bytes), where Cyclone packs ten: a
# receiver has a tenth of the work. Heartbeats tell a reliable reader sooner what it has missed. A
# Fast DDS reader with the system's default buffer then gets a mask of 300 kB whole, 160 of 160
# where 9 came (docs/how-to/dds.md).
_OURS = (
    "<CycloneDDS><Domain><General><FragmentSize>14000B</FragmentSize></General><Internal>"
    '<SocketReceiveBufferSize min="default" max="16MB"/>'
    '<HeartbeatInterval min="2ms" minsched="4ms" max="1s">10ms</HeartbeatInterval>'
    "</Internal></Domain></CycloneDDS>"
)


def domain_id(environment: Mapping[str, str] | None = None) -> int:
    """Return ROS_DOMAIN_ID, 0 when it is not set.

    Raises:
        ConfigError: it is no number in 0 .. 232.
    """
    text = (os.environ if environment is None else environment).get("ROS_DOMAIN_ID", "") or "0"
    if not text.isdecimal() or int(text) > MAX_DOMAIN_ID:
        raise ConfigError(f"ROS_DOMAIN_ID must be a number in 0 .. {MAX_DOMAIN_ID}, got {text!r}")
    return int(text)


def discovery_warnings(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return what in the environment keeps a ROS graph and us apart, in sentences."""
    env = os.environ if environment is None else environment
    warnings = []
    if env.get("RMW_IMPLEMENTATION", "").startswith("rmw_zenoh"):
        warnings.append(
            "RMW_IMPLEMENTATION is rmw_zenoh_cpp: DDS does not see Zenoh graphs. Start the other "
            "nodes with rmw_cyclonedds_cpp (or rmw_fastrtps_cpp), or use the rclpy node instead"
        )
    wanted = env.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    if wanted and wanted not in RANGES:
        warnings.append(
            f"ROS_AUTOMATIC_DISCOVERY_RANGE is {wanted!r}, not one of {', '.join(RANGES)}: "
            "LOCALHOST is used, as ROS does"
        )
    if _localhost_only(env):
        warnings.append(
            "ROS_LOCALHOST_ONLY is deprecated but honoured: only this machine is seen. "
            "Use ROS_AUTOMATIC_DISCOVERY_RANGE and ROS_STATIC_PEERS"
        )
    elif _peers(env) and wanted in {"OFF", "SYSTEM_DEFAULT"}:
        warnings.append(f"ROS_STATIC_PEERS is ignored with ROS_AUTOMATIC_DISCOVERY_RANGE={wanted}")
    return warnings


def domain_xml(environment: Mapping[str, str] | None = None) -> str:
    """Return Cyclone's configuration for this environment.

    Source: ``check_create_domain`` of rmw_cyclonedds (Jazzy); the settings are its, those in
    front and the loopback interface are ours.
    """
    env = os.environ if environment is None else environment
    reach = "LOCALHOST" if _localhost_only(env) else _range(env)
    peers = [] if _localhost_only(env) or reach in {"OFF", "SYSTEM_DEFAULT"} else _peers(env)
    fragments = [_OURS]
    if reach != "SYSTEM_DEFAULT":
        fragments.append(_discovery_xml(reach, peers))
    if env.get("CYCLONEDDS_URI"):
        fragments.append(env["CYCLONEDDS_URI"])
    return ",".join(fragments)


def _discovery_xml(reach: str, peers: list[str]) -> str:
    general = ""
    if reach in {"LOCALHOST", "OFF"}:
        general = _loopback_xml(peers) if reach == "LOCALHOST" else ""
        general = f"<General>{general}<AllowMulticast>false</AllowMulticast></General>"
    if reach == "OFF":
        # A tag that nobody else has keeps everybody else away.
        inner = (
            f"<ParticipantIndex>none</ParticipantIndex><Tag>ros_discovery_off_{os.getpid()}</Tag>"
        )
    else:
        inner = (
            "<ParticipantIndex>auto</ParticipantIndex>"
            "<MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>"
        )
    addresses = (["localhost"] if reach == "LOCALHOST" else []) + peers
    if addresses:
        listed = "".join(f"<Peer address={quoteattr(a)}/>" for a in addresses)
        inner += f"<Peers>{listed}</Peers>"
    return f"<CycloneDDS><Domain>{general}<Discovery>{inner}</Discovery></Domain></CycloneDDS>"


def _loopback_xml(peers: list[str]) -> str:
    """Return the interfaces of a graph on this machine.

    rmw_cyclonedds of Jazzy (Cyclone 0.10) announces itself to 127.0.0.1 alone, and Cyclone 11
    ignores what arrives on an interface that it does not use: loopback must be one of ours.
    """
    loopback = '<NetworkInterface address="127.0.0.1"/>'
    others = '<NetworkInterface autodetermine="true"/>' if peers else ""
    return f"<Interfaces>{others}{loopback}</Interfaces>"


def _localhost_only(env: Mapping[str, str]) -> bool:
    return env.get("ROS_LOCALHOST_ONLY", "") == "1"


def _range(env: Mapping[str, str]) -> str:
    wanted = env.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or "SUBNET"
    return wanted if wanted in RANGES else "LOCALHOST"


def _peers(env: Mapping[str, str]) -> list[str]:
    return [p.strip() for p in env.get("ROS_STATIC_PEERS", "").split(";") if p.strip()]


@dataclass
class Domain:
    """A domain that this process has joined; shared by its nodes.

    Attributes:
        number: the domain id.
        xml: the configuration it was created with.
        handle: DDS handle, 0 when another library of this process created the domain.
        nodes: nodes that use it.
        views: addresses of messages that were handed out without a copy and are still referenced;
            they return to a pool of the domain, so it is kept while there are any. A set, because
            adding and discarding need no lock and may happen in a destructor.
    """

    number: int
    xml: str
    handle: int = 0
    nodes: int = 0
    views: set[int] = field(default_factory=set)


_domains: dict[int, Domain] = {}
_domains_lock = threading.Lock()


def join_domain(number: int | None = None) -> Domain:
    """Return the domain, created on first use; pair each call with `leave_domain`.

    Args:
        number: domain id; ``None`` takes ROS_DOMAIN_ID.

    Raises:
        ConfigError: the number is out of range, or CYCLONEDDS_URI cannot be read.
        DdsError: DDS refused.
    """
    wanted = domain_id() if number is None else number
    if not 0 <= wanted <= MAX_DOMAIN_ID:
        raise ConfigError(f"domain must be 0 .. {MAX_DOMAIN_ID}, got {wanted}")
    with _domains_lock:
        _close_unused()
        domain = _domains.get(wanted)
        if domain is None:
            domain = Domain(wanted, domain_xml())
            domain.handle = _create(domain)
            _domains[wanted] = domain
        domain.nodes += 1
        return domain


def leave_domain(domain: Domain) -> None:
    """Give a domain back; the last node to leave closes it, unless messages are still held.

    A domain kept for such messages is closed by the next node of this process that joins or leaves
    any: their end comes in a destructor, which must not wait for a lock.
    """
    with _domains_lock:
        domain.nodes -= 1
        _close_unused()


def _close_unused() -> None:
    for domain in list(_domains.values()):
        if not domain.nodes and not domain.views:
            del _domains[domain.number]
            if domain.handle:
                library().dds_delete(domain.handle)


def _create(domain: Domain) -> int:
    handle = int(library().dds_create_domain(domain.number, domain.xml.encode()))
    if handle == PRECONDITION_NOT_MET:
        _log.warning(
            "domain %d exists already in this process: its configuration is used, "
            "ROS_AUTOMATIC_DISCOVERY_RANGE and ROS_STATIC_PEERS are not",
            domain.number,
        )
        return 0
    if handle < 0 and os.environ.get("CYCLONEDDS_URI"):
        raise ConfigError(
            f"DDS refused the configuration; check CYCLONEDDS_URI={os.environ['CYCLONEDDS_URI']!r}"
        )
    return check(handle, f"create domain {domain.number}")
