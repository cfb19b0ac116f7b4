"""How a camera is named on the command line."""

from __future__ import annotations

from dataclasses import dataclass

from evdistill_core.foundation.errors import CameraError

USB, TCP, UNIX = "inivation", "tcp", "unix"
MAX_STREAMS = 4
FORMS = (
    "inivation (the one camera on USB), inivation:SERIAL (or a part of its name), "
    "tcp://HOST:PORT[,PORT ...] or unix:///PATH[,/PATH ...] (dv-processing's network streams, "
    "one port or socket a stream)"
)


@dataclass(frozen=True)
class CameraAddress:
    """Where the events come from.

    Attributes:
        kind: ``inivation``, ``tcp`` or ``unix``.
        name: serial number or a part of the name of a USB camera; "" takes the only one.
        host: of ``tcp``.
        ports: of ``tcp``, one a stream.
        paths: of ``unix``, one a stream.
    """

    kind: str
    name: str = ""
    host: str = ""
    ports: tuple[int, ...] = ()
    paths: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str) -> CameraAddress:
        """Read what a user wrote.

        Raises:
            CameraError: none of the forms, or a port out of range.
        """
        kind, _, rest = text.strip().partition(":")
        if kind == USB and (rest or ":" not in text):
            return CameraAddress(USB, name=rest)
        if kind == TCP and rest.startswith("//"):
            return _tcp(text, rest[2:])
        if kind == UNIX and rest.startswith("//"):
            return _unix(text, rest[2:])
        raise _unknown(text)

    def __str__(self) -> str:
        if self.kind == TCP:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"tcp://{host}:{','.join(map(str, self.ports))}"
        if self.kind == UNIX:
            return f"unix://{','.join(self.paths)}"
        return f"{USB}:{self.name}" if self.name else USB


def _tcp(text: str, place: str) -> CameraAddress:
    host, colon, ports = place.rpartition(":")
    numbers = ports.split(",")
    if not host or not colon or not all(n.isascii() and n.isdigit() for n in numbers):
        raise _unknown(text)
    values = tuple(int(n) for n in numbers)
    if not all(0 < v < 65536 for v in values):
        raise CameraError(f"a port lies in 1 .. 65535, got {ports} in '{text}'")
    _check_count(text, len(values))
    return CameraAddress(TCP, host=host.strip("[]"), ports=values)


def _unix(text: str, place: str) -> CameraAddress:
    paths = tuple(place.split(","))
    if not all(p.startswith("/") for p in paths):
        raise CameraError(f"a socket is named by its whole path, unix:///PATH; got '{text}'")
    _check_count(text, len(paths))
    return CameraAddress(UNIX, paths=paths)


def _check_count(text: str, count: int) -> None:
    if count > MAX_STREAMS:
        raise CameraError(f"a camera has at most {MAX_STREAMS} streams, got {count} in '{text}'")


def _unknown(text: str) -> CameraError:
    return CameraError(f"'{text}' names no camera; a camera is written {FORMS}")
