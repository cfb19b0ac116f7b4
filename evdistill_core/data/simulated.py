"""Windows simulated on the fly from labelled images, and how a window becomes a sample."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core import simulation
from evdistill_core.data.augment import AugmentConfig, augment_with
from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.data.samples import Sample, seed_of
from evdistill_core.events.array import Events
from evdistill_core.foundation.config import LATER, to_mapping
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.files import atomic_path
from evdistill_core.foundation.labels import IGNORE, ClassTable, excluded_mask
from evdistill_core.foundation.ranges import check_at_least, check_intervals, check_ranges
from evdistill_core.representations import InputSpec, represent
from evdistill_core.simulation.dataset import SimulatedSet
from evdistill_core.simulation.factory import SceneFactory, SceneRanges
from evdistill_core.simulation.images import LabelledImage
from evdistill_core.simulation.scene import Scene
from evdistill_core.simulation.sensor import SensorModel, SensorRanges
from evdistill_core.simulation.window import SimulatedWindow, simulate_window

V = TypeVar("V", bound=np.generic)
MIDDLE_GREY = 128  # 0 for a network


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """Random scenes in front of random sensors.

    Attributes:
        images: what the scenes are made of.
        height: rows of the sensor.
        width: columns of the sensor.
        scene: what moves, and how.
        sensor: what the pixels are like.
        window_jitter: the simulated window is as long as the student's, times a factor drawn from
            this range: all speeds and rates vary with it.
        unique: how many different windows there are; index k and k + unique are the same window,
            changed again by the augmentation. 0: every index is a new window. Simulating costs
            more than a training step, so a run of many steps wants a few thousand.
        cache: folder in which the unique windows are kept, for this run and later ones.
        stops: probability that everything stands still from a moment of the span on, drawn evenly:
            then labels name what only a memory can know (``input.sequence``).
    """

    images: ImagesConfig
    height: int = 192
    width: int = 256
    scene: SceneRanges = field(default_factory=SceneRanges)
    sensor: SensorRanges = field(default_factory=SensorRanges)
    window_jitter: tuple[float, float] = (1.0, 1.0)
    unique: int = 0
    cache: Path | None = None
    stops: float = field(default=0.0, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse sizes that hold no scene."""
        check_ranges(self, stops=(0, 1), height=(16, 4096), width=(16, 4096))
        check_intervals(self, window_jitter=(0.05, 20))
        check_at_least(self, unique=0)


class SimulatedWindows:
    """Simulated windows by index; every index is a new scene.

    Args:
        config: scenes and sensors.
        spec: what the student is fed.
        classes: what the labels mean.
        seed: of all draws, with the index.
        augmentation: applied to the events.

    Raises:
        DataError: the images are missing.
    """

    def __init__(
        self,
        config: SimulationConfig,
        spec: InputSpec,
        classes: ClassTable,
        *,
        seed: int,
        augmentation: AugmentConfig | None = None,
    ) -> None:
        self._config = config
        self._spec = spec
        self._classes = classes
        self._seed = seed
        self._augmentation = augmentation
        self._files = LabelledImages(config.images, classes)
        self._factory: SceneFactory | None = None

        self._cache = self._cache_folder()

    def __len__(self) -> int:
        return self._config.unique or len(self._files)

    def __getstate__(self) -> dict[str, object]:
        # Workers read the images themselves instead of receiving them through a pipe.
        return {**self.__dict__, "_factory": None}

    def sample(self, index: int) -> Sample:
        """Return the window of this index."""
        window = self._window(index % self._config.unique if self._config.unique else index)
        sample = augmented_sample(window, self._spec, self._augmentation, (self._seed, index))
        return replace(sample, excluded=self._files.excluded)

    def _window(self, number: int) -> KeptWindow:
        return cached_window(self._cache, number, self._simulate)

    def _simulate(self, number: int) -> KeptWindow:
        if self._factory is None:
            config = self._config
            self._factory = scene_factory(
                self._files,
                self._classes,
                height=config.height,
                width=config.width,
                ranges=config.scene,
            )
        rng = np.random.default_rng(seed_of(self._seed, number, 2))
        sensor = SensorModel.random(rng, self._config.sensor)
        # A span of several windows is simulated in one go: events and noise know no border.
        window_us = round(self._spec.span_us * rng.uniform(*self._config.window_jitter))
        scene = self._factory.make(sensor, rng)
        if self._config.stops > 0 and rng.random() < self._config.stops:
            scene = _Stopping(scene, (rng.random() - 0.5) * window_us * 1e-6)
        window = simulate_window(scene, sensor, window_us, rng)
        return KeptWindow(
            window.events,
            window.labels,
            window.t_start_us,
            window.t_end_us,
            window.image,
            window.instances,
        )

    def _cache_folder(self) -> Path | None:
        config = self._config
        if config.cache is None or not config.unique:
            return None
        facts = to_mapping(config) | {"kept": "with picture and instances"}
        # Several windows in a row are one long window: a sample cuts it when it is represented.
        facts.update(unique=0, cache="", seed=self._seed, window_us=self._spec.span_us)
        facts["classes"] = label_facts(self._classes)
        if self._files.complete_for:  # what the value 254 in their labels means
            facts["outside_is_none_of"] = list(self._files.complete_for)
        return config.cache / window_digest({**facts, "files": list(self._files.names)})


