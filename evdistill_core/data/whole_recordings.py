"""Recognition sets: every file is one short recording, and one window.

N-MNIST has 70 000 files of a third of a second, so nothing is indexed on disk: a file is read when
its window is asked for (a few milliseconds).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.samples import Sample, Shuffle
from evdistill_core.data.simulated import KeptWindow, augmented_sample, refuse_sequences
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import IGNORE, ClassTable, lookup_table
from evdistill_core.foundation.ranges import check_at_least
from evdistill_core.recordings.finding import find_recordings
from evdistill_core.recordings.opening import open_recording
from evdistill_core.representations import InputSpec

# Read without a look into each: 60 000 of them are opened often enough.
PLAIN_SUFFIXES = (".bin", ".bs2", ".npy")
LEAST_SECONDS = 100.0  # EST's arrays: a time below this is in seconds, above in microseconds


@dataclass(frozen=True, kw_only=True)
class RecognitionSetConfig:
    """A labelled set of short recordings.

    Attributes:
        layout: ``class-folders``: ``root/<split>/<class>/*`` (N-MNIST: Train, Test; EST's release
            of N-Caltech101: training, validation, testing; ``split: .`` for the original
            N-Caltech101); ``list``: ``root/events/<number>.bs2`` and ``root/labels.txt`` with
            lines of number and class.
        root: folder.
        split: folder below root.
        class_map: folder name to class name; what it leaves out is ignored.
        skip: leave out the first N files.
        limit: use only the first N of what is left; 0: all.
    """

    root: Path
    layout: Literal["class-folders", "list"] = "class-folders"
    split: str = "."
    class_map: dict[str, str] | None = None
    skip: int = 0
    limit: int = 0

    def __post_init__(self) -> None:
        """Refuse negative numbers of files."""
        check_at_least(self, skip=0, limit=0)


class RecognitionSet:
    """Labelled windows, one a file, from its first event on; every round in another order.

    Args:
        config: which files.
        spec: what the student is fed; what a file holds after ``window_us`` is left out.
        classes: what the labels mean.
        seed: of the augmentation, with the index.
        augmentation: applied to the events.

    Raises:
        DataError: files are missing, or a class has no place in the table.
    """

    def __init__(
        self,
        config: RecognitionSetConfig,
        spec: InputSpec,
        classes: ClassTable,
        *,
        seed: int = 0,
        augmentation: AugmentConfig | None = None,
    ) -> None:
        refuse_sequences(spec, "a file of recognition is one window")
        self._spec, self._seed, self._augmentation = spec, seed, augmentation
        found = _listed(config) if config.layout == "list" else _in_class_folders(config)
        names = tuple(sorted({name for _, name in found}))
        unknown = sorted(set(names) - set(classes.names))
        if unknown and config.class_map is None:
            raise DataError(
                f"{config.root} has the class {unknown[0]!r}, which is none of "
                f"{list(classes.names)}; give a class_map (what it leaves out is ignored)"
            )
        wanted = config.class_map if config.class_map is not None else {n: n for n in names}
        table = lookup_table(names, {k: v for k, v in wanted.items() if k in names}, classes)
        known = [(path, int(table[names.index(name)])) for path, name in found]
        known = [(path, k) for path, k in known if k != IGNORE][config.skip :]
        self.files = known[: config.limit] if config.limit else known
        if not self.files:
            raise DataError(f"no labelled recording left in {config.root} ({config.split})")
        self._shuffle = Shuffle(len(self.files), seed=seed)

    def __len__(self) -> int:
        return len(self.files)

    def sample(self, index: int) -> Sample:
        """Return the window of this index; as many as there are files name each file once."""
        path, class_id = self.files[self._shuffle.at(index)]
        events, t_start_us = read_whole(path, self._spec.window_us)
        label = np.full((events.height, events.width), class_id, np.uint8)
        return augmented_sample(
            KeptWindow(events, label, t_start_us, t_start_us + self._spec.window_us),
            self._spec,
            self._augmentation,
            (self._seed, index),
            is_recognition=True,
        )


def whole_files(path: Path) -> list[Path]:
    """Return the recordings below a folder (one level of folders deep, as by class), in order.

    Numbers in names count as numbers: 2.bs2 comes before 10.bs2.

    Raises:
        DataError: there are none.
    """
    if path.is_file():
        return [path]
    folders = [path, *(p for p in path.iterdir() if p.is_dir())] if path.is_dir() else []
    found = [p for f in folders for p in f.iterdir() if p.suffix.lower() in PLAIN_SUFFIXES]
    return sorted(found, key=_natural) if found else find_recordings(path)


def read_whole(path: Path, window_us: int) -> tuple[Events, int]:
    """Return the events of a file within ``window_us`` of its first, and the time of the first.

    Raises:
        DataError: it holds no events.
        RecordingError: it cannot be read.
    """
    if path.suffix.lower() == ".npy":
        events = _read_npy(path)
    else:
        with open_recording(path) as recording:
            parts = [batch.events for batch in recording.batches() if len(batch.events)]
        events = Events.concatenate(parts) if parts else Events.empty(1, 1)
    if not len(events):
        raise DataError(f"{path} holds no events")
    if (np.diff(events.t_us) < 0).any():
        events = events[np.argsort(events.t_us, kind="stable")]
    t_start_us = int(events.t_us[0])
    return events[events.t_us < t_start_us + window_us], t_start_us


def _read_npy(path: Path) -> Events:
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "fiu" or not len(rows):
        raise DataError(f"{path} must hold N x 4 numbers x, y, t, p; got {rows.shape} {rows.dtype}")
    x, y, t, p = rows.T.astype(np.float64)
    if not np.isfinite(rows.sum(dtype=np.float64)) or min(x.min(), y.min()) < 0:
        raise DataError(f"{path} holds coordinates or times that are no numbers, or below 0")
    in_seconds = rows.dtype.kind == "f" and float(t.max() - t.min()) < LEAST_SECONDS
    t_us = np.rint(t * 1e6 if in_seconds else t).astype(np.int64)
    # N-Caltech101 in full; where an image is larger, it tells the size itself.
    width, height = max(240, int(x.max()) + 1), max(180, int(y.max()) + 1)
    return Events.from_columns(
        x.astype(np.int64), y.astype(np.int64), t_us, p > 0, width=width, height=height
    )


def _in_class_folders(config: RecognitionSetConfig) -> list[tuple[Path, str]]:
    folder = config.root / config.split
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist; set root and split")
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = [(file, c.name) for c in classes for file in sorted(c.iterdir(), key=_natural)]
    return [(file, name) for file, name in found if not file.name.startswith(".")]


def _listed(config: RecognitionSetConfig) -> list[tuple[Path, str]]:
    path = config.root / "labels.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    found = []
    for line in lines:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise DataError(f"{path}: expected 'number class', got {line!r}")
        file = config.root / "events" / f"{words[0]}.bs2"
        if not file.is_file():
            raise DataError(f"{path} names {file}, which does not exist")
        found.append((file, words[1]))
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", f"{path.parent.name}/{path.name}")
    return [(int(p), "") if p.isdigit() else (-1, p) for p in pieces]
