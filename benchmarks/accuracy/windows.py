"""The sets of windows that rows learn from and are scored on, made once and kept on disk.

Order on disk: training sets are shuffled (a row reads them front to back), test sets run in time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import target_camera
from settings import FREE, Settings
from source_camera import CLEAN, WIDE
from splits import Splits

from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.events.array import Events
from evdistill_core.foundation.config import to_mapping
from evdistill_core.foundation.labels import CAMVID_CLASSES
from evdistill_core.simulation.dataset import SetWriter, write_windows
from evdistill_core.simulation.factory import SceneFactory
from evdistill_core.simulation.images import LabelledImage
from evdistill_core.simulation.sensor import SensorModel, SensorRanges
from evdistill_core.simulation.video import simulate_frames
from evdistill_core.simulation.window import SimulatedWindow, simulate_window

SHARD = 64
# A frame interval of the run is four such parts; a window is the three before a frame.
RUN_PART_US = 16_667
PARTS_A_FRAME, PARTS_A_WINDOW = 4, 3

TRAINING_SETS = ("source", "wide", "target")
TEST_SETS = ("target_target", "run", "source_target", "target_source", "source_source")
Camera = Callable[[np.random.Generator], SensorModel]


@dataclass(frozen=True)
class Plan:
    """What a set of still scenes is made of.

    Attributes:
        stems: its stills.
        repeats: windows a still.
        camera: draws a sensor.
        shuffled: order of a training set.
        salt: keeps the scenes of different sets apart.
    """

    stems: tuple[str, ...]
    repeats: int
    camera: Camera
    shuffled: bool
    salt: int

    def order(self) -> list[tuple[int, int]]:
        """Return (still, repeat) by window."""
        pairs = [(i, r) for i in range(len(self.stems)) for r in range(self.repeats)]
        if self.shuffled:
            np.random.default_rng(self.salt).shuffle(pairs)
        return pairs


class WindowSets:
    """Makes and finds the sets of one budget.

    Args:
        settings: of the benchmark.
        splits: which stills.
    """

    def __init__(self, settings: Settings, splits: Splits) -> None:
        self._settings = settings
        self._splits = splits
        self.root = settings.work / digest(self._facts())

    def folder(self, name: str) -> Path:
        """Return the folder of a set; it is made first where it is missing.

        A second process that wants the same set waits for the first.
        """
        folder = self.root / name
        if (folder / "done").exists():
            return folder
        self.root.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "done").exists():
                self._make(name, folder)
        return folder

    def _make(self, name: str, folder: Path) -> None:
        print(f"simulating {name} ...", flush=True)
        if name == "run":
            self._make_run(folder)
        else:
            self._make_stills(folder, self.plan(name))
        (folder / "done").touch()

    def plan(self, name: str) -> Plan:
        """Return what a set of stills is made of: ``<camera>_<drive>`` for test sets."""
        splits, windows = self._splits, self._settings.windows
        tests = tuple(s for block in splits.test for s in block)
        clean, wide = _drawn(CLEAN), _drawn(WIDE)
        return {
            "source": Plan(splits.source, windows.source, clean, True, 1),
            "wide": Plan(splits.source, windows.source, wide, True, 2),
            "target": Plan(splits.unlabelled, windows.target, _target, True, 3),
            "target_target": Plan(tests, windows.test, _target, False, 4),
            "source_target": Plan(tests, windows.test, clean, False, 5),
            "target_source": Plan(splits.source_held_out, windows.test, _target, False, 6),
            "source_source": Plan(splits.source_held_out, windows.test, clean, False, 7),
        }[name]

    def blocks(self, name: str) -> np.ndarray:
        """Return the bootstrap block of every window of a test set.

        A block holds stills that are consecutive in time; no block spans two test blocks.
        """
        if name == "run":
            return np.arange(len(self._splits.run) - 1) // self._settings.block_frames
        size, numbers, first = self._settings.block_stills, [], 0
        parts: Sequence[Sequence[str]] = [self.plan(name).stems]
        if name.endswith("_target"):
            parts = self._splits.test
        for part in parts:
            numbers += [first + i // size for i in range(len(part))]
            first = numbers[-1] + 1
        return np.repeat(numbers, self._settings.windows.test)

    def _facts(self) -> dict[str, object]:
        s = self._settings
        whole = to_mapping(s)
        kept = {k: whole[k] for k in ("height", "width", "scene", "windows")}
        cameras = [to_mapping(c) for c in (CLEAN, WIDE, target_camera.SENSOR)]
        return {**kept, "window_us": s.input.window_us, "cameras": cameras, "version": 1}

    def _make_stills(self, folder: Path, plan: Plan) -> None:
        settings, order = self._settings, plan.order()
        images = _labelled(settings.camvid)
        factories: dict[str, SceneFactory] = {}

        def one(number: int) -> SimulatedWindow:
            still, repeat = order[number]
            stem = plan.stems[still]
            if stem not in factories:
                factories[stem] = SceneFactory(
                    [images[stem]()],
                    CAMVID_CLASSES,
                    height=settings.height,
                    width=settings.width,
                    ranges=settings.scene,
                )
            rng = np.random.default_rng([plan.salt, still, repeat])
            sensor = plan.camera(rng)
            scene = factories[stem].make(sensor, rng)
            return simulate_window(scene, sensor, settings.input.window_us, rng)

        def many(numbers: range) -> Iterator[SimulatedWindow]:
            return (one(n) for n in numbers)

        write_windows(self._writer(folder), many, count=len(order), windows_per_shard=SHARD)

    def _make_run(self, folder: Path) -> None:
        """The val run as a video at 15 Hz, labels at every frame but the first."""
        settings = self._settings
        images = _labelled(settings.camvid)
        size = (settings.width, settings.height)
        stills = [images[stem]() for stem in self._splits.run]
        frames = [
            cv2.resize(np.rint(s.code / 257.0).astype(np.uint8), size, interpolation=cv2.INTER_AREA)
            for s in stills
        ]
        times = [k * PARTS_A_FRAME * RUN_PART_US for k in range(len(frames))]
        parts = simulate_frames(
            zip(frames, times, strict=True),
            target_camera.SENSOR,
            RUN_PART_US,
            np.random.default_rng(8),
        )
        windows, kept = [], []
        for number, part in enumerate(parts):
            kept = [*kept, part][-PARTS_A_WINDOW:]
            if (number + 1) % PARTS_A_FRAME == 0:
                labels = stills[(number + 1) // PARTS_A_FRAME].labels
                windows.append(_joined(kept, _nearest(labels, size)))
        writer = self._writer(folder)
        write_windows(
            writer,
            lambda numbers: [windows[n] for n in numbers],
            count=len(windows),
            windows_per_shard=SHARD,
        )

    def _writer(self, folder: Path) -> SetWriter:
        return SetWriter(
            folder,
            {"facts": self._facts(), "set": folder.name},
            CAMVID_CLASSES,
            height=self._settings.height,
            width=self._settings.width,
        )


def digest(facts: object) -> str:
    """Return a short name for plain data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def bound_settings(settings: Settings) -> dict[str, object]:
    """Return the settings that decide a result."""
    return {k: v for k, v in to_mapping(settings).items() if k not in FREE}


def _drawn(ranges: SensorRanges) -> Camera:
    return lambda rng: SensorModel.random(rng, ranges)


def _target(_: np.random.Generator) -> SensorModel:
    return target_camera.SENSOR


def _labelled(root: Path) -> dict[str, Callable[[], LabelledImage]]:
    found: dict[str, Callable[[], LabelledImage]] = {}
    for split in ("train", "val", "test"):
        files = LabelledImages(ImagesConfig(root=root, split=split), CAMVID_CLASSES)
        for i, name in enumerate(files.names):

            def read(files: LabelledImages = files, i: int = i) -> LabelledImage:
                still = files[i]
                return LabelledImage.from_arrays(still.image, still.label, still.name)

            found[Path(name).stem] = read
    return found


def _joined(parts: Sequence[SimulatedWindow], labels: np.ndarray) -> SimulatedWindow:
    return SimulatedWindow(
        Events.concatenate([p.events for p in parts]),
        labels,
        parts[-1].image,
        parts[0].t_start_us,
        parts[-1].t_end_us,
    )


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT))
