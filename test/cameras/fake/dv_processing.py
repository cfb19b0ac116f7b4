"""Stands in for the library where its behaviour cannot be had without a camera.

FAKE_CAMERA is a list of words: what is plugged in (``none``, ``one``, ``two``) and what happens
after a few batches (``unplug``, ``crash``, ``hang``, ``nonsense``, ``reset``, ``flood``,
``outside``, ``quiet``, ``missing``).
"""

import os
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np

WORDS = set(os.environ["FAKE_CAMERA"].split())
if "missing" in WORDS:
    raise ImportError("No module named 'dv_processing'")
RECORD = np.dtype(
    {"names": ["timestamp", "x", "y", "polarity"], "formats": ["<i8", "<i2", "<i2", "i1"],
     "offsets": [0, 8, 10, 12], "itemsize": 16}
)  # fmt: skip
BATCHES = 20
A_BATCH = 1000


def records(index):
    out = np.zeros(A_BATCH, RECORD)
    out["timestamp"] = 1_700_000_000_000_000 + index * 10_000 + np.arange(A_BATCH) * 10
    out["x"], out["y"] = np.arange(A_BATCH) % 64, np.arange(A_BATCH) % 48
    out["polarity"] = np.arange(A_BATCH) % 2
    return out


class Descriptor:
    def __init__(self, serial):
        self.cameraModel = SimpleNamespace(name="DAVIS")
        self.serialNumber = serial


class Edge:
    def __init__(self, t_us, kind):
        self.timestamp, self.type = t_us, SimpleNamespace(value=kind)


class FakeCamera:
    def __init__(self, serial):
        self.serial, self.sent, self.frames, self.edges = serial, 0, 0, 0

    def getCameraName(self):
        return f"DAVIS346_{self.serial}"

    def getEventResolution(self):
        return (64, 48)

    def getFrameResolution(self):
        return (64, 48)

    def isEventStreamAvailable(self):
        return True

    def isFrameStreamAvailable(self):
        return True

    def isTriggerStreamAvailable(self):
        return True

    def isRunning(self):
        return not ("unplug" in WORDS and self.sent >= BATCHES)

    def getNextEventBatch(self):
        if self.sent >= BATCHES:
            self.trouble()
            if "flood" not in WORDS or self.sent > 400:
                return None
        time.sleep(0.01 if "flood" in WORDS else 0.002)
        if "quiet" in WORDS:
            return None
        out = records(self.sent)
        if "flood" in WORDS:
            out = np.tile(out, 20)
            out["timestamp"] = np.sort(out["timestamp"])
        if "reset" in WORDS and self.sent >= BATCHES // 2:
            out["timestamp"] -= 1_700_000_000_000_000
        if "outside" in WORDS:
            out["x"][:10], out["y"][10:20], out["timestamp"][20:30] = 64, -1, -5
        self.sent += 1
        return SimpleNamespace(numpy=lambda: out)

    def trouble(self):
        if "crash" in WORDS:
            sys.stdout.write("terminate called after throwing 'std::runtime_error'\n")
            sys.stdout.flush()
            os.abort()
        if "nonsense" in WORDS:
            # As memory that is damaged might: bytes that are no piece, on the pipe itself.
            pipe = int(sys.argv[sys.argv.index("--pipe") + 1])
            time.sleep(0.5)
            os.write(pipe, b"\xff" * 64)
        if "hang" in WORDS:
            threading.Event().wait()

    def getNextFrame(self):
        if self.frames > self.sent // 10 or "quiet" in WORDS:
            return None
        self.frames += 1
        t_us = 1_700_000_000_000_000 + self.sent * 10_000
        image = np.full((48, 64), self.frames, np.uint8)
        return SimpleNamespace(timestamp=t_us, image=image)

    def getNextTriggerBatch(self):
        if self.edges or "quiet" in WORDS:
            return None
        self.edges = 1
        t_us = 1_700_000_000_000_500
        return [Edge(t_us, 1), Edge(t_us + 100, 2), Edge(t_us + 200, 6)]


def discover():
    if "none" in WORDS:
        return []
    serials = ["00000001", "00000402"] if "two" in WORDS else ["00000001"]
    return [Descriptor(s) for s in serials]


def open_(descriptor):
    if "busy" in WORDS:
        raise RuntimeError(
            "/project/usb.hpp(88): USBDevice::open()\nRuntimeError: Failed to open device: busy\n"
            "Stacktrace:\n 0# 0x00000000003ABBDA"
        )
    return FakeCamera(descriptor.serialNumber)


camera = SimpleNamespace(discover=discover, open=open_)
io = SimpleNamespace(camera=camera)