def scene_factory(  # noqa: PLR0913 - what a factory consists of
    files: LabelledImages,
    classes: ClassTable,
    *,
    height: int,
    width: int,
    ranges: SceneRanges,
    span_s: float = 0.0,
) -> SceneFactory:
    """Return a factory of scenes from all images; arguments as for ``SceneFactory``.

    Only what scenes need stays in memory: one image at a time is there in colour.
    """
    stills = (files[i] for i in range(len(files)))
    images = [LabelledImage.from_arrays(s.image, s.label, s.name, s.objects) for s in stills]
    return SceneFactory(images, classes, height=height, width=width, ranges=ranges, span_s=span_s)


class _Stopping(Scene):
    """A scene whose time stands still from a moment on, seconds from the middle of the span."""

    def __init__(self, scene: Scene, stop_s: float) -> None:
        self.__dict__.update(vars(scene))
        self._stop_s = stop_s

    def draw(self, t_s: float) -> npt.NDArray[np.float32]:
        return super().draw(min(t_s, self._stop_s))

    def labels(self, t_s: float) -> npt.NDArray[np.uint8]:
        return super().labels(min(t_s, self._stop_s))

    def instances(self, t_s: float) -> npt.NDArray[np.uint16]:
        return super().instances(min(t_s, self._stop_s))


class StoredWindows:
    """The labelled windows of a simulated set on disk, in order, again and again.

    Args:
        folder: made by ``evdistill simulate`` from labelled images.
        spec: what the student is fed; its window length does not change the stored ones.
        classes: what the labels must mean.
        seed: of the augmentation, with the index.
        augmentation: applied to the events.

    Raises:
        DataError: the folder holds no complete labelled set of these classes.
    """

    def __init__(
        self,
        folder: Path,
        spec: InputSpec,
        classes: ClassTable,
        *,
        seed: int = 0,
        augmentation: AugmentConfig | None = None,
    ) -> None:
        self.name = file_word(folder.name)
        self._set = SimulatedSet(folder)
        self._spec = spec
        self._seed = seed
        self._augmentation = augmentation
        if not self._set.is_labelled or not len(self._set):
            raise DataError(f"{folder} holds no labelled windows (those of a video have no labels)")
        refuse_sequences(spec, f"{folder} holds single windows")
        if self._set.classes.names != classes.names:
            raise DataError(
                f"{folder} has the classes {list(self._set.classes.names)}, "
                f"needed are {list(classes.names)}"
            )
        self._excluded = excluded_mask(self._set.complete_for, classes)

    def __len__(self) -> int:
        return len(self._set)

    def sample(self, index: int) -> Sample:
        """Return the window of this index; indices above the set's size begin again."""
        window = self._set[index % len(self._set)]
        sample = augmented_sample(window, self._spec, self._augmentation, (self._seed, index))
        return replace(sample, excluded=self._excluded)


