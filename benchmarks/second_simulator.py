"""Does a student know events, or our simulator? The same scenes under a second one.

Run: python benchmarks/second_simulator.py STUDENT [--camvid data/camvid] [--split val]
         [--windows 101] [--include 0016E5] [--size 192 256]

A camera moves over labelled stills. Our simulator sees each scene with a sensor drawn from the
ranges of training. The second one sees videos of the same scenes at 500 frames a second. It follows
what was published about v2e (Hu, Liu and Delbruck, CVPR Workshops 2021; section 3): brightness is
linear in dark pixels and logarithmic above, a low pass whose cut-off grows with brightness,
thresholds that differ from pixel to pixel, leak events, and shot noise that is strongest in the
dark. It is a tool of this benchmark and shares no code with ours. Nothing is trained on it.

Printed: mIoU of six classes and IoU by class, in two tables. The first counts the pixels near
events of each simulator, as other benchmarks do. A noisy sensor has events nearly everywhere, so
these are other pixels, with harder ones among them. The second table counts the same pixels for
all: those that are near events of all three.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.data.samples import Sample
from evdistill_core.data.scoring import load_predictor
from evdistill_core.data.simulated import make_sample
from evdistill_core.evaluation.segmentation import SegmentationResult, near_events, score_windows
from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.foundation.labels import IGNORE
from evdistill_core.representations.spec import InputSpec
from evdistill_core.simulation.factory import SceneFactory, SceneRanges
from evdistill_core.simulation.images import LabelledImage
from evdistill_core.simulation.scene import Scene
from evdistill_core.simulation.sensor import SensorModel
from evdistill_core.simulation.window import simulate_window

Image = npt.NDArray[np.float64]

SIZE = (192, 256)
SMALLEST, LARGEST = 32, 2048
RADIUS_PX = 3
FRAME_HZ = 500
LINEAR_BELOW = 20.0  # grey values of 0..255
# What a scene is rendered with: an ordinary display gamma, no exposure.
PICTURE = SensorModel(gamma=2.2, exposure=1.0, knee=0.02)


@dataclass(frozen=True)
class Pixels:
    """Settings of the second simulator.

    Attributes:
        threshold: change of log brightness that makes an event, of either polarity.
        mismatch: its standard deviation over pixels.
        cutoff_hz: of the low pass in the brightest pixel.
        leak_hz: ON events of a pixel that sees nothing.
        shot_hz: events of a dark pixel from noise alone.
        refractory_us: how long a pixel is silent after an event.
    """

    threshold: float = 0.2
    mismatch: float = 0.03
    cutoff_hz: float = 300.0
    leak_hz: float = 0.01
    shot_hz: float = 0.001
    refractory_us: float = 500.0


CLEAN = Pixels()
NOISY = Pixels(mismatch=0.05, cutoff_hz=30.0, leak_hz=0.1, shot_hz=5.0)
SHOT_IN_BRIGHT = 0.25  # of the rate in the dark


def events_of_frames(
    frames: Iterator[Image], pixels: Pixels, rng: np.random.Generator, *, frame_us: int
) -> Events:
    """Return the events that a video causes.

    Args:
        frames: (H, W) grey values of 0..255, the first one at time 0.
        pixels: settings.
        rng: of thresholds and noise.
        frame_us: between two frames.

    Returns:
        Events sorted by time, the first frame makes none.
    """
    first = next(frames)
    height, width = first.shape
    on, off = (
        np.maximum(rng.normal(pixels.threshold, pixels.mismatch, first.shape), 0.01)
        for _ in range(2)
    )
    slow = _brightness(first)
    reference = slow.copy()
    last_us = np.full(first.shape, -np.inf)
    found: list[npt.NDArray[np.int64]] = []
    for number, frame in enumerate(frames, start=1):
        # The photoreceptor answers faster where it is bright.
        share = (frame + LINEAR_BELOW) / (255.0 + LINEAR_BELOW)
        step = np.minimum(2 * np.pi * pixels.cutoff_hz * share * frame_us * 1e-6, 1.0)
        slow += step * (_brightness(frame) - slow)
        reference -= pixels.leak_hz * on * frame_us * 1e-6
        change = slow - reference
        ons = np.where(change > 0, change / on, 0).astype(np.int64)
        offs = np.where(change < 0, -change / off, 0).astype(np.int64)
        reference += ons * on - offs * off
        # Noise: as likely of either polarity.
        rate_hz = pixels.shot_hz * (1 - (1 - SHOT_IN_BRIGHT) * frame / 255.0)
        noise = rng.random(first.shape) < rate_hz * frame_us * 1e-6
        is_on = rng.random(first.shape) < 0.5
        ons, offs = ons + (noise & is_on), offs + (noise & ~is_on)
        found += _spread(ons, offs, number, frame_us, last_us, pixels.refractory_us)
    if not found:
        return Events.empty(width=width, height=height)
    x, y, t, p = np.concatenate(found, axis=1)
    order = np.argsort(t, kind="stable")
    return Events.from_columns(x[order], y[order], t[order], p[order], width=width, height=height)


def _brightness(grey: Image) -> Image:
    """Return log brightness: linear below ``LINEAR_BELOW``, without a jump."""
    slope = np.log(LINEAR_BELOW) / LINEAR_BELOW
    return np.where(grey <= LINEAR_BELOW, grey * slope, np.log(np.maximum(grey, LINEAR_BELOW)))


def _spread(  # noqa: PLR0913, PLR0917 - what one frame causes
    ons: npt.NDArray[np.int64],
    offs: npt.NDArray[np.int64],
    number: int,
    frame_us: int,
    last_us: Image,
    refractory_us: float,
) -> list[npt.NDArray[np.int64]]:
    """Return the events of a frame, spread evenly over its time; too soon ones are left out."""
    most = int(max(ons.max(), offs.max()))
    start_us = (number - 1) * frame_us
    made = []
    for k in range(most):
        t_us = start_us + int((k + 1) * frame_us / most)
        for counts, polarity in ((ons, 1), (offs, 0)):
            fires = (counts > k) & (t_us - last_us >= refractory_us)
            y, x = np.nonzero(fires)
            last_us[fires] = t_us
            same = np.ones_like(x)
            made.append(np.stack([x, y, same * (t_us - 1), same * polarity]))
    return made


def film(scene: Scene, window_us: int) -> Iterator[Image]:
    """Yield grey frames of a scene at ``FRAME_HZ``, the first one at the window's start."""
    count = round(window_us * 1e-6 * FRAME_HZ)
    for number in range(count + 1):
        t_s = number / FRAME_HZ - window_us * 0.5e-6
        yield PICTURE.picture(scene.draw(t_s)).astype(np.float64)


