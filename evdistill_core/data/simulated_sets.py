"""Making a simulated set on disk from labelled images or a video."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np

from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.data.own_classes import classes_of_images
from evdistill_core.data.simulated import scene_factory
from evdistill_core.foundation.class_file import table_of
from evdistill_core.foundation.config import to_mapping
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import SIX_CLASSES, ClassTable
from evdistill_core.foundation.ranges import check_ranges
from evdistill_core.simulation.dataset import SetWriter, write_windows
from evdistill_core.simulation.factory import SceneRanges
from evdistill_core.simulation.sensor import SensorModel, SensorRanges
from evdistill_core.simulation.video import read_video, simulate_frames
from evdistill_core.simulation.window import SimulatedWindow, simulate_window


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """What ``evdistill simulate`` makes.

    Attributes:
        height: rows of the sensor.
        width: columns of the sensor.
        window_us: length of a window.
        windows_per_shard: windows in one file.
        scene: what moves, and how (labelled images).
        sensor: what the pixels are like; a video is seen by one sensor, images by one per window.
        interpolation: how frames between frames are made (videos).
        classes: what the labels mean.
        names: names of the source's label ids, for folders of images and masks; empty: the ids
            are those of ``classes``.
        class_map: source name to class name, for folders of images and masks.
    """

    height: int = 260
    width: int = 346
    window_us: int = 50_000
    windows_per_shard: int = 64
    scene: SceneRanges = field(default_factory=SceneRanges)
    sensor: SensorRanges = field(default_factory=SensorRanges)
    interpolation: Literal["flow", "linear"] = "flow"
    classes: ClassTable = SIX_CLASSES
    names: tuple[str, ...] = ()
    class_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse sizes that no sensor has."""
        check_ranges(
            self,
            height=(8, 4096),
            width=(8, 4096),
            window_us=(100, 10_000_000),
            windows_per_shard=(1, 100_000),
        )


def simulated_classes(
    images: ImagesConfig, *, given: str | None, configured: ClassTable | None
) -> tuple[ClassTable, str]:
    """Return the classes of images that are simulated, and where they are said.

    Args:
        images: where they lie.
        given: preset or path of a class file.
        configured: what the configuration names; None: nothing.

    Raises:
        UnknownClassesError: nothing says what the labels mean.
        ConfigError: the class file is wrong.
    """
    if given is None and configured is not None:
        return configured, "the configuration"
    classes, origin = classes_of_images(images, given=given, configured=None, preset="street6")
    return table_of(classes), origin


def simulate_images(  # noqa: PLR0913
    images: ImagesConfig,
    target: Path,
    config: SimulateConfig,
    *,
    seed: int,
    count: int,
    workers: int = 1,
    overwrite: bool = False,
    on_window: Callable[[int], None] = lambda done: None,
) -> None:
    """Make (or go on making) a set of random scenes.

    Window k depends on the seed and k alone, so neither workers nor interruptions change it.

    Args:
        images: what scenes are made of.
        target: folder of the set.
        config: everything else.
        seed: of all draws.
        count: number of windows.
        workers: threads.
        overwrite: replace a set of another request.
        on_window: told how many windows are done.

    Raises:
        DataError: images are missing, or ``target`` holds another set.
    """
    files = LabelledImages(images, config.classes)
    names = list(files.names)
    # The place of the images on this machine does not decide the content; their names do.
    source = to_mapping(replace(images, root=Path(images.root.name)))
    # Labels with and without 254 make sets that differ.
    complete = {"outside_is_none_of": list(files.complete_for)} if files.complete_for else {}
    writer = SetWriter(
        target,
        _request(seed, config, {**source, "files": _digest(names), **complete}),
        config.classes,
        height=config.height,
        width=config.width,
        complete_for=files.complete_for,
        has_instances=True,
        overwrite=overwrite,
    )
    factory = scene_factory(
        files, config.classes, height=config.height, width=config.width, ranges=config.scene
    )

    def one(number: int) -> SimulatedWindow:
        rng = np.random.default_rng([seed, number])
        sensor = SensorModel.random(rng, config.sensor)
        return simulate_window(factory.make(sensor, rng), sensor, config.window_us, rng)

    pool = ThreadPoolExecutor(workers)
    try:
        write_windows(
            writer,
            lambda numbers: _in_order(pool, one, numbers, workers),
            count=count,
            windows_per_shard=config.windows_per_shard,
            on_window=on_window,
        )
    finally:
        pool.shutdown(cancel_futures=True)


def simulate_video(  # noqa: PLR0913
    video: Path,
    target: Path,
    config: SimulateConfig,
    *,
    seed: int,
    count: int | None = None,
    overwrite: bool = False,
    on_window: Callable[[int], None] = lambda done: None,
) -> None:
    """Make a set of the consecutive windows that one sensor sees of a video; it has no labels.

    A video is simulated in one go: pixels remember, so an interrupted run begins again.

    Args:
        video: the file.
        target: folder of the set.
        config: everything else.
        seed: of all draws.
        count: number of windows; None: to the end of the video.
        overwrite: replace a set of another request.
        on_window: told how many windows are done.

    Raises:
        DataError: no video, one shorter than a window, or ``target`` holds another set.
    """
    frames = read_video(video, height=config.height, width=config.width)
    first = next(frames)  # refuse what is no video before a folder is made
    writer = SetWriter(
        target,
        _request(seed, config, {"film": video.name, "bytes": video.stat().st_size}),
        config.classes,
        height=config.height,
        width=config.width,
        is_labelled=False,
        overwrite=overwrite,
    )
    rng = np.random.default_rng([seed, 0])
    sensor = SensorModel.random(rng, config.sensor)
    windows = islice(
        simulate_frames(
            chain([first], frames),
            sensor,
            config.window_us,
            rng,
            interpolation=config.interpolation,
        ),
        count,
    )
    done = shards = 0
    while part := list(islice(windows, config.windows_per_shard)):
        done += len(part)
        on_window(done)
        writer.write_shard(shards, part)
        shards += 1
    if shards == 0:
        raise DataError(f"{video} is shorter than a window of {config.window_us} us")
    writer.finish(shards)


def _request(seed: int, config: SimulateConfig, source: object) -> dict[str, object]:
    return {"seed": seed, "config": to_mapping(config), "source": source}


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _in_order(
    pool: ThreadPoolExecutor,
    make: Callable[[int], SimulatedWindow],
    numbers: Iterable[int],
    workers: int,
) -> Iterator[SimulatedWindow]:
    """Yield the windows in order, with no more than a few finished ones waiting."""
    waiting = []
    for number in numbers:
        waiting.append(pool.submit(make, number))
        if len(waiting) > 2 * workers:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()