def file_word(name: str) -> str:
    """Return a name of a set that is usable in file names."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name) or "set"


def augmented_sample(
    window: SimulatedWindow | KeptWindow,
    spec: InputSpec,
    augmentation: AugmentConfig | None,
    seed: tuple[int, int],
    *,
    is_recognition: bool = False,
) -> Sample:
    """Return a window as a sample.

    Args:
        window: events and labels.
        spec: what the student is fed.
        augmentation: changes to the events; None: none.
        seed: of these changes.
        is_recognition: all labels are one class, which becomes a label of (1, 1).
    """
    events, labels, picture = window.events, window.labels, window.image
    instances = window.instances
    span_us = (window.t_start_us, window.t_end_us)
    if augmentation is not None:
        rng = np.random.default_rng(seed_of(*seed, 3))
        maps: dict[str, tuple[npt.NDArray[Any], int]] = {"labels": (labels, IGNORE)}
        maps |= {} if picture is None else {"picture": (picture, MIDDLE_GREY)}
        maps |= {} if instances is None else {"instances": (instances, 0)}
        events, moved = augment_with(
            events, list(maps.values()), augmentation, rng, span_us=span_us
        )
        known = dict(zip(maps, moved, strict=True))
        labels, picture = known["labels"], known.get("picture")
        instances = known.get("instances")
    sample = make_sample(events, labels, spec, *span_us)
    if instances is not None:
        sample = replace(sample, instances=numbers_on_grid(instances, spec, sample.active.shape))
    if picture is not None:
        sample = replace(sample, picture=on_grid(picture, spec, sample.active.shape))
    if is_recognition:
        return replace(sample, label=window.labels[:1, :1])
    return sample


def numbers_on_grid(
    instances: npt.NDArray[np.uint16], spec: InputSpec, shape: tuple[int, ...]
) -> npt.NDArray[np.uint16]:
    """Return numbers of things on the student's grid, at the places where labels are taken.

    Args:
        instances: (rows, columns) uint16 of the sensor.
        spec: what the student is fed.
        shape: (H, W) of its input; what lies outside the sensor is 0.
    """
    return _middles(instances, spec, np.zeros(shape, np.uint16))


def on_grid(
    image: npt.NDArray[np.uint8], spec: InputSpec, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Return a grey image on the student's grid, (1, H, W) in -1..1.

    Args:
        image: (rows, columns) of the sensor.
        spec: what the student is fed.
        shape: (H, W) of its input; what lies outside the sensor is 0.
    """
    grid = spec.grid(height=image.shape[0], width=image.shape[1])
    size = (grid.used_width, grid.used_height)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    picture = np.zeros((1, *shape), np.float32)
    picture[0, : grid.used_height, : grid.used_width] = small / np.float32(127.5) - 1
    return picture


def label_facts(classes: ClassTable) -> object:
    """Return whatever of a class table changes the labels of cached windows: not its colours."""
    plain = [{"name": c.name, "is_thing": c.is_thing} for c in classes.classes]
    return plain if classes.masks is None else [plain, to_mapping(classes.masks)]


def window_digest(facts: dict[str, object], *others: Path) -> str:
    """Return the folder name of cached windows.

    Args:
        facts: whatever changes a window; not how many there are.
        others: modules beside the simulation whose code makes windows.
    """
    # Another version of the simulation makes other windows of the same configuration.
    digest = hashlib.sha256()
    for path in (*sorted(Path(simulation.__file__).parent.glob("*.py")), *others):
        digest.update(path.read_bytes())
    whole = json.dumps({**facts, "simulator": digest.hexdigest()}, sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class KeptWindow:
    """What is kept of a simulated window.

    Attributes:
        events: sorted by time.
        labels: (H, W) uint8 at the end of the window, class ids, 254 or 255.
        t_start_us: start of the window.
        t_end_us: end of the window.
        image: (H, W) uint8, what a camera saw at the end; None where nobody knows.
        instances: (H, W) uint16, numbers of things at the end, 0: no thing; None where nobody
            knows.
    """

    events: Events
    labels: npt.NDArray[np.uint8]
    t_start_us: int
    t_end_us: int
    image: npt.NDArray[np.uint8] | None = None
    instances: npt.NDArray[np.uint16] | None = None


def cached_window(
    folder: Path | None, number: int, make: Callable[[int], KeptWindow]
) -> KeptWindow:
    """Return the window of a number from a folder; made, and kept there, where it is missing.

    Args:
        folder: of all windows; None: nothing is kept.
        number: of the window.
        make: the window of a number, always the same one.
    """
    path = folder / f"{number:06d}.npz" if folder is not None else None
    if path is not None and path.exists():
        stored = read_window(path)
        if stored is not None:
            return stored
    window = make(number)
    if path is not None:
        write_window(path, window)
    return window


def write_window(path: Path, window: KeptWindow) -> None:
    """Write a window in one step."""
    events = window.events
    unknown = np.empty((0, 0), np.uint8)
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            x=events.x,
            y=events.y,
            t=(events.t_us - window.t_start_us).astype(np.uint32),
            p=events.p,
            labels=window.labels,
            times=np.array([window.t_start_us, window.t_end_us], np.int64),
            image=unknown if window.image is None else window.image,
            instances=unknown if window.instances is None else window.instances,
        )


