"""Where the page of a live view is served, and who may talk to it."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from evdistill_core.foundation.errors import ConfigError, EvdistillError

DEFAULT_PORT = 8765
LOOPBACK = "127.0.0.1"
FORM = "HOST:PORT, HOST or PORT, such as 127.0.0.1:8765"
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[\w.-]*))(?::(?P<port>\d+))?")


class ViewError(EvdistillError):
    """The page cannot be served there."""


@dataclass(frozen=True)
class ViewAddress:
    """Where the page is served.

    Attributes:
        host: name or number of an interface of this machine.
        port: 1..65535; 0: any that is free.
        is_chosen: the user named the port, so that no other one is taken in its place.
    """

    host: str = LOOPBACK
    port: int = DEFAULT_PORT
    is_chosen: bool = False

    @staticmethod
    def parse(text: str) -> ViewAddress:
        """Read what a user wrote; empty: the default.

        Raises:
            ConfigError: another form, or a port out of range.
        """
        text = text.strip()
        found = _ADDRESS.fullmatch(f":{text}" if text.isdecimal() else text)
        if found is None:
            raise ConfigError(f"the address of a view is {FORM}, got {text!r}")
        port = found["port"]
        if port is not None and int(port) > 65_535:
            raise ConfigError(f"the port of a view must lie in 0..65535, got {port} in {text!r}")
        return ViewAddress(
            found["six"] or found["host"] or LOOPBACK,
            DEFAULT_PORT if port is None else int(port),
            port is not None,
        )

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Access:
    """Decides on requests by their headers.

    Attributes:
        address: that is served.
        token: that requests must carry; empty: none is asked for.
    """

    address: ViewAddress
    token: str = ""

    @staticmethod
    def to(address: ViewAddress) -> Access:
        """Return the rule for an address: a fresh token where other machines can reach it."""
        return Access(address, "" if address.is_loopback else secrets.token_urlsafe(18))

    def refusal(self, *, host: str, origin: str | None, token: str) -> str:
        """Return why a request is refused; empty: it is allowed.

        Args:
            host: header ``Host``. On loopback it must name this machine, or a page elsewhere could
                reach us under its own name (DNS rebinding).
            origin: header ``Origin``. It must be our own page; None: not sent, so no browser asks.
            token: as given in the address of the page.
        """
        if self.token and not hmac.compare_digest(token.encode(), self.token.encode()):
            return "the token is missing or wrong: open the address that the command printed"
        if not self.token and _name(host) not in (*_LOOPBACK_NAMES, self.address.host):
            return f"this page answers to {self.address} only, not to {host or 'a nameless host'}"
        if origin is not None and urlsplit(origin).netloc != host:
            return f"a page of {origin} may not talk to this one"
        return ""


def _name(host: str) -> str:
    """Return the name in a header ``Host``, without port and brackets; empty if it is none."""
    found = _ADDRESS.fullmatch(host)
    return "" if found is None else (found["six"] or found["host"]).lower()
