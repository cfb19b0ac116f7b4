"""Why a camera on USB cannot be had: what the kernel says is plugged in."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

INIVATION = "152a"
USB_DEVICES = Path("/sys/bus/usb/devices")
RULE = (
    'SUBSYSTEM=="usb", ATTRS{idVendor}=="152a", ATTRS{idProduct}=="84[0-1]?", MODE="0666" in '
    "/etc/udev/rules.d/65-inivation.rules, then `sudo udevadm control --reload-rules && sudo "
    "udevadm trigger` and plug it in again"
)


def advice(devices: Path = USB_DEVICES, nodes: Path = Path("/dev/bus/usb")) -> str:
    """Say what is plugged in and what to do about it.

    Args:
        devices: the kernel's list of USB devices.
        nodes: where their device files are.
    """
    found = _inivation(devices)
    if not found:
        return (
            "None is plugged in as far as the kernel tells (`lsusb -d 152a:` lists them): check "
            "cable and port; in a container or WSL the USB bus has to be handed in"
        )
    closed = [d for d in found if not _may_open(d, nodes)]
    names = ", ".join(
        f"152a:{_read(d / 'idProduct')} {_read(d / 'product')}".strip() for d in found
    )
    if closed:
        return f"Plugged in: {names}, but this user may not open it. Add the udev rule {RULE}"
    return (
        f"Plugged in: {names}. If no other program holds it, add the udev rule {RULE}; new models "
        "may need a newer dv-processing or firmware"
    )


def _inivation(devices: Path) -> list[Path]:
    try:
        return sorted(d for d in devices.iterdir() if _read(d / "idVendor") == INIVATION)
    except OSError:
        return []


def _may_open(device: Path, nodes: Path) -> bool:
    bus, number = _read(device / "busnum"), _read(device / "devnum")
    if not (bus.isdigit() and number.isdigit()):
        return True  # cannot tell
    return os.access(nodes / f"{int(bus):03d}" / f"{int(number):03d}", os.R_OK | os.W_OK)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip()
    return ""
