"""What comes out of one window: the same object live, from a file, and in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.drawing import colours, overlay, sheets
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ResultError
from evdistill_core.foundation.files import atomic_path
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.outputs import check_file
from evdistill_core.foundation.ranges import is_integer
from evdistill_core.inference.prediction import (
    Answer,
    Detection,
    Guess,
    Maps,
    Prediction,
    Recognition,
)

MAX_SCALE = 32


@dataclass(frozen=True, eq=False)
class Result:
    """A student's answer for one window, with the window that it is about.

    Students of segmentation fill ``mask``, ``confidence`` and ``detections``, students of
    recognition fill ``guesses``; asking for the other raises ``ResultError``.

    Attributes:
        index: number of the window in its stream, from 0; dropped windows are counted too.
        t_start_us: start of the window, microseconds of sensor time.
        t_end_us: end of the window, exclusive.
        stamp_ns: host time of the window's end, nanoseconds since 1970: the header stamp of
            everything that is published from it.
        frame_id: of the events' messages; empty for files without messages.
        events: the window's events; they carry the sensor's size.
        prediction: the answer as the student's task has it.
        classes: the student's class table.
        received_ns: monotonic time at which the packet with the window's last event came in.
        latency_ms: stage name to milliseconds (see ``pipeline.STAGES``), without publish and total.
        epoch: rises with every break after which no track goes on.
    """

    index: int
    t_start_us: int
    t_end_us: int
    stamp_ns: int
    frame_id: str
    events: Events
    prediction: Answer
    classes: ClassTable
    received_ns: int = 0
    latency_ms: dict[str, float] = field(default_factory=dict)
    epoch: int = 0

    @property
    def mask(self) -> npt.NDArray[np.uint8]:
        """(H, W) uint8, the class id of each sensor pixel; 255 where nothing can be said."""
        return self._segmentation("mask").mask

    @property
    def confidence(self) -> npt.NDArray[np.float32]:
        """(H, W) float32, probability of the class in ``mask``; 0 where the mask is 255."""
        return self._segmentation("confidence").confidence

    @property
    def detections(self) -> tuple[Detection, ...]:
        """Things in the mask, largest first: class name, score, box, track id, age, velocity."""
        return self._segmentation("detections").detections

    @property
    def instances(self) -> npt.NDArray[np.uint16]:
        """(H, W) uint16, ``instance_id`` of the detection that a pixel belongs to; 0: none."""
        found = self._segmentation("instances").instances
        if found is None:
            raise ResultError("this result was made without instances")
        return found

    @property
    def small(self) -> Maps:
        """Mask, confidence and instances at the resolution of the network's input.

        A pixel stands for ``factor`` x ``factor`` sensor pixels, ``factor`` as in ``prediction``.
        With a region or a rotation it is the pixel in the middle of so many.
        """
        return self._segmentation("small").small

    @property
    def guesses(self) -> tuple[Guess, ...]:
        """Classes that the whole window may show, likeliest first."""
        if not isinstance(self.prediction, Recognition):
            raise ResultError(
                "this result has no guesses: its student segments. Use mask, confidence and "
                "detections, or load a student of recognition"
            )
        return self.prediction.guesses

    def _segmentation(self, name: str) -> Prediction:
        if not isinstance(self.prediction, Prediction):
            raise ResultError(
                f"this result has no {name}: its student recognises whole windows. Use guesses, "
                "or load a student of segmentation"
            )
        return self.prediction

    def plot(
        self,
        background: npt.NDArray[np.uint8] | None = None,
        *,
        alpha: float = 0.5,
        scale: int | None = None,
        legend: bool = True,
    ) -> npt.NDArray[np.uint8]:
        """Return a picture of the answer: events, colours of the mask and boxes, or the guesses.

        Args:
            background: (H, W) grey or (H, W, 3) RGB uint8 camera image; None: a dark ground.
            alpha: weight of the mask's colours, 0..1.
            scale: whole factor of enlargement, 1 or more. None: small sensors are enlarged to at
                most 800 pixels on their longer side, so that letters can be read.
            legend: put the names of the colours below the picture.

        Returns:
            (scale * H, scale * W, 3) uint8, RGB; higher by the legend.

        Raises:
            ResultError: a value out of range, or a background that is no image.
        """
        if background is not None and not _is_image(background):
            raise ResultError(
                f"background must be (H, W) or (H, W, 3) of uint8, got {_kind(background)}"
            )
        below = None if background is None else colours.to_bgr(background)
        picture = self.draw(below, alpha=alpha, scale=scale, legend=legend)
        return np.ascontiguousarray(picture[:, :, ::-1])

    def draw(
        self,
        background: npt.NDArray[np.uint8] | None = None,
        *,
        alpha: float = 0.5,
        size: tuple[int, int] | None = None,
        scale: int | None = None,
        legend: bool = True,
    ) -> npt.NDArray[np.uint8]:
        """Return the same as uint8 BGR on a BGR background, for OpenCV and messages.

        Args:
            background: (h, w, 3) uint8 BGR camera image of any size; None: a dark ground.
            alpha: weight of the mask's colours, 0..1.
            size: (H, W) of the picture before its enlargement; None: that of the sensor.
            scale: as for ``plot``.
            legend: as for ``plot``.
        """
        height, width = size or (self.events.height, self.events.width)
        if scale is not None and not (is_integer(scale) and 1 <= scale <= MAX_SCALE):
            raise ResultError(f"scale must be a whole number in 1..{MAX_SCALE}, got {scale!r}")
        if not 0 <= alpha <= 1:
            raise ResultError(f"alpha must lie in 0..1, got {alpha}")
        if scale is None:
            scale = colours.screen_factor(height, width)
        if background is None:
            background = colours.blank(height, width)
        classes: ClassTable | None = None
        if isinstance(self.prediction, Prediction):
            classes = self.classes
            picture = overlay.overlay(
                background, overlay.shrink(self.prediction, (height, width)), classes,
                alpha=alpha, events=self.events, factor=scale,
            )  # fmt: skip
        else:
            picture = colours.fit(background, (height, width)).copy()
            colours.paint_events(picture, self.events)
            picture = colours.enlarge(picture, scale)
            lines = [(f"{g.class_name} {g.score:.2f}", g.score) for g in self.prediction.guesses]
            overlay.write_guesses(picture, lines)
        return overlay.with_legend(picture, classes) if legend else picture

    def save(self, path: str | Path) -> Path:
        """Write the result and return the path; the suffix says what.

        ``.png``: the picture of ``plot``. ``.npz``: what NumPy reads (``mask``, ``confidence``,
        ``instances``, ``boxes_xyxy``, ``scores``, ``class_ids``, ``instance_ids``, ``track_ids``,
        ``ages_s``, ``velocities_px_s``, ``covariances``, or ``class_ids``, ``scores`` of the
        guesses, with ``t_start_us``, ``t_end_us``, ``stamp_ns`` and ``class_names``). Fields of a
        detection as in ``Detection``.

        Raises:
            ResultError: another suffix.
            OutputError: the file cannot be written there.
            OSError: the disk is full.
        """
        path = Path(path).expanduser()
        writers: Mapping[str, Callable[[Path], None]] = {
            ".png": lambda target: sheets.write_image(target, self.draw()),
            ".npz": self._save_npz,
        }
        if path.suffix not in writers:
            raise ResultError(f"a result is saved as {' or '.join(writers)}, got '{path.name}'")
        check_file(path, overwrite=True)
        writers[path.suffix](path)
        return path

    def _save_npz(self, path: Path) -> None:
        content: dict[str, npt.ArrayLike] = {
            "t_start_us": self.t_start_us,
            "t_end_us": self.t_end_us,
            "stamp_ns": self.stamp_ns,
            "class_names": np.array(self.classes.names),
        }
        found = (
            self.prediction.detections
            if isinstance(self.prediction, Prediction)
            else self.prediction.guesses
        )
        content["class_ids"] = np.array([f.class_id for f in found], np.uint8)
        content["scores"] = np.array([f.score for f in found], np.float32)
        if isinstance(self.prediction, Prediction):
            found = self.prediction.detections
            boxes = [d.box_xyxy for d in found]
            content["mask"] = self.prediction.mask
            content["confidence"] = self.prediction.confidence
            if self.prediction.instances is not None:
                content["instances"] = self.prediction.instances
            content["boxes_xyxy"] = np.array(boxes, np.int32).reshape(-1, 4)
            content["instance_ids"] = np.array([d.instance_id for d in found], np.uint16)
            content["track_ids"] = np.array([d.track_id for d in found], np.int64)
            content["ages_s"] = np.array([d.age_s for d in found], np.float64)
            speeds = np.array([d.velocity_px_s for d in found], np.float64)
            content["velocities_px_s"] = speeds.reshape(-1, 2)
            covariances = [d.covariance or np.full((4, 4), np.nan) for d in found]
            content["covariances"] = np.array(covariances, np.float64).reshape(-1, 4, 4)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            arrays = {name: np.asarray(value) for name, value in content.items()}
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    def _repr_png_(self) -> bytes:
        """Return the picture for notebooks."""
        _, data = cv2.imencode(".png", self.draw())
        return data.tobytes()

    def __repr__(self) -> str:
        span = f"{self.t_start_us / 1e6:.3f} .. {self.t_end_us / 1e6:.3f} s"
        if isinstance(self.prediction, Prediction):
            names = [d.class_name for d in self.prediction.detections]
            said = ", ".join(f"{names.count(n)} {n}" for n in dict.fromkeys(names)) or "no things"
        else:
            said = ", ".join(f"{g.class_name} {g.score:.2f}" for g in self.prediction.guesses)
            said = said or "no class"
        size = f"{self.events.width}x{self.events.height}"
        return f"Result({self.index}: {span}, {len(self.events):,} events, {size}, {said})"


def _is_image(array: object) -> bool:
    return (
        isinstance(array, np.ndarray)
        and array.dtype == np.uint8
        and array.size > 0
        and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3))
    )


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return type(value).__name__