SIMULATORS = ("ours", "second, clean", "second, noisy")


def windows_of_scenes(
    stills: LabelledImages, spec: InputSpec, *, count: int, height: int, width: int
) -> Iterator[tuple[Sample, ...]]:
    """Yield what each of ``SIMULATORS`` makes of a scene; scenes take the stills in turn."""
    images = [
        LabelledImage.from_arrays(s.image, s.label, s.name)
        for s in (stills[i] for i in range(len(stills)))
    ]
    ranges = SceneRanges(moving_camera=1.0, moving_things=0.0)
    span_us = (0, spec.window_us)
    for number in range(count):
        factory = SceneFactory(
            [images[number % len(images)]],
            stills.classes,
            height=height,
            width=width,
            ranges=ranges,
        )
        sensor = SensorModel.random(np.random.default_rng([7, number]))
        ours = factory.make(sensor, np.random.default_rng([8, number]))
        theirs = factory.make(PICTURE, np.random.default_rng([8, number]))
        rng = np.random.default_rng([9, number])
        window = simulate_window(ours, sensor, spec.window_us, rng)
        labels = theirs.labels(spec.window_us * 0.5e-6)
        seconds = (
            events_of_frames(
                film(theirs, spec.window_us), pixels, rng, frame_us=1_000_000 // FRAME_HZ
            )
            for pixels in (CLEAN, NOISY)
        )
        yield (
            make_sample(window.events, window.labels, spec, *span_us),
            *(make_sample(events, labels, spec, *span_us) for events in seconds),
        )


def main() -> None:
    """Score a student under both simulators."""
    arguments = _arguments()
    predictor = load_predictor(arguments.student, device="cpu")
    drives = tuple(filter(None, arguments.include.split(",")))
    stills = LabelledImages(
        ImagesConfig(root=arguments.camvid, split=arguments.split, include=drives),
        predictor.classes,
    )
    height, width = arguments.size
    scenes = list(
        windows_of_scenes(
            stills, predictor.input, count=arguments.windows, height=height, width=width
        )
    )
    same = [on_the_same_pixels(scene) for scene in scenes]
    for title, sets in (("near its events", scenes), ("same pixels", same)):
        print(f"| simulator | pixels | mIoU, {title} | {' | '.join(predictor.classes.names)} |")
        print("|---|---|---|" + "---|" * len(predictor.classes))
        for name, windows in zip(SIMULATORS, zip(*sets, strict=True), strict=True):
            result = score_windows(
                predictor.predict, windows, predictor.classes, activity_radius_px=RADIUS_PX
            )
            print(_row(name, result, height * width * len(scenes)), flush=True)
        print()


def on_the_same_pixels(scene: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the windows of a scene with labels near events of all of them, and nowhere else."""
    same = np.logical_and.reduce([near_events(window.active, RADIUS_PX) for window in scene])
    return tuple(
        replace(window, label=np.where(same, window.label, np.uint8(IGNORE))) for window in scene
    )


def _row(title: str, result: SegmentationResult, pixels: int) -> str:
    """Return a line of a table; pixels: how many there are, with and without a label."""
    scores = result.near_events.scores()
    classes = " | ".join(f"{100 * v:.0f}" for v in scores.iou)
    return f"| {title} | {scores.pixels / pixels:.0%} | {100 * scores.miou:.1f} | {classes} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("student", type=Path)
    parser.add_argument("--camvid", type=Path, default=Path("data/camvid"))
    parser.add_argument("--split", default="val")
    parser.add_argument("--include", default="0016E5", help="drives, separated by commas")
    parser.add_argument("--windows", type=int, default=101)
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), default=SIZE, help="of the sensor"
    )
    arguments = parser.parse_args()
    if not all(SMALLEST <= n <= LARGEST for n in arguments.size):
        parser.error(f"--size must lie in {SMALLEST}..{LARGEST} px, got {arguments.size}")
    if arguments.windows < 1:
        parser.error(f"--windows must be at least 1, got {arguments.windows}")
    return arguments


if __name__ == "__main__":
    try:
        main()
    except EvdistillError as error:
        sys.exit(f"second_simulator: error: {error}")
