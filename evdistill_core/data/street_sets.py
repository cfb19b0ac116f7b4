"""Published test sets of driving scenes: event windows with dense labels.

DSEC-Semantic, and DDD17 as its two labelled releases: the mirror of ESS (events) and Ev-SegNet's
own (images of events). The raw recordings of DDD17 have no labels: they are recordings like any
other (``open_recording``), for the unlabelled side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.class_images import read_image
from evdistill_core.data.samples import Sample
from evdistill_core.data.simulated import KeptWindow, augmented_sample, refuse_sequences
from evdistill_core.events.array import Events
from evdistill_core.foundation.class_maps import (
    CITYSCAPES_CLASSES,
    ELEVEN_CLASSES,
    class_map_between,
)
from evdistill_core.foundation.errors import ConfigError, DataError, RecordingError
from evdistill_core.foundation.labels import IGNORE, SIX_CLASSES, ClassTable
from evdistill_core.foundation.ranges import check_at_least
from evdistill_core.recordings.base import Recording
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.readers.hdf5_base import opened
from evdistill_core.representations import InputSpec

Labels = npt.NDArray[np.uint8]
DDD17_SIZE = (260, 346)
# The dirs of ESS's mirror; results reported as "DDD17 test" are those of dir1 (valid).
ESS_SPLITS = {
    "train": ("dir0", "dir2", "dir3", "dir5", "dir6"),
    "valid": ("dir1",),
    "test": ("dir4",),
}


@dataclass(frozen=True, kw_only=True)
class StreetSetConfig:
    """Which set, and which windows of it.

    Attributes:
        layout: ``dsec``: DSEC with DSEC-Semantic; ``ddd17-ess``: the mirror of ESS;
            ``ddd17-evsegnet``: Ev-SegNet's release, whose events are images already (it feeds
            students of ``counts2`` alone).
        root: folder.
        split: ``train`` or ``test``, of ddd17-ess also ``valid`` (dir1: what papers report).
        sequences: only these folders of the split; empty: all.
        skip_first: leave out the first N labels of every sequence (ESS: 6).
        every: then use only every Nth (ESS on DSEC: 2). State both beside a result.
        rectify: DSEC: move events by the rectification map; its labels are rectified.
    """

    layout: Literal["dsec", "ddd17-ess", "ddd17-evsegnet"]
    root: Path
    split: str = "test"
    sequences: tuple[str, ...] = ()
    skip_first: int = 0
    every: int = 1
    rectify: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers under which nothing is left."""
        check_at_least(self, skip_first=0, every=1)


class _Reader(Protocol):
    """One layout on disk."""

    def sequences(self) -> list[list[int]]:
        """Return the numbers of the windows, by sequence, in order of time."""
        ...

    def window(self, number: int, window_us: int) -> KeptWindow:
        """Return the events before a label, and the label."""
        ...


class StreetSet:
    """Labelled windows in order; a window ends at the moment of its label.

    Args:
        config: which windows.
        spec: what the student is fed; its window length decides how far a window reaches back.
        classes: what the labels are mapped to: 6, and of DSEC 11 or 19.
        seed: of the augmentation, with the index.
        augmentation: applied to the events.

    Raises:
        DataError: folders or files are missing.
        ConfigError: classes or input cannot be had from this set.
    """

    def __init__(
        self,
        config: StreetSetConfig,
        spec: InputSpec,
        classes: ClassTable,
        *,
        seed: int = 0,
        augmentation: AugmentConfig | None = None,
    ) -> None:
        self._spec, self._seed, self._augmentation = spec, seed, augmentation
        self._pictures: _EvSegNet | None = None
        self._reader: _Reader
        reader: _Reader | _EvSegNet
        if config.layout == "dsec":
            reader = self._reader = _Dsec(config, classes)
        elif config.layout == "ddd17-ess":
            reader = self._reader = _Ess(config, classes)
        else:
            if spec.kind != "counts2" or augmentation is not None:
                raise ConfigError(
                    "Ev-SegNet's release holds pictures of event counts: it feeds students of kind "
                    "counts2, without augmentation of events; use the mirror of ESS for others"
                )
            refuse_sequences(spec, "Ev-SegNet's release holds single windows")
            reader = self._pictures = _EvSegNet(config, classes)
        self._numbers = [
            n for s in reader.sequences() for n in s[config.skip_first :: config.every]
        ]
        if not self._numbers:
            raise DataError(f"no labelled window left in {config.root} ({config.split})")

    def __len__(self) -> int:
        return len(self._numbers)

    def sample(self, index: int) -> Sample:
        """Return the window of this index; indices above the set's size begin again."""
        number = self._numbers[index % len(self._numbers)]
        if self._pictures is not None:
            return self._pictures.sample(number, self._spec)
        window = self._reader.window(number, self._spec.span_us)
        return augmented_sample(window, self._spec, self._augmentation, (self._seed, index))


