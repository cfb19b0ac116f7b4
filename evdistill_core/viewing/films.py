"""A recording as a video or a sheet of pictures: events or a time surface, masks and boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evdistill_core.drawing.colours import (
    Image,
    blank,
    enlarge,
    fit,
    paint_events,
    polarity_picture,
    screen_factor,
    to_bgr,
)
from evdistill_core.drawing.films import FilmWriter
from evdistill_core.drawing.overlay import legend
from evdistill_core.drawing.sheets import contact_sheet, write_image
from evdistill_core.events.array import Events
from evdistill_core.events.window import Window
from evdistill_core.foundation.errors import ConfigError, RecordingError
from evdistill_core.foundation.reasons import sentences
from evdistill_core.perception.messages import MAX_PICTURE_AGE_NS
from evdistill_core.recordings.base import Frame, Recording
from evdistill_core.viewing.result_overlays import ResultOverlays

KINDS = ("events", "surface", "images")
SUFFIXES = (".mp4", ".png")


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """What to show.

    Attributes:
        kind: ``events``, the last polarity of each pixel in a window; ``surface``, the time since
            each pixel's last event, fading exponentially; or ``images``, the camera's latest image
            at the window's end (the events where it is missing or older than 0.5 s).
        window_us: sensor time of one picture.
        decay_us: time constant of the surface.
        start_us: begin this long after the first event.
        end_us: stop this long after the first event; ``None`` shows all.
        speed: of the video against the sensor's time.
        scale: whole factor of enlargement; ``None`` enlarges small sensors to at most 800 pixels on
            their longer side.
        pictures: on a sheet.
    """

    kind: str = "events"
    window_us: int = 33_333
    decay_us: int = 30_000
    start_us: int = 0
    end_us: int | None = None
    speed: float = 1.0
    scale: int | None = None
    pictures: int = 12

    def __post_init__(self) -> None:
        """Refuse what would only fail after reading."""
        if self.kind not in KINDS:
            raise ConfigError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        for name in ("window_us", "decay_us", "scale", "pictures"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if not self.speed > 0:
            raise ConfigError(f"speed must be above 0, got {self.speed}")
        if self.start_us < 0 or (self.end_us is not None and self.end_us <= self.start_us):
            raise ConfigError(
                f"start must be at least 0 and end after it, got {self.start_us} .. {self.end_us}"
            )


@dataclass(frozen=True)
class ViewResult:
    """What a view shows.

    Attributes:
        windows: that were drawn.
        events: in them.
        warnings: what it lacks, one sentence for each reason.
    """

    windows: int
    events: int
    warnings: tuple[str, ...]


def view(
    recording: Recording,
    target: Path,
    config: ViewConfig | None = None,
    *,
    results: Recording | None = None,
    progress: Callable[[int], None] | None = None,
) -> ViewResult:
    """Write a video (``.mp4``) or a sheet of evenly chosen pictures (``.png``).

    Args:
        recording: open, with events.
        target: the file; it appears only when everything is written.
        config: what to show.
        results: open bag with a mask topic (``.../mask``, mono8) or detections of the same camera,
            such as ``masks.mcap`` of ``evdistill run``; they are laid over the events.
        progress: called with the number of events so far.

    Returns:
        How many windows are shown, and what was damaged or left out on the way.

    Raises:
        RecordingError: no events in the span; no camera images, where those are asked for.
        ConfigError: the target is neither .mp4 nor .png.
    """
    config = config or ViewConfig()
    if target.suffix not in SUFFIXES:
        raise ConfigError(f"a view ends in {' or '.join(SUFFIXES)}, got '{target.name}'")
    overlays = ResultOverlays(results) if results is not None else None
    painter = _Painter(recording, config, overlays)
    strip = _Strip(overlays)
    shown = events = 0
    sheet = _Sheet(config.pictures)
    with ExitStack() as stack:
        film = None
        if target.suffix == ".mp4":
            film = stack.enter_context(FilmWriter(target))
        windows = _windows(recording, config, progress or (lambda events: None))
        for window, since_us, host_ns in windows:
            picture = painter.paint(window, host_ns)
            shown += 1
            events += len(window.events)
            if film is not None:
                film.add(strip.below(picture), round(window.t_end_us / config.speed))
            else:
                sheet.add(picture, since_us)
        if not shown:
            raise recording.nothing_in_span()
    if target.suffix == ".png":
        sheet.write(target, strip)
    lost = {} if overlays is None else overlays.left_out.as_dict()
    return ViewResult(shown, events, (*recording.info.warnings, *sentences("result", lost)))


def _windows(
    recording: Recording, config: ViewConfig, progress: Callable[[int], None]
) -> Iterator[tuple[Window, int, int]]:
    """Yield windows of the span and when they end: since the first event, and in host time."""
    origin_us: int | None = None
    count = 0
    start_s = config.start_us / 1e6
    end_s = None if config.end_us is None else config.end_us / 1e6
    for window in recording.windows(config.window_us, start_s=start_s, end_s=end_s):
        if origin_us is None:
            origin_us = window.t_start_us - config.start_us
        count += len(window.events)
        progress(count)
        yield window, window.t_end_us - origin_us, window.stamp_ns


class _Painter:
    def __init__(
        self, recording: Recording, config: ViewConfig, overlays: ResultOverlays | None
    ) -> None:
        self._config = config
        self._overlays = overlays
        self._surface = TimeSurface(config.decay_us)
        self._images = _CameraImages(recording) if config.kind == "images" else None

    def paint(self, window: Window, host_ns: int) -> Image:
        height, width = window.events.height, window.events.width
        factor = self._config.scale or screen_factor(height, width)
        picture, events = self._background(window, host_ns)
        if self._overlays is not None:
            window_ns = self._config.window_us * 1000
            return self._overlays.lay_over(
                picture, host_ns, window_ns, events=events, factor=factor
            )
        if events is not None:
            paint_events(picture, events)
        return enlarge(picture, factor)

    def _background(self, window: Window, host_ns: int) -> tuple[Image, Events | None]:
        """Return what lies below masks, and the events that are to be drawn over them."""
        events = window.events
        if self._config.kind == "surface":
            return self._surface.update(events, window.t_end_us), None
        image = None if self._images is None else self._images.at(host_ns)
        # Of the sensor's size: so are masks and boxes.
        size = (events.height, events.width)
        if image is None:
            return blank(*size), events
        # Who asked for images sees events only where results lie over them too, as in a run.
        return fit(image, size), None if self._overlays is None else events


class _CameraImages:
    """The images of the same camera, by their stamps."""

    def __init__(self, recording: Recording) -> None:
        if not recording.info.frame_topic:
            raise RecordingError(f"{recording.info.path} has no camera images: draw its events")
        self._frames = recording.frames()
        self._next = next(self._frames, None)
        self._latest: Frame | None = None

    def at(self, host_ns: int) -> Image | None:
        """Return the latest image until ``host_ns``, (H, W, 3) uint8 BGR, unless it is old."""
        while self._next is not None and self._next.stamp_ns <= host_ns:
            self._latest = self._next
            self._next = next(self._frames, None)
        if self._latest is None or host_ns - self._latest.stamp_ns > MAX_PICTURE_AGE_NS:
            return None
        return to_bgr(self._latest.image)


class TimeSurface:
    """The time of each pixel's last event, as a picture that fades to the background.

    Args:
        decay_us: after which the contrast has fallen to 1 / e.
    """

    def __init__(self, decay_us: int) -> None:
        self._decay_us = decay_us
        self._last_us = np.empty((0, 0), np.int64)
        self._sign = np.empty((0, 0), np.int8)

    def update(self, events: Events, t_end_us: int) -> Image:
        """Take in events; return the surface at ``t_end_us`` as (H, W, 3) uint8 BGR.

        A pixel fades from the colour of its last event's polarity to the dark background.
        """
        if self._last_us.shape != (events.height, events.width):
            self._last_us = np.full((events.height, events.width), -(1 << 62), np.int64)
            self._sign = np.zeros((events.height, events.width), np.int8)
        self._last_us[events.y, events.x] = events.t_us
        self._sign[events.y, events.x] = events.p.astype(np.int8) * 2 - 1
        age_us = np.maximum(t_end_us - self._last_us, 0)
        fresh = np.exp(-age_us / self._decay_us).astype(np.float32)
        return polarity_picture(fresh * (self._sign > 0), fresh * (self._sign < 0))


class _Sheet:
    """An even choice of the pictures of a stream whose length is not known."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._step = 1
        self._seen = 0
        self._kept: list[tuple[Image, str]] = []

    def add(self, picture: Image, since_us: int) -> None:
        if self._seen % self._step == 0:
            self._kept.append((picture, f"{since_us / 1e6:.3f} s"))
        self._seen += 1
        if len(self._kept) > 2 * self._count:
            self._kept = self._kept[::2]
            self._step *= 2

    def write(self, target: Path, strip: _Strip) -> None:
        last = len(self._kept) - 1
        places = np.unique(np.linspace(0, last, min(self._count, last + 1)).round().astype(int))
        chosen = [self._kept[i] for i in places]
        sheet = contact_sheet([image for image, _ in chosen], [caption for _, caption in chosen])
        write_image(target, strip.below(sheet))


class _Strip:
    """The legend of every picture of a view, drawn once."""

    def __init__(self, overlays: ResultOverlays | None) -> None:
        self._overlays = overlays
        self._events_alone = np.empty((0, 0, 3), np.uint8)

    def below(self, picture: Image) -> Image:
        """Return the picture with the legend below it."""
        width = picture.shape[1]
        if self._overlays is not None:
            return np.concatenate([picture, self._overlays.legend(width)])
        if self._events_alone.shape[1] != width:
            self._events_alone = legend(None, width=width)
        return np.concatenate([picture, self._events_alone])