def read_window(path: Path) -> KeptWindow | None:
    """Read what ``write_window`` wrote; None when the file is damaged (it can be made again)."""
    try:
        with np.load(path, allow_pickle=False) as content:
            labels, times = content["labels"], content["times"]
            image = content["image"] if content["image"].size else None
            instances = content["instances"] if content["instances"].size else None
            t_us = content["t"].astype(np.int64) + times[0]
            height, width = labels.shape
            events = Events(content["x"], content["y"], t_us, content["p"], width, height)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return KeptWindow(events, labels, int(times[0]), int(times[1]), image, instances)


def make_sample(
    events: Events,
    labels: npt.NDArray[np.uint8],
    spec: InputSpec,
    t_start_us: int,
    t_end_us: int,
) -> Sample:
    """Return the sample of a window: what the student is fed, and labels on the same grid.

    With ``spec.sequence`` above 1 the span is cut into so many windows of equal length; each is
    represented by itself.

    Args:
        events: of the window.
        labels: (H, W) uint8 of the sensor.
        spec: what the student is fed.
        t_start_us: start of the window, or of the first one.
        t_end_us: end of the window, or of the last one.

    Returns:
        Input, labels and event image at the size of the input; padding is ignored. Where one cell
        joins several sensor pixels, the label is that of the middle one.
    """
    windows = represent_sequence(events, spec, t_start_us, t_end_us)
    network_input = windows[-1]
    label = _middles(labels, spec, np.full(network_input.shape[1:], IGNORE, np.uint8))
    active = (network_input != 0).any(0).astype(np.uint8)
    return Sample(network_input, label, active, past=windows[:-1] if spec.sequence > 1 else None)


def _middles(values: npt.NDArray[V], spec: InputSpec, out: npt.NDArray[V]) -> npt.NDArray[V]:
    """Fill the used part of a grid with the value in the middle of each cell, and return it."""
    height, width = values.shape
    grid = spec.grid(height=height, width=width)
    middle = grid.factor // 2
    rows = np.minimum(np.arange(grid.used_height) * grid.factor + middle, height - 1)
    columns = np.minimum(np.arange(grid.used_width) * grid.factor + middle, width - 1)
    out[: grid.used_height, : grid.used_width] = values[rows[:, None], columns[None]]
    return out


def represent_sequence(
    events: Events, spec: InputSpec, t_start_us: int, t_end_us: int
) -> npt.NDArray[np.float32]:
    """Return (T, C, H, W): a span cut into ``spec.sequence`` windows of equal length.

    Args:
        events: of the span, in order of time.
        spec: what the student is fed.
        t_start_us: start of the first window.
        t_end_us: end of the last one.
    """
    count = spec.sequence
    if count == 1:
        return represent(events, spec, t_start_us, t_end_us)[None]
    edges = [t_start_us + (t_end_us - t_start_us) * k // count for k in range(count + 1)]
    cuts = [0, *np.searchsorted(events.t_us, edges[1:-1]), len(events)]
    return np.stack(
        [
            represent(events[cuts[k] : cuts[k + 1]], spec, edges[k], edges[k + 1])
            for k in range(count)
        ]
    )


def refuse_sequences(spec: InputSpec, reason: str) -> None:
    """Raise ConfigError where samples of several windows in a row cannot be had."""
    if spec.sequence > 1:
        raise ConfigError(
            f"input.sequence is {spec.sequence}, but {reason}: give it sources that reach back in "
            "time (simulation, street, recordings), or set it to 1"
        )
