"""One simulated window: events, and labels and image at its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.simulation.pixels import PixelArray
from evdistill_core.simulation.scene import Scene
from evdistill_core.simulation.sensor import SensorModel


@dataclass(frozen=True, eq=False)
class SimulatedWindow:
    """What a sensor saw in one window.

    Attributes:
        events: sorted by time, within [t_start_us, t_end_us).
        labels: (H, W) uint8 at the END of the window, 255 ignore, 254 none of the classes that the
            images mark completely. They name everything in view, also what stands still and made
            no event.
        image: (H, W) uint8 grey image at the end of the window.
        t_start_us: start of the window.
        t_end_us: end of the window.
        instances: (H, W) uint16, the number of the thing that a pixel shows at the END of the
            window, 0: no thing; a thing keeps its number through the windows of one scene. None:
            not known.
    """

    events: Events
    labels: npt.NDArray[np.uint8]
    image: npt.NDArray[np.uint8]
    t_start_us: int
    t_end_us: int
    instances: npt.NDArray[np.uint16] | None = None


def simulate_window(
    scene: Scene,
    sensor: SensorModel,
    window_us: int,
    rng: np.random.Generator,
    *,
    t_start_us: int = 0,
) -> SimulatedWindow:
    """Let a sensor look at a scene for one window.

    Args:
        scene: in the middle of its time at the middle of the window.
        sensor: the pixels.
        window_us: length, at least 100.
        rng: the same generator state gives the same bytes.
        t_start_us: time of the first moment.

    Raises:
        ValueError: ``window_us`` is below 100.
    """
    return next(simulate_windows(scene, sensor, window_us, 1, rng, t_start_us=t_start_us))


def simulate_windows(  # noqa: PLR0913 - numbers by name
    scene: Scene,
    sensor: SensorModel,
    window_us: int,
    count: int,
    rng: np.random.Generator,
    *,
    t_start_us: int = 0,
) -> Iterator[SimulatedWindow]:
    """Let a sensor look at a scene for windows in a row; its pixels remember across them.

    Args:
        scene: in the middle of its time at the middle of all windows.
        sensor: the pixels.
        window_us: length of a window, at least 100.
        count: how many windows, at least 1.
        rng: the same generator state gives the same bytes.
        t_start_us: time of the first moment.

    Raises:
        ValueError: ``window_us`` is below 100.
    """
    if window_us < 100:
        raise ValueError(f"window_us must be at least 100, got {window_us}")
    pixels = PixelArray(sensor, height=scene.height, width=scene.width, rng=rng)
    middle_us = count * window_us / 2
    # A scalar of NumPy, as all later times are: float32 arrays that it meets become float64.
    image = scene.draw(np.float64(-middle_us) * 1e-6)
    pixels.start(image, t_start_us)
    for begin_us in range(0, count * window_us, window_us):
        at_s = (begin_us + window_us / 2 - middle_us) * 1e-6
        times_us = np.linspace(0, window_us, scene.steps(window_us, at_s) + 1).round().astype(int)
        for t_us in times_us[1:] + begin_us:
            image = scene.draw((t_us - middle_us) * 1e-6)
            pixels.advance(image, t_start_us + int(t_us))
        end_us = begin_us + window_us
        end_s = (end_us - middle_us) * 1e-6
        yield SimulatedWindow(
            events=pixels.take_events(),
            labels=scene.labels(end_s),
            image=sensor.picture(image),
            t_start_us=t_start_us + begin_us,
            t_end_us=t_start_us + end_us,
            instances=scene.instances(end_s),
        )
