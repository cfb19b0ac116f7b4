"""Recordings of simulated scenes: seconds of events with labels, instances, boxes and ids.

A recording is a folder that other commands read::

    events.npz                the recording
    masks/<t_us>.png          labels at the end of every window (class ids, 254, 255)
    instances/<t_us>.png      numbers of things (16 bit; 0: no thing)
    labels.mcap               the same with boxes and ids, as `evdistill report --labels` takes it
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.data.recorded_masks import INSTANCES, LABELS, MASKS
from evdistill_core.data.simulated import scene_factory
from evdistill_core.data.simulated_sets import SimulateConfig
from evdistill_core.drawing.sheets import write_image
from evdistill_core.foundation.class_file import CLASS_FILE, ClassEntry, ClassFile
from evdistill_core.foundation.config import to_mapping
from evdistill_core.foundation.files import write_bytes_atomic, write_text_atomic
from evdistill_core.foundation.labels import OTHER, ClassTable
from evdistill_core.messages.standard import Header, Image, Time
from evdistill_core.messages.vision import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    VisionClass,
)
from evdistill_core.recordings.sinks import create_recording
from evdistill_core.recordings.writers.mcap import McapWriter
from evdistill_core.simulation.sensor import SensorModel
from evdistill_core.simulation.window import SimulatedWindow, simulate_windows

FILM = "film_"
EVENTS = "events.npz"
LEAST_BOX_PX = 30  # fewer pixels of a thing in view make no box: nobody can find it


def simulate_films(  # noqa: PLR0913 - options by name
    images: ImagesConfig,
    target: Path,
    config: SimulateConfig,
    *,
    seed: int,
    count: int,
    seconds: float,
    overwrite: bool = False,
    on_window: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Make recordings, each of one random scene and one sensor.

    Things that stand still before a fixed camera are ignored, as ``scene.still_things: false``
    does: they send no events, so nobody can follow them.

    Args:
        images: what scenes are made of.
        target: folder of all recordings; beside them ``classes.yaml`` says what masks mean.
        config: everything else. Recording k depends on it, the seed and k alone.
        seed: of all draws.
        count: number of recordings.
        seconds: length of each, rounded up to whole windows.
        overwrite: replace the recordings that are there.
        on_window: told how many windows are done.

    Returns:
        The folders of the recordings.

    Raises:
        DataError: images are missing.
    """
    files = LabelledImages(images, config.classes)
    num_windows = windows_of_film(seconds, config)
    factory = scene_factory(
        files,
        config.classes,
        height=config.height,
        width=config.width,
        ranges=replace(config.scene, still_things=False),
        span_s=num_windows * config.window_us * 1e-6,
    )
    target.mkdir(parents=True, exist_ok=True)
    if overwrite:
        for old in target.glob(f"{FILM}*"):
            shutil.rmtree(old)
    _write_classes(target / CLASS_FILE, config.classes, files.complete_for)
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        sensor = SensorModel.random(rng, config.sensor)
        scene = factory.make(sensor, rng)
        folder = target / f"{FILM}{number:04d}"
        (folder / MASKS).mkdir(parents=True)
        (folder / INSTANCES).mkdir()
        sink = create_recording(folder / EVENTS, width=config.width, height=config.height)
        with sink as events, McapWriter(folder / LABELS) as bag:
            labels = FilmLabels(bag, config.classes)
            windows = simulate_windows(scene, sensor, config.window_us, num_windows, rng)
            for k, window in enumerate(windows, 1):
                events.write_events(window.events)
                labels.write(window)
                assert window.instances is not None  # simulate_windows gives them
                write_image(folder / MASKS / f"{window.t_end_us}.png", window.labels)
                numbers = cv2.imencode(".png", window.instances)[1].tobytes()
                write_bytes_atomic(folder / INSTANCES / f"{window.t_end_us}.png", numbers)
                on_window(number * num_windows + k)
        made.append(folder)
    return made


def windows_of_film(seconds: float, config: SimulateConfig) -> int:
    """Return how many windows a recording has: as many as ``seconds`` take, the last one whole."""
    return math.ceil(round(seconds * 1e6) / config.window_us)


class FilmLabels:
    """Writes masks, instances and boxes of a recording as a bag that ``evdistill report`` reads.

    Topics: ``/labels/mask`` (mono8), ``/labels/instances`` (mono16), ``/labels/detections`` (the id
    of a detection is the number of its thing, its class a name), ``/labels/label_info``. Stamps are
    the ends of windows in sensor time, as results of a file are stamped.

    Args:
        bag: an open bag.
        classes: of the labels.
    """

    def __init__(self, bag: McapWriter, classes: ClassTable) -> None:
        self._classes = classes
        self._bag = bag
        self._is_first = True

    def write(self, window: SimulatedWindow) -> None:
        """Append the labels of a window that has instances."""
        assert window.instances is not None
        stamp_ns = window.t_end_us * 1000
        header = Header(Time.from_ns(stamp_ns), "event_camera")
        if self._is_first:
            rows = [VisionClass(k, name) for k, name in enumerate(self._classes.names)]
            info = LabelInfo(header, rows, 0.0)
            self._bag.write("/labels/label_info", info.TYPE, info.serialize(), stamp_ns)
            self._is_first = False
        found = [
            Detection2D(
                header,
                [ObjectHypothesisWithPose(ObjectHypothesis(self._classes.names[class_id], 1.0))],
                BoundingBox2D.from_xyxy(box),
                str(number),
            )
            for number, class_id, box in boxes_of_instances(window.instances, window.labels)
        ]
        for name, message in (
            ("mask", Image.from_array(header, window.labels, "mono8")),
            ("instances", Image.from_array(header, window.instances, "mono16")),
            ("detections", Detection2DArray(header, found)),
        ):
            self._bag.write(f"/labels/{name}", message.TYPE, message.serialize(), stamp_ns)


def boxes_of_instances(
    instances: npt.NDArray[np.uint16],
    labels: npt.NDArray[np.uint8],
    *,
    least_px: int = LEAST_BOX_PX,
) -> list[tuple[int, int, tuple[int, int, int, int]]]:
    """Return number, class and box of every thing in view, by number.

    Args:
        instances: (H, W) uint16, 0: no thing.
        labels: (H, W) uint8, one class a thing.
        least_px: things with fewer pixels in view are left out.

    Returns:
        Boxes are left, top, right, bottom in pixels, half open; they hold what is in view.
    """
    rows, columns = np.nonzero(instances)
    numbers = instances[rows, columns]
    found = []
    for number in np.unique(numbers):
        own = numbers == number
        if own.sum() < least_px:
            continue
        y, x = rows[own], columns[own]
        box = (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
        found.append((int(number), int(labels[y[0], x[0]]), box))
    return found


def _write_classes(path: Path, classes: ClassTable, complete_for: tuple[str, ...]) -> None:
    entries = tuple(
        ClassEntry(name=c.name, thing=c.is_thing, color=c.color_rgb, ids=(k,))
        for k, c in enumerate(classes.classes)
    )
    other = (OTHER,) if complete_for else ()
    content = ClassFile(classes=entries, complete_for=complete_for, other=other)
    write_text_atomic(path, yaml.safe_dump(to_mapping(content), sort_keys=False))