def _six_only(classes: ClassTable) -> None:
    if classes.names != SIX_CLASSES.names:
        raise ConfigError(f"DDD17 has labels of our 6 classes, not of {list(classes.names)}")


def _checked_label(path: Path, table: npt.NDArray[np.uint8], known: int) -> Labels:
    raw = read_image(path, cv2.IMREAD_UNCHANGED)
    if raw.ndim != 2 or raw.dtype != np.uint8:
        raise DataError(f"{path} must be an 8 bit label image, got {raw.shape} {raw.dtype}")
    largest = int(raw[raw != IGNORE].max(initial=0))
    if largest >= known:
        raise DataError(f"{path} holds label {largest}; this set has 0..{known - 1} and {IGNORE}")
    return np.asarray(table[raw])


def _table(class_map: Sequence[int]) -> npt.NDArray[np.uint8]:
    table = np.full(256, IGNORE, np.uint8)
    table[: len(class_map)] = class_map
    return table


def _inside(events: Events, height: int, width: int) -> Events:
    """Return the events on the labelled part of a sensor, its top left."""
    if (events.height, events.width) == (height, width):
        return events
    kept = events[(events.y < height) & (events.x < width)]
    return replace(kept, width=width, height=height)


class _Dsec:
    """``<split>/<sequence>/events/left`` and ``semantic[/left]/<n>classes/data``."""

    def __init__(self, config: StreetSetConfig, classes: ClassTable) -> None:
        self._rectify = config.rectify
        folder = config.root / config.split
        if not folder.is_dir():
            raise DataError(f"folder {folder} does not exist; set root and split")
        found = sorted(p for p in folder.iterdir() if (p / "semantic").is_dir())
        if config.sequences:
            found = [folder / s for s in config.sequences]
        self._sequences: list[list[int]] = []
        self._labels: list[tuple[Path, Path, int]] = []
        for sequence in found:
            first = len(self._labels)
            self._labels += self._of_sequence(sequence, classes)
            self._sequences.append(list(range(first, len(self._labels))))
        self._open: dict[Path, Recording] = {}
        self._maps: dict[Path, npt.NDArray[np.int32] | None] = {}

    def __getstate__(self) -> dict[str, object]:
        # Workers open the files themselves.
        return {**self.__dict__, "_open": {}, "_maps": {}}

    def sequences(self) -> list[list[int]]:
        return self._sequences

    def _of_sequence(self, sequence: Path, classes: ClassTable) -> list[tuple[Path, Path, int]]:
        folder, self._known, self._table = _dsec_labels(sequence / "semantic", classes)
        times_path = sequence / "semantic" / "timestamps.txt"
        if not times_path.is_file():
            times_path = sequence / "semantic" / "left" / "timestamps.txt"
        try:
            times = [int(word) for word in times_path.read_text(encoding="utf-8").split()]
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {times_path}: {error}") from error
        files = sorted(folder.glob("*.png"))
        if len(files) != len(times):
            raise DataError(f"{folder} holds {len(files)} labels, {times_path} {len(times)} times")
        events = sequence / "events" / "left"
        return [(events, f, t) for f, t in zip(files, times, strict=True)]

    def window(self, number: int, window_us: int) -> KeptWindow:
        events_folder, path, t_end_us = self._labels[number]
        label = _checked_label(path, self._table, self._known)
        if events_folder not in self._open:
            self._open[events_folder] = open_recording(events_folder / "events.h5")
        recording = self._open[events_folder]
        parts = [b.events for b in recording.batches(t_end_us - window_us, t_end_us)]
        size = (recording.info.width, recording.info.height)
        events = Events.concatenate(parts) if parts else Events.empty(*size)
        events = self._rectified(events, events_folder)
        return KeptWindow(_inside(events, *label.shape), label, t_end_us - window_us, t_end_us)

    def _rectified(self, events: Events, folder: Path) -> Events:
        if folder not in self._maps:
            self._maps[folder] = _rectify_map(folder) if self._rectify else None
        place = self._maps[folder]
        if place is None:
            return events
        height, width = place.shape[:2]
        known = (events.y < height) & (events.x < width)
        moved = place[events.y[known], events.x[known]]
        x, y = moved[:, 0], moved[:, 1]
        seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        t_us, p = events.t_us[known][seen], events.p[known][seen]
        return Events.from_columns(x[seen], y[seen], t_us, p, width=width, height=height)


