"""Windows of recordings as a map-style torch Dataset: by index, for DataLoader and workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from evdistill_core.data.recording_index import (
    IndexedRecording,
    Segment,
    index_recording,
)
from evdistill_core.data.simulated import represent_sequence
from evdistill_core.events.window import Window
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.recordings.finding import find_recordings
from evdistill_core.representations import InputSpec

Paths = str | Path | Sequence[str | Path]
Transform = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Stretch:
    """The windows of one stretch of a recording that no break interrupts."""

    recording: int
    segment: Segment
    t_start_us: int
    t_end_us: int
    count: int


class WindowDataset(Dataset[torch.Tensor]):
    """Inputs of a student, window by window: item ``i`` is always the same window.

    Each recording is read once into an index on disk; after that any window is read directly, by
    any number of workers. No window spans a break of a stream.

    Args:
        paths: a recording, a folder of recordings, or a list of both.
        input: what is made of a window, for example ``student.input``.
        stride_us: sensor time between the starts of windows; None: windows follow one another.
        jitter: move each window by a random time below the stride, drawn again for each epoch (see
            ``set_epoch``); windows stay inside their stretch.
        seed: of the jitter.
        start_s: leave out what lies before this time in every recording, seconds.
        end_s: leave out what lies after it; None: to the end.
        min_events: leave out windows with fewer events, at jitter 0.
        transform: applied to every item.
        cache: folder of the index: 13 bytes an event.
        reading: how to read the recordings: what ``open_recording`` takes besides the path, for
            example ``{"columns": "xypt", "size": "640x480"}``.

    Raises:
        RecordingError: a recording cannot be read.
        ConfigError: a number out of range.
        DataError: no window is left, or the recordings have sensors of different size and there is
            no ``transform`` to make their items equal.
    """

    def __init__(  # noqa: PLR0913 - options by name
        self,
        paths: Paths,
        input: InputSpec,
        *,
        stride_us: int | None = None,
        jitter: bool = False,
        seed: int = 0,
        start_s: float = 0.0,
        end_s: float | None = None,
        min_events: int = 0,
        transform: Transform | None = None,
        cache: str | Path = "cache/recordings",
        reading: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(input, InputSpec):
            raise ConfigError(
                f"input must be an InputSpec, for example student.input, got {type(input).__name__}"
            )
        self.input = input
        self._stride_us = input.window_us if stride_us is None else stride_us
        if self._stride_us < 1:
            raise ConfigError(f"stride_us must be at least 1, got {stride_us}")
        if not 0 <= start_s < (float("inf") if end_s is None else end_s):
            raise ConfigError(f"start_s must be at least 0 and below end_s, got {start_s}, {end_s}")
        self._jitter, self._seed, self._epoch = jitter, seed, 0
        self._transform = transform
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        if not given:
            raise DataError("no recording was given: name one, a folder, or a list of both")
        self.paths = [
            p for path in given for p in find_recordings(Path(path).expanduser(), reading)
        ]
        self._recordings = [index_recording(p, Path(cache), reading) for p in self.paths]
        self._stretches = [
            s for i in range(len(self.paths)) for s in self._usable(i, start_s, end_s)
        ]
        self._ends = np.cumsum([s.count for s in self._stretches])
        self._chosen: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        if min_events and len(self):
            counts = [len(self.window(i, moved=False).events) for i in range(len(self))]
            self._chosen = np.flatnonzero(np.array(counts) >= min_events)
        self._check()

    def __len__(self) -> int:
        if self._chosen is not None:
            return len(self._chosen)
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return one input.

        Args:
            index: 0 .. len - 1; negative ones count from the end.

        Returns:
            (C, H, W) float32; (T, C, H, W) for an input of several windows in a row
            (``input.sequence``).

        Raises:
            IndexError: the index is out of range.
        """
        window = self.window(index)
        windows = represent_sequence(window.events, self.input, window.t_start_us, window.t_end_us)
        item = torch.from_numpy(windows if self.input.sequence > 1 else windows[-1])
        return item if self._transform is None else self._transform(item)

    def window(self, index: int, *, moved: bool = True) -> Window:
        """Return the events that an item is made of; ``moved=False``: without the jitter."""
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"index {index} is out of range: there are {count} windows")
        number = index % count
        place = number if self._chosen is None else int(self._chosen[number])
        k = int(np.searchsorted(self._ends, place, side="right"))
        stretch = self._stretches[k]
        before = int(self._ends[k - 1]) if k else 0
        t_start_us = stretch.t_start_us + (place - before) * self._stride_us
        if self._jitter and moved:
            t_start_us = self._moved(number, t_start_us, stretch.t_end_us)
        t_end_us = t_start_us + self.input.span_us
        events = self._recordings[stretch.recording].events(stretch.segment, t_start_us, t_end_us)
        return Window(events, t_start_us, t_end_us, number, k)

    def recording_of(self, index: int) -> Path:
        """Return the recording that an item comes from."""
        stretch = self.window(index, moved=False).stretch
        return self.paths[self._stretches[stretch].recording]

    def set_epoch(self, epoch: int) -> None:
        """Draw the jitter of another epoch; call it before each pass over the DataLoader."""
        self._epoch = epoch

    def _moved(self, number: int, t_start_us: int, t_end_us: int) -> int:
        room_us = min(self._stride_us, t_end_us - t_start_us - self.input.span_us + 1)
        rng = np.random.default_rng([self._seed & 0xFFFFFFFF, self._epoch, number])
        return t_start_us + int(rng.integers(max(1, room_us)))

    def _usable(self, number: int, start_s: float, end_s: float | None) -> list[_Stretch]:
        recording: IndexedRecording = self._recordings[number]
        first_us = recording.segments[0].t_start_us
        low = first_us + round(start_s * 1e6)
        high = (1 << 62) if end_s is None else first_us + round(end_s * 1e6)
        found = []
        for segment in recording.segments:
            begin, end = max(segment.t_start_us, low), min(segment.t_end_us, high)
            count = (end - begin - self.input.span_us) // self._stride_us + 1
            if count > 0:
                found.append(_Stretch(number, segment, begin, end, count))
        return found

    def _check(self) -> None:
        names = ", ".join(p.name for p in self.paths[:5])
        if not len(self):
            raise DataError(
                f"no window of {self.input.span_us / 1000:g} ms is left in {names}: check start_s, "
                "end_s and min_events"
            )
        sizes = {(s.segment.width, s.segment.height) for s in self._stretches}
        shapes = {self.input.shape(height=h, width=w) for w, h in sizes}
        if len(shapes) > 1 and self._transform is None:
            told = ", ".join(f"{w}x{h}" for w, h in sorted(sizes))
            raise DataError(
                f"the recordings have sensors of different size ({told}): take one size a data "
                "set, or give a transform that makes all items equal"
            )
