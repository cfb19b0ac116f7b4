"""A scene that can be drawn at any time: background, camera, layers, light."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.labels import IGNORE
from evdistill_core.simulation import sampling
from evdistill_core.simulation.motion import STILL, Matrix, Motion, apply, corners, shift

FloatImage = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Instances = npt.NDArray[np.uint16]

STEP_PX = 1.5  # how far the fastest point may move between two drawn images
MAX_STEPS = 40
SAMPLES_PER_PERIOD = 10

_RIGID: FloatImage = np.zeros(1, np.float32)


@dataclass(frozen=True)
class Gait:
    """Non-rigid motion of a layer, a wave through its rows.

    Attributes:
        sway_px: rows swing sideways by this.
        stride_px: left and right half of a row swing apart by this, most at the bottom.
        top_heavy: True: the top swings most (a tree), else the bottom (legs).
        hz: frequency.
        phase: radians.
        waves: number of waves from top to bottom.
    """

    sway_px: float = 0.0
    stride_px: float = 0.0
    top_heavy: bool = False
    hz: float = 1.0
    phase: float = 0.0
    waves: float = 0.5

    def tables(self, rows: int, t_s: float) -> tuple[FloatImage, FloatImage]:
        """Return sway and stride of each row, (rows,) float32 each, in pixels.

        A rigid layer has a single row: the last row stands for all below it.
        """
        if self.sway_px == 0.0 and self.stride_px == 0.0:
            return _RIGID, _RIGID
        place = np.linspace(0.0, 1.0, rows, dtype=np.float32)
        angle = 2.0 * math.pi * self.hz * t_s + self.phase
        weight = 1.0 - place if self.top_heavy else place
        sway = self.sway_px * weight * np.sin(angle + 2.0 * math.pi * self.waves * place)
        stride = self.stride_px * np.maximum(0.0, 2.0 * place - 1.0) * math.sin(angle)
        return sway.astype(np.float32), stride.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Layer:
    """An image with transparency that moves through the scene.

    Attributes:
        log: (h, w) float32 log intensity.
        alpha: (h, w) float32, 1 opaque.
        label: class id of its pixels; None leaves the labels below as they are.
        motion: of the thing it belongs to.
        origin: (column, row) of that thing in the scene in the middle of the window.
        swing: motion of this part about its joint (limbs, head).
        joint: (column, row) of the joint relative to the thing.
        pivot: (column, row) of the joint in this image.
        gait: non-rigid motion.
        thing: number of the thing that it is a part of; 0: it is part of none.
    """

    log: FloatImage
    alpha: FloatImage
    label: int | None
    motion: Motion
    origin: tuple[float, float]
    pivot: tuple[float, float]
    joint: tuple[float, float] = (0.0, 0.0)
    swing: Motion = STILL
    gait: Gait = Gait()
    thing: int = 0

    def to_scene(self, t_s: float) -> Matrix:
        """Return the 3x3 matrix from this image to the scene."""
        part = self.swing.similarity(t_s, self.joint) @ shift(-self.pivot[0], -self.pivot[1])
        return self.motion.similarity(t_s, self.origin) @ part

    @cached_property
    def place(self) -> npt.NDArray[np.float64]:
        """(59,) all numbers that say where the layer is, for ``sampling.place_layer``."""
        rest = (*self.log.shape, abs(self.gait.sway_px) + abs(self.gait.stride_px))
        return np.concatenate(
            [self.motion.packed(), self.origin, self.swing.packed(), self.joint, self.pivot, rest]
        )


@dataclass(frozen=True)
class Light:
    """A soft spot of light or shadow that crosses the scene; it is no thing and has no label.

    Attributes:
        motion: of its centre.
        origin: (column, row) of its centre in the middle of the window.
        radius: (columns, rows) in pixels.
        amount: added to log intensity in its centre.
        is_sharp: it is bright for its size, and so drawn at steps as fine as those of things.
    """

    motion: Motion
    origin: tuple[float, float]
    radius: tuple[float, float]
    amount: float
    is_sharp: bool = False


@dataclass(frozen=True)
class Brightness:
    """Change of the light everywhere.

    Attributes:
        drift_per_s: change of log intensity per second (clouds, automatic lamps).
        flicker: amplitude of a sine in log intensity (mains lighting).
        flicker_hz: its frequency.
        phase: radians.
    """

    drift_per_s: float = 0.0
    flicker: float = 0.0
    flicker_hz: float = 100.0
    phase: float = 0.0

    def at(self, t_s: float) -> float:
        """Return what is added to log intensity."""
        wave = math.sin(2.0 * math.pi * self.flicker_hz * t_s + self.phase)
        return self.drift_per_s * t_s + self.flicker * wave


class Scene:
    """A labelled scene as a moving or fixed camera sees it.

    Times are seconds from the middle of the window.

    Args:
        background: (h, w) float32 log intensity.
        labels: (h, w) uint8 labels of the background.
        place: 3x3 matrix from scene pixels to background pixels.
        height: rows of the camera.
        width: columns of the camera.
        camera: motion of the camera; ``STILL`` for a fixed one.
        layers: from back to front.
        lights: spots of light.
        brightness: light everywhere.
        objects: (h, w) uint16, the numbers of the things in the background, 0 where there is none;
            other numbers than those of the layers. None: the background holds no thing.
    """

    def __init__(  # noqa: PLR0913
        self,
        background: FloatImage,
        labels: Labels,
        place: Matrix,
        *,
        height: int,
        width: int,
        camera: Motion = STILL,
        layers: Sequence[Layer] = (),
        lights: Sequence[Light] = (),
        brightness: Brightness | None = None,
        objects: Instances | None = None,
    ) -> None:
        self.height = height
        self.width = width
        self.camera = camera
        self.layers = tuple(layers)
        self.lights = tuple(lights)
        self.brightness = brightness or Brightness()
        self._background = background
        self._labels = labels
        self._objects = np.zeros(labels.shape, np.uint16) if objects is None else objects
        self._place = place
        self._still: FloatImage | None = None

    def draw(self, t_s: float) -> FloatImage:
        """Return the log intensity image at a time, (H, W) float32."""
        out = np.empty((self.height, self.width), np.float32)
        view = self._view(t_s)
        if self.camera is STILL:
            # A fixed camera: the background is drawn once.
            if self._still is None:
                self._still = np.empty_like(out)
                sampling.warp_image(self._background, self._place @ view, self._still)
            np.copyto(out, self._still)
        else:
            sampling.warp_image(self._background, self._place @ view, out)
        for layer in self.layers:
            matrix, box = sampling.place_layer(layer.place, view, t_s, self.height, self.width)
            sway, stride = layer.gait.tables(layer.log.shape[0], t_s)
            sampling.draw_layer(out, layer.log, layer.alpha, matrix, box, sway, stride)
        for light in self.lights:
            column, row = light.motion.offset(t_s)[:2] + light.origin
            sampling.add_light(out, column, row, light.radius, light.amount)
        added = self.brightness.at(t_s)
        if added:
            out += np.float32(added)
        return out

    def labels(self, t_s: float) -> Labels:
        """Return the labels at a time, (H, W) uint8; 255 where the background does not reach."""
        out = np.empty((self.height, self.width), np.uint8)
        view = self._view(t_s)
        sampling.warp_labels(self._labels, self._place @ view, IGNORE, out)
        for layer in self.layers:
            if layer.label is not None:
                self._mark(out, layer.label, layer, view, t_s)
        return out

    def instances(self, t_s: float) -> Instances:
        """Return the number of the thing that each pixel shows, (H, W) uint16; 0: no thing.

        What covers a thing hides it here as in ``labels``: a shadow, which has no label, does not.
        """
        out = np.empty((self.height, self.width), np.uint16)
        view = self._view(t_s)
        sampling.warp_labels(self._objects, self._place @ view, 0, out)
        for layer in self.layers:
            if layer.label is not None:
                self._mark(out, layer.thing, layer, view, t_s)
        return out

    def _mark(
        self, out: Labels | Instances, value: int, layer: Layer, view: Matrix, t_s: float
    ) -> None:
        """Write a value where a layer covers at least half a pixel."""
        matrix, box = sampling.place_layer(layer.place, view, t_s, self.height, self.width)
        sway, stride = layer.gait.tables(layer.log.shape[0], t_s)
        sampling.draw_layer_labels(out, value, layer.alpha, matrix, box, sway, stride)

    def steps(self, window_us: int, at_s: float = 0.0) -> int:
        """Return into how many images a window must be cut so that nothing moves too far.

        Args:
            window_us: its length.
            at_s: its middle.
        """
        half_s = window_us * 0.5e-6
        times = np.linspace(at_s - half_s, at_s + half_s, 9)
        frame = corners(self.height, self.width)
        paths = [_path_px([apply(self._view(t), frame) for t in times])]
        for layer in self.layers:
            points = corners(*layer.log.shape)
            path = _path_px([apply(layer.to_scene(t), points) for t in times])
            bend = abs(layer.gait.sway_px) + abs(layer.gait.stride_px)
            paths.append(path + bend * 2.0 * math.pi * layer.gait.hz * 2.0 * half_s)
        for light in self.lights:
            path = _path_px([light.motion.offset(t)[None, :2] for t in times])
            paths.append(path if light.is_sharp else path / 4.0)
        steps = max(paths) / STEP_PX
        if self.brightness.flicker:
            steps = max(steps, self.brightness.flicker_hz * 2.0 * half_s * SAMPLES_PER_PERIOD)
        return int(np.clip(math.ceil(steps), 2, MAX_STEPS))

    def _view(self, t_s: float) -> Matrix:
        return self.camera.homography(t_s, ((self.width - 1) / 2.0, (self.height - 1) / 2.0))


def _path_px(positions: Sequence[npt.NDArray[np.float64]]) -> float:
    """Return the length of the longest path of any point."""
    steps = np.diff(np.stack(positions), axis=0)
    return float(np.hypot(steps[..., 0], steps[..., 1]).sum(0).max())