def _dsec_labels(semantic: Path, classes: ClassTable) -> tuple[Path, int, npt.NDArray[np.uint8]]:
    """Return the folder of labels, how many classes they have, and the table to ours."""
    for source in (ELEVEN_CLASSES, CITYSCAPES_CLASSES):
        count = len(source)
        same = source.names == classes.names
        if not same and classes.names not in (ELEVEN_CLASSES.names, SIX_CLASSES.names):
            continue
        class_map = range(count) if same else class_map_between(count, len(classes))
        if class_map is None:
            continue
        for parent in (semantic / "left", semantic):
            folder = parent / f"{count}classes" / "data"
            if folder.is_dir():
                return folder, count, _table(list(class_map))
    raise DataError(
        f"{semantic} holds no labels that map to {list(classes.names)}: expected "
        "[left/]11classes/data or [left/]19classes/data"
    )


def _rectify_map(folder: Path) -> npt.NDArray[np.int32]:
    """Return (H, W, 2) columns and rows, rounded: a whole event goes to one pixel."""
    path = folder / "rectify_map.h5"
    if not path.is_file():
        raise DataError(f"{path} is missing; rectify: false goes without (labels are rectified)")
    try:
        with opened(path) as file:
            place = np.asarray(file["rectify_map"][()], np.float64)
    except RecordingError as error:
        raise DataError(str(error)) from error
    if place.ndim != 3 or place.shape[2] != 2:
        raise DataError(f"{path} must hold (H, W, 2), got {place.shape}")
    place = np.where(np.isfinite(place), place, -1.0)
    return np.rint(np.clip(place, -1.0, 1 << 20)).astype(np.int32)


