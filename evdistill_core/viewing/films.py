"""A recording as a film or a sheet of pictures: events or a time surface, masks and boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from evdistill_core.events.array import Events
from evdistill_core.events.window import Window
from evdistill_core.foundation.errors import ConfigError, RecordingError
from evdistill_core.foundation.reasons import sentences
from evdistill_core.inference.pictures import (
    SMALL_WIDTH_PX,
    FilmWriter,
    Image,
    contact_sheet,
    event_picture,
    to_bgr,
    write_image,
)
from evdistill_core.perception.messages import MAX_PICTURE_AGE_NS
from evdistill_core.recordings.base import Frame, Recording
from evdistill_core.viewing.result_overlays import ResultOverlays

KINDS = ("events", "surface", "images")
SUFFIXES = (".mp4", ".png")
_GREY = 96


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
        speed: of the film against the sensor's time.
        scale: whole factor of enlargement; ``None`` doubles sensors of up to 400 columns.
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
    """Write a film (``.mp4``) or a sheet of evenly chosen pictures (``.png``).

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
    scale = config.scale or (2 if recording.info.width <= SMALL_WIDTH_PX else 1)
    shown = events = 0
    sheet = _Sheet(config.pictures)
    with ExitStack() as stack:
        film = None
        if target.suffix == ".mp4":
            film = stack.enter_context(FilmWriter(target, scale=scale))
        windows = _windows(recording, config, progress or (lambda events: None))
        for window, since_us, host_ns in windows:
            picture = painter.paint(window, host_ns)
            shown += 1
            events += len(window.events)
            if film is not None:
                if overlays is not None:
                    picture = np.concatenate([picture, overlays.legend(picture.shape[1])])
                film.add(picture, round(window.t_end_us / config.speed))
            else:
                sheet.add(picture, since_us)
        if not shown:
            raise recording.nothing_in_span()
    if target.suffix == ".png":
        sheet.write(target, scale, overlays)
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
        picture = self._background(window, host_ns)
        if self._overlays is None:
            return picture
        return self._overlays.lay_over(picture, host_ns, self._config.window_us * 1000)

    def _background(self, window: Window, host_ns: int) -> Image:
        if self._config.kind == "surface":
            return self._surface.update(window.events, window.t_end_us)
        image = None if self._images is None else self._images.at(host_ns)
        if image is None:
            return event_picture(window.events)
        # Of the sensor's size: so are masks and boxes.
        size = (window.events.width, window.events.height)
        return image if image.shape[1::-1] == size else np.asarray(cv2.resize(image, size))


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
    """The time of each pixel's last event, as a picture that fades to grey.

    Args:
        decay_us: after which the contrast has fallen to 1 / e.
    """

    def __init__(self, decay_us: int) -> None:
        self._decay_us = decay_us
        self._last_us = np.empty((0, 0), np.int64)
        self._sign = np.empty((0, 0), np.int8)

    def update(self, events: Events, t_end_us: int) -> Image:
        """Take in events; return the surface at ``t_end_us`` as (H, W, 3) uint8 BGR.

        Brighter pixels fade from white, darker ones from black; what never had an event is grey.
        """
        if self._last_us.shape != (events.height, events.width):
            self._last_us = np.full((events.height, events.width), -(1 << 62), np.int64)
            self._sign = np.zeros((events.height, events.width), np.int8)
        self._last_us[events.y, events.x] = events.t_us
        self._sign[events.y, events.x] = events.p.astype(np.int8) * 2 - 1
        age_us = np.maximum(t_end_us - self._last_us, 0)
        contrast = np.exp(-age_us / self._decay_us) * self._sign
        grey = np.where(contrast >= 0, _GREY + contrast * (255 - _GREY), _GREY * (1 + contrast))
        return np.repeat(np.rint(grey).astype(np.uint8)[:, :, None], 3, axis=2)


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

    def write(self, target: Path, scale: int, overlays: ResultOverlays | None) -> None:
        last = len(self._kept) - 1
        places = np.unique(np.linspace(0, last, min(self._count, last + 1)).round().astype(int))
        images = [self._kept[i][0].repeat(scale, 0).repeat(scale, 1) for i in places]
        sheet = contact_sheet(images, [self._kept[i][1] for i in places])
        if overlays is not None:
            sheet = np.concatenate([sheet, overlays.legend(sheet.shape[1])])
        write_image(target, sheet)
