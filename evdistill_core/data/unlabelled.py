"""Unlabelled windows of the user's own camera: the target side of the distillation.

Windows are cut anywhere in time, represented whole, as on the robot, and cropped, mirrored or
inverted afterwards: these changes commute with the representation, so a crop of a large sensor
looks exactly like the same place of the whole.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from evdistill_core.data.recording_index import (
    IndexedRecording,
    Segment,
    index_recording,
)
from evdistill_core.data.simulated import on_grid, refuse_sequences, represent_sequence
from evdistill_core.data.whole_recordings import read_whole, whole_files
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.ranges import check_at_least, check_crop, check_ranges
from evdistill_core.foundation.reasons import sentences
from evdistill_core.recordings.finding import find_recordings
from evdistill_core.representations import InputSpec

_log = logging.getLogger(__name__)
Array = npt.NDArray[np.float32]
T = TypeVar("T", bound=np.generic)
REDRAWS = 8
# Events of whole files that stay in memory (13 bytes each): opening one takes milliseconds.
KEPT_EVENTS = 8_000_000


@dataclass(frozen=True, kw_only=True)
class RecordingsConfig:
    """Which recordings, which part of them, and what is changed.

    Attributes:
        paths: recordings, or folders of recordings.
        cache: folder of the index (13 bytes an event, and the frames).
        start_s: leave out what lies before this time in every recording.
        end_s: leave out what lies after it; 0: to the end. Held-out spans are made by these two.
        min_events: windows with fewer events are drawn again, at most 8 times; a silent window
            teaches nothing.
        frame_within_us: a window with a frame at most this long before its end ends at that frame
            instead, so that both show the same moment, and has it; 0: no frames are looked for.
        crop: (height, width) of a random crop of the input; (0, 0): the whole.
        flip: probability of a left-right mirror.
        invert: probability of swapped polarities.
        dropout: largest share of events that is dropped; the share is drawn from 0..dropout.
        whole: every file is one window, from its first event on (N-MNIST, N-Caltech101); files may
            be shorter than a window, and are read when asked for, without an index.
        skip: leave out the first N files (``whole``).
        limit: use only the first N of what is left; 0: all (``whole``).
    """

    paths: tuple[Path, ...]
    cache: Path = Path("cache/recordings")
    start_s: float = 0.0
    end_s: float = 0.0
    min_events: int = 500
    frame_within_us: int = 0
    crop: tuple[int, int] = (0, 0)
    flip: float = 0.5
    invert: float = 0.0
    dropout: float = 0.0
    whole: bool = False
    skip: int = 0
    limit: int = 0

    def __post_init__(self) -> None:
        """Refuse an empty list and numbers out of range."""
        if not self.paths:
            raise ConfigError("recordings.paths needs at least one recording or folder")
        check_ranges(self, flip=(0, 1), invert=(0, 1), dropout=(0, 1), crop=(0, 8192))
        check_at_least(self, start_s=0, end_s=0, min_events=0, frame_within_us=0, skip=0, limit=0)
        check_crop(self.crop)
        if self.whole and (self.start_s or self.end_s or self.frame_within_us):
            raise ConfigError("whole files have no start_s, end_s or frames: leave them at 0")
        if not self.whole and (self.skip or self.limit):
            raise ConfigError("skip and limit count whole files: set whole, or use start_s, end_s")


@dataclass(frozen=True, eq=False)
class UnlabelledSample:
    """One window without labels.

    Attributes:
        input: (C, H, W) float32, what ``represent`` made of the events.
        active: (H, W) uint8, 1 where an event fired.
        valid: (H, W) uint8, 1 on the sensor, 0 on padding.
        frame: (1, H, W) float32 in -1..1, the newest frame before the window's end; zeros without.
        has_frame: whether there is one.
        past: (T - 1, C, H, W) float32, the windows before it, oldest first; None: there are none.
    """

    input: Array
    active: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.uint8]
    frame: Array
    has_frame: bool
    past: Array | None = None


@dataclass(frozen=True)
class _Span:
    recording: int
    segment: Segment
    t_start_us: int
    t_end_us: int


class UnlabelledWindows:
    """Windows by index: the same index always gives the same window, anywhere in time.

    Args:
        config: recordings and changes.
        spec: what the student is fed.
        seed: of all draws, with the index.

    Raises:
        RecordingError: a recording cannot be read.
        DataError: nothing long enough for a window is left; frames are wanted and there are none.
    """

    def __init__(self, config: RecordingsConfig, spec: InputSpec, *, seed: int) -> None:
        self._config, self._spec, self._seed = config, spec, seed
        self.paths = [p for path in config.paths for p in find_recordings(path)]
        self._recordings = [index_recording(p, config.cache) for p in self.paths]
        if config.frame_within_us:
            for recording in self._recordings:
                for said in sentences("frame", recording.left_out_frames):
                    _log.warning("%s: %s", recording.source.name, said)
        self._spans = [s for i in range(len(self._recordings)) for s in self._usable(i)]
        if not self._spans:
            raise DataError(
                f"no stretch of {spec.span_us / 1000:g} ms without a gap in "
                f"{[p.name for p in self.paths]} (start_s {config.start_s}, end_s {config.end_s})"
            )
        if config.frame_within_us and not any(len(r.frame_t_us) for r in self._recordings):
            # The paired terms would be zero at every step, and nobody would know why.
            raise DataError(
                f"frames are wanted (frame_within_us {config.frame_within_us}) and none of "
                f"{[p.name for p in self.paths]} has any: give recordings with frames, or set "
                "frame_within_us and the terms of frames to 0"
            )
        starts = [s.t_end_us - s.t_start_us - spec.span_us + 1 for s in self._spans]
        self._edges = np.cumsum(starts)

    def __len__(self) -> int:
        return sum((s.t_end_us - s.t_start_us) // self._spec.window_us for s in self._spans)

    def sample(self, index: int) -> UnlabelledSample:
        """Return the window of this index (>= 0)."""
        rng = np.random.default_rng([self._seed & 0xFFFFFFFF, index & 0xFFFFFFFF, 11])
        span, t_start_us, events = self._draw(rng)
        t_end_us = t_start_us + self._spec.span_us
        if self._config.dropout > 0:
            events = events[rng.random(len(events)) >= rng.uniform(0, self._config.dropout)]
        frame = None
        if self._config.frame_within_us:
            frame = self._recordings[span.recording].frame_before(
                t_end_us, within_us=self._config.frame_within_us
            )
        whole = _whole(events, self._spec, t_start_us, frame)
        return changed(whole, self._config, self._spec, rng)

    def _usable(self, number: int) -> list[_Span]:
        config, recording = self._config, self._recordings[number]
        first_us = min(s.t_start_us for s in recording.segments)
        low = first_us + round(config.start_s * 1e6)
        high = first_us + round(config.end_s * 1e6) if config.end_s else (1 << 62)
        spans = [
            _Span(number, s, max(s.t_start_us, low), min(s.t_end_us, high))
            for s in recording.segments
        ]
        return [s for s in spans if s.t_end_us - s.t_start_us >= self._spec.span_us]

    def _draw(self, rng: np.random.Generator) -> tuple[_Span, int, Events]:
        best: tuple[_Span, int, Events] | None = None
        for _ in range(REDRAWS):
            place = int(rng.integers(self._edges[-1]))
            number = int(np.searchsorted(self._edges, place, side="right"))
            span = self._spans[number]
            t_start_us = span.t_start_us + place - (int(self._edges[number - 1]) if number else 0)
            t_start_us = self._to_frame(span, t_start_us)
            recording: IndexedRecording = self._recordings[span.recording]
            events = recording.events(span.segment, t_start_us, t_start_us + self._spec.span_us)
            if best is None or len(events) > len(best[2]):
                best = (span, t_start_us, events)
            if len(events) >= self._config.min_events:
                break
        assert best is not None  # REDRAWS is above 0
        return best

    def _to_frame(self, span: _Span, t_start_us: int) -> int:
        """Return the start of the window that ends at the newest frame, if it is near enough."""
        within_us = self._config.frame_within_us
        if not within_us:
            return t_start_us
        t_end_us = t_start_us + self._spec.span_us
        frame_us = self._recordings[span.recording].last_frame_us(t_end_us, within_us=within_us)
        if frame_us is None or frame_us - self._spec.span_us < span.t_start_us:
            return t_start_us
        return frame_us - self._spec.span_us


def changed(
    whole: UnlabelledSample, config: RecordingsConfig, spec: InputSpec, rng: np.random.Generator
) -> UnlabelledSample:
    """Return a window mirrored, inverted and cropped as configured.

    A crop without an event is put around one, where the window has any: instance norms multiply
    the gradient of a silent window by hundreds, layer after layer, until it is not finite.
    """
    mirrored, inverted = rng.random() < config.flip, rng.random() < config.invert
    # Sensor pixels start at the top left; what lies right of and below them is padding.
    rows, columns = (int(n) + 1 for n in np.argwhere(whole.valid)[-1])
    size = config.crop if config.crop != (0, 0) else whole.valid.shape
    lit = (whole.input[:, :rows, :columns] != 0).any(0)
    top, left = _corner(lit[:, ::-1] if mirrored else lit, size, rng)

    def change(plane: npt.NDArray[T]) -> npt.NDArray[T]:
        sensor = plane[:, :rows, :columns]
        sensor = sensor[:, :, ::-1] if mirrored else sensor
        part = sensor[:, top : top + size[0], left : left + size[1]]
        return np.pad(part, [(0, 0), (0, size[0] - part.shape[1]), (0, size[1] - part.shape[2])])

    def seen(network_input: Array) -> Array:
        given = change(network_input)
        return invert_polarity(given, spec) if inverted else given

    return UnlabelledSample(
        seen(whole.input),
        change(whole.active[None])[0],
        change(whole.valid[None])[0],
        change(whole.frame),
        whole.has_frame,
        np.stack([seen(window) for window in whole.past]) if whole.past is not None else None,
    )


def _corner(
    lit: npt.NDArray[np.bool_], size: tuple[int, ...], rng: np.random.Generator
) -> tuple[int, int]:
    """Return (top, left) of a crop: anywhere, but around a lit cell if it would hold none."""
    room = [max(0, n - m) for n, m in zip(lit.shape, size, strict=True)]
    corner = [int(rng.random() * (n + 1)) for n in room]
    part = lit[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
    cells = np.argwhere(lit)
    if not part.any() and len(cells):
        for axis, cell in enumerate(cells[rng.integers(len(cells))].tolist()):
            low, high = max(0, cell - size[axis] + 1), min(cell, room[axis])
            corner[axis] = int(rng.integers(low, high + 1))
    return corner[0], corner[1]


class WholeFiles:
    """Windows by index, one a file: the same index always gives the same file and changes.

    Args:
        config: files and changes.
        spec: what the student is fed.
        seed: of all draws, with the index.

    Raises:
        DataError: no file is left.
    """

    def __init__(self, config: RecordingsConfig, spec: InputSpec, *, seed: int) -> None:
        refuse_sequences(spec, "every whole file is one window")
        self._config, self._spec, self._seed = config, spec, seed
        files = [p for path in config.paths for p in whole_files(path)][config.skip :]
        self.paths = files[: config.limit] if config.limit else files
        if not self.paths:
            raise DataError(f"no recording left in {[str(p) for p in config.paths]}")
        self._kept: dict[Path, tuple[Events, int]] = {}
        self._room = KEPT_EVENTS

    def __len__(self) -> int:
        return len(self.paths)

    def sample(self, index: int) -> UnlabelledSample:
        """Return the window of this index (>= 0)."""
        rng = np.random.default_rng([self._seed & 0xFFFFFFFF, index & 0xFFFFFFFF, 13])
        path = self.paths[int(rng.integers(len(self.paths)))]
        events, t_start_us = self._read(path)
        if self._config.dropout > 0:
            events = events[rng.random(len(events)) >= rng.uniform(0, self._config.dropout)]
        return changed(_whole(events, self._spec, t_start_us, None), self._config, self._spec, rng)

    def __getstate__(self) -> dict[str, object]:
        # Workers read for themselves instead of receiving what was read through a pipe.
        return {**self.__dict__, "_kept": {}, "_room": KEPT_EVENTS}

    def _read(self, path: Path) -> tuple[Events, int]:
        if path in self._kept:
            return self._kept[path]
        read = read_whole(path, self._spec.window_us)
        if len(read[0]) <= self._room:
            self._kept[path] = read
            self._room -= len(read[0])
        return read


def open_windows(
    config: RecordingsConfig, spec: InputSpec, *, seed: int
) -> UnlabelledWindows | WholeFiles:
    """Return the windows that a configuration means (see the two classes)."""
    kind = WholeFiles if config.whole else UnlabelledWindows
    return kind(config, spec, seed=seed)


def invert_polarity(network_input: Array, spec: InputSpec) -> Array:
    """Return the input of the same window with ON and OFF swapped (scenes of inverse contrast)."""
    return spec.representation.with_inverted_polarity(network_input)


def _whole(
    events: Events, spec: InputSpec, t_start_us: int, frame: npt.NDArray[np.uint8] | None
) -> UnlabelledSample:
    grid = spec.grid(height=events.height, width=events.width)
    windows = represent_sequence(events, spec, t_start_us, t_start_us + spec.span_us)
    network_input = windows[-1]
    valid = np.zeros((grid.height, grid.width), np.uint8)
    valid[: grid.used_height, : grid.used_width] = 1
    nothing = np.zeros((1, *valid.shape), np.float32)
    picture = nothing if frame is None else on_grid(frame, spec, valid.shape)
    active = (network_input != 0).any(0).astype(np.uint8)
    past = windows[:-1] if spec.sequence > 1 else None
    return UnlabelledSample(network_input, active, valid, picture, frame is not None, past=past)