class _Ess:
    """``dir<n>`` with columns of events, an index, and masks by the number of their image."""

    def __init__(self, config: StreetSetConfig, classes: ClassTable) -> None:
        _six_only(classes)
        names = config.sequences or ESS_SPLITS.get(config.split)
        if names is None:
            raise ConfigError(
                f"split must be one of {', '.join(ESS_SPLITS)}, got {config.split!r}; or name the "
                "folders in sequences"
            )
        self._sequences: list[list[int]] = []
        self._labels: list[tuple[Path, Path, int, int]] = []
        for name in names:
            first = len(self._labels)
            self._labels += _ess_labels(config.root / name)
            self._sequences.append(list(range(first, len(self._labels))))

    def sequences(self) -> list[list[int]]:
        return self._sequences

    def window(self, number: int, window_us: int) -> KeptWindow:
        folder, path, t_end_ns, row_end = self._labels[number]
        label = _checked_label(path, _table(range(6)), 6)
        t_ns = np.memmap(folder / "events.dat.t", np.int64, "r")
        xyp = np.memmap(folder / "events.dat.xyp", np.int16, "r").reshape(-1, 3)
        if not row_end <= len(t_ns) == len(xyp):
            raise DataError(
                f"{folder} holds {len(t_ns)} times, {len(xyp)} events, and an index up to "
                f"{row_end}: a file is cut off"
            )
        first = int(np.searchsorted(t_ns[:row_end], t_end_ns - window_us * 1000))
        rows = np.array(xyp[first:row_end])
        t_end_us = -(-t_end_ns // 1000)
        events = Events.from_columns(
            rows[:, 0],
            rows[:, 1],
            np.array(t_ns[first:row_end]) // 1000,
            rows[:, 2] > 0,
            width=DDD17_SIZE[1],
            height=DDD17_SIZE[0],
        )
        return KeptWindow(_inside(events, *label.shape), label, t_end_us - window_us, t_end_us)


def _ess_labels(folder: Path) -> list[tuple[Path, Path, int, int]]:
    """Return (folder, mask, time in ns, end row of its events) of every mask."""
    masks = sorted(folder.glob("segmentation_masks/*.png"))
    indices = [folder / "index" / f"index_{n}ms.npy" for n in (50, 10, 250)]
    path = next((p for p in indices if p.is_file()), None)
    if not masks or path is None:
        raise DataError(
            f"{folder} holds no segmentation_masks/*.png, or no index/index_50ms.npy: is it a "
            "folder of ESS's ddd17_seg?"
        )
    try:
        index = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if index.ndim != 2 or index.shape[1] < 2:
        raise DataError(f"{path} must hold rows of time, end and start, got {index.shape}")
    found = []
    for mask in masks:
        number = mask.stem.rsplit("_", 1)[-1]
        row = int(number) - 1 if number.isdigit() else -1  # images are counted from 1
        if not 0 <= row < len(index):
            raise DataError(f"{mask} has no row in {path}, which holds {len(index)}")
        found.append((folder, mask, int(index[row, 0]), int(index[row, 1])))
    return sorted(found, key=lambda entry: entry[2])


class _EvSegNet:
    """Pictures of events: ``{train,test}/{labels,events}`` or ``{labels,events}/{train,test}``."""

    def __init__(self, config: StreetSetConfig, classes: ClassTable) -> None:
        _six_only(classes)
        ways = [
            (config.root / config.split / "labels", config.root / config.split / "events"),
            (config.root / "labels" / config.split, config.root / "events" / config.split),
        ]
        labels, events = next((w for w in ways if w[0].is_dir()), ways[0])
        self._files: list[tuple[Path, Path]] = []
        by_recording: dict[str, list[int]] = {}
        for path in sorted(labels.glob("*.png"), key=_export_order):
            recording = path.stem.rsplit("_", 1)[0]
            if config.sequences and recording not in config.sequences:
                continue
            by_recording.setdefault(recording, []).append(len(self._files))
            self._files.append((path, events / f"{path.stem}.npy"))
        self._sequences = list(by_recording.values())

    def sequences(self) -> list[list[int]]:
        return self._sequences

    def sample(self, number: int, spec: InputSpec) -> Sample:
        label_path, path = self._files[number]
        label = _checked_label(label_path, _table(range(6)), 6)
        try:
            planes = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        if planes.shape[:2] != label.shape or planes.ndim != 3 or planes.shape[2] < 2:
            raise DataError(
                f"{path} must be {(*label.shape, 6)}, as its label is, got {planes.shape}"
            )
        height, width = label.shape
        grid = spec.grid(height=height, width=width)
        if grid.factor != 1:
            raise ConfigError(f"max_pixels of the input must be at least {height * width}")
        network_input = np.zeros((spec.channels, grid.height, grid.width), np.float32)
        for channel in range(2):  # ON, then OFF
            counts = np.nan_to_num(np.asarray(planes[..., channel], np.float32))
            network_input[channel, :height, :width] = _share_of_maximum(counts)
        padded = np.full((grid.height, grid.width), IGNORE, np.uint8)
        padded[:height, :width] = label
        return Sample(network_input, padded, (network_input != 0).any(0).astype(np.uint8))


def _share_of_maximum(counts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return counts as ``counts2`` has them: 0..1 in 255 levels, 1 at the window's maximum.

    The release writes them as -1 (no event) .. 1.
    """
    counts = counts - min(float(counts.min(initial=0.0)), 0.0)
    top = float(counts.max(initial=0.0))
    if top <= 0:
        return np.zeros_like(counts)
    return np.asarray(np.floor(counts / top * 255 + 0.5) / 255, np.float32)


def _export_order(path: Path) -> tuple[str, int]:
    recording, _, number = path.stem.rpartition("_")
    return recording, int(number) if number.isdigit() else 0
