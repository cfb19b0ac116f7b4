"""What is said when no camera can be had: from a copy of the kernel's list."""

import os

import pytest

from evdistill_core.cameras.usb import advice


@pytest.fixture
def plug(tmp_path):
    devices, nodes = tmp_path / "devices", tmp_path / "bus"
    (devices / "1-0:1.0").mkdir(parents=True)  # an interface: no idVendor

    def add(vendor="152a", mode=0o666):
        device = devices / f"1-{vendor}"
        device.mkdir()
        for name, text in (
            ("idVendor", vendor), ("idProduct", "841a"), ("product", "DAVIS FX3"),
            ("busnum", "1"), ("devnum", "7"),
        ):  # fmt: skip
            (device / name).write_text(f"{text}\n")
        (nodes / "001").mkdir(parents=True, exist_ok=True)
        (nodes / "001" / "007").touch()
        (nodes / "001" / "007").chmod(mode)

    add.places = (devices, nodes)
    return add


def test_nothing_plugged_in(plug, tmp_path):
    plug("1d6b")
    assert "None is plugged in" in advice(*plug.places)
    assert "None is plugged in" in advice(tmp_path / "no_usb_here", tmp_path)


def test_plugged_in_and_openable(plug):
    plug()
    text = advice(*plug.places)
    assert "Plugged in: 152a:841a DAVIS FX3." in text
    assert "may not" not in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_plugged_in_without_permission(plug):
    plug(mode=0)
    assert "this user may not open it. Add the udev rule" in advice(*plug.places)
