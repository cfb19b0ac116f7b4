"""Own recordings with own masks: a recording beside ``masks/<t_us>.png``.

Beside the masks there can be ``instances/<t_us>.png`` (8 or 16 bit, grey): the number of the thing
that each pixel shows, 0 where there is none.

``t_us`` is a moment of the recording's own clock, as `evdistill info` prints it. The window of a
mask ends at this moment.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.class_images import read_image
from evdistill_core.data.masks import counted, decoder_of
from evdistill_core.data.recording_index import (
    IndexedRecording,
    Segment,
    index_recording,
)
from evdistill_core.data.samples import Sample
from evdistill_core.data.simulated import KeptWindow, augmented_sample, file_word
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import ClassTable, excluded_mask
from evdistill_core.foundation.ranges import check_at_least
from evdistill_core.recordings.finding import find_recordings
from evdistill_core.representations import InputSpec

MASKS = "masks"
INSTANCES = "instances"
LABELS = "labels.mcap"  # of simulated recordings: the same labels as a bag; not a recording itself
_TIME = re.compile(r"-?\d+")


@dataclass(frozen=True, kw_only=True)
class RecordedMasksConfig:
    """Which recordings, and which of their masks.

    Attributes:
        paths: folders that hold one recording and ``masks/``, or folders of such folders.
        cache: folder of the index of the recordings (13 bytes an event, and the frames).
        skip: leave out the first N masks of every recording: two parts share no window.
        limit: use only the first N of what is left; 0: all.
    """

    paths: tuple[Path, ...]
    cache: Path = Path("cache/recordings")
    skip: int = 0
    limit: int = 0

    def __post_init__(self) -> None:
        """Refuse an empty list and negative numbers."""
        if not self.paths:
            raise ConfigError("recorded.paths needs at least one folder with a recording and masks")
        check_at_least(self, skip=0, limit=0)

    def describe(self) -> str:
        """Return in a few words what this is."""
        return f"recordings with masks: {', '.join(p.name for p in self.paths)}"


@dataclass(frozen=True)
class _Labelled:
    recording: int
    segment: Segment
    mask: Path
    t_end_us: int


class RecordedMasks:
    """Windows that end at the moments of masks, in order of time.

    Args:
        config: recordings and masks.
        spec: what the student is fed; its length decides how far a window reaches back.
        classes: what the values of the masks mean.
        seed: of the augmentation, with the index.
        augmentation: applied to the events.

    Attributes:
        name: of the set, usable as a file name.
        skipped: how many masks are not used, by reason.

    Raises:
        DataError: there are no masks, or none lies in its recording.
        RecordingError: a folder holds no recording.
    """

    def __init__(
        self,
        config: RecordedMasksConfig,
        spec: InputSpec,
        classes: ClassTable,
        *,
        seed: int = 0,
        augmentation: AugmentConfig | None = None,
    ) -> None:
        self._spec, self._seed, self._augmentation = spec, seed, augmentation
        self._decoder = decoder_of(classes)
        self._excluded = excluded_mask(classes.complete_for, classes)
        folders = [f for path in config.paths for f in labelled_recordings(path)]
        self.name = file_word(config.paths[0].resolve().name)
        self.skipped: Counter[str] = Counter()
        self._recordings = [index_recording(recording_in(f), config.cache) for f in folders]
        self._windows: list[_Labelled] = []
        for number, folder in enumerate(folders):
            times = self._times(folder)[config.skip :]
            for t_us, mask in times[: config.limit] if config.limit else times:
                self._place(number, mask, t_us)
        if not self._windows:
            spans = ", ".join(_span_text(r) for r in self._recordings)
            masks = counted(self.skipped.total(), "mask")
            where = ", ".join(map(str, folders))
            raise DataError(
                f"none of {masks} in {where} lies in its recording ({spans}), at least "
                f"{spec.span_us} us after the beginning of a stretch without a gap: a mask has its "
                "name from the microsecond at which its window ends, on the clock that `evdistill "
                "info` prints"
            )

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def notes(self) -> list[str]:
        """What must be said about masks that are not used, one line a reason."""
        return [
            f"{counted(count, 'mask')} not used: {reason}" for reason, count in self.skipped.items()
        ]

    def sample(self, index: int) -> Sample:
        """Return the window of this index; indices above the set's size begin again.

        Raises:
            DataError: the mask is damaged, has another size than the sensor, or values without a
                meaning.
        """
        window = self.window(index % len(self._windows))
        sample = augmented_sample(window, self._spec, self._augmentation, (self._seed, index))
        return replace(sample, excluded=self._excluded)

    def label(self, number: int) -> npt.NDArray[np.uint8]:
        """Return class ids, 254 or 255 of a mask, (H, W) uint8 (see ``sample`` for errors)."""
        return self._decoder.read(self._windows[number].mask)

    def window(self, number: int) -> KeptWindow:
        """Return events and labels of a mask (see ``sample`` for errors)."""
        found = self._windows[number]
        t_start_us = found.t_end_us - self._spec.span_us
        recording = self._recordings[found.recording]
        label = self.label(number)
        size = (found.segment.height, found.segment.width)
        if label.shape != size:
            raise DataError(
                f"{found.mask} is {label.shape[1]}x{label.shape[0]}, the sensor of "
                f"{recording.source} is {size[1]}x{size[0]}: a mask has one pixel for each of the "
                "sensor"
            )
        events = recording.events(found.segment, t_start_us, found.t_end_us)
        numbers = self._instances(found.mask, size)
        return KeptWindow(events, label, t_start_us, found.t_end_us, instances=numbers)

    @staticmethod
    def _instances(mask: Path, size: tuple[int, int]) -> npt.NDArray[np.uint16] | None:
        path = mask.parent.parent / INSTANCES / mask.name
        if not path.is_file():
            return None
        stored = read_image(path, cv2.IMREAD_UNCHANGED)
        if stored.dtype not in (np.uint8, np.uint16) or stored.shape != size:
            raise DataError(
                f"{path} must be a grey image of 8 or 16 bits and {size[1]}x{size[0]} pixels, as "
                f"its mask is; it is {stored.dtype} {stored.shape}"
            )
        return stored.astype(np.uint16)

    def _times(self, folder: Path) -> list[tuple[int, Path]]:
        """Return time and file of every mask, sorted by time."""
        found = []
        for path in _masks_in(folder):
            if _TIME.fullmatch(path.stem):
                found.append((int(path.stem), path))
            else:
                self.skipped["not named after a time in microseconds"] += 1
        return sorted(found)

    def _place(self, number: int, mask: Path, t_us: int) -> None:
        segments = self._recordings[number].segments
        # Before the first and after the last event a sensor was quiet, not off: a little of a
        # window may lie there.
        quiet_us = self._spec.span_us // 10
        inside = [s for s in segments if s.t_start_us < t_us <= s.t_end_us + quiet_us]
        if not inside:
            self.skipped["outside of the recording, or in a gap of it"] += 1
            return
        whole = [s for s in inside if t_us - self._spec.span_us >= s.t_start_us - quiet_us]
        if not whole:
            span_ms = self._spec.span_us / 1000
            self.skipped[f"less than {span_ms:g} ms after the beginning or a gap"] += 1
            return
        self._windows.append(_Labelled(number, whole[-1], mask, t_us))


def labelled_recordings(path: Path) -> list[Path]:
    """Return the folders that hold a recording and ``masks/``: a path itself, or those in it.

    Raises:
        DataError: there are none.
    """
    found = _labelled(path)
    if not found:
        raise DataError(
            f"{path} holds no labelled recording: expected a recording beside a folder {MASKS} "
            "with <t_us>.png, or folders of this kind"
        )
    return found


def holds_labelled_recordings(path: Path) -> bool:
    """Return whether ``labelled_recordings`` finds any."""
    return bool(_labelled(path))


def _labelled(path: Path) -> list[Path]:
    if (path / MASKS).is_dir():
        return [path]
    return sorted(p for p in path.iterdir() if (p / MASKS).is_dir()) if path.is_dir() else []


def mask_files(paths: Sequence[Path]) -> list[Path]:
    """Return all masks below folders of ``RecordedMasksConfig``.

    Raises:
        DataError: a folder holds no labelled recording.
    """
    folders = [f for path in paths for f in labelled_recordings(path)]
    return [p for folder in folders for p in _masks_in(folder)]


def _masks_in(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / MASKS).glob("*.png") if not p.name.startswith("."))


def recording_in(folder: Path) -> Path:
    """Return the one recording of a folder; labels of a simulated one do not count.

    Raises:
        DataError: it holds several.
        RecordingError: it holds none.
    """
    found = [path for path in find_recordings(folder) if path.name != LABELS]
    if len(found) > 1:
        raise DataError(
            f"{folder} holds {len(found)} recordings ({', '.join(p.name for p in found)}), and the "
            "masks belong to one: give each a folder of its own"
        )
    return found[0]


def _span_text(recording: IndexedRecording) -> str:
    first = min(s.t_start_us for s in recording.segments)
    last = max(s.t_end_us for s in recording.segments)
    return f"{recording.source.name}: {first} .. {last} us"
