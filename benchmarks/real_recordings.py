"""What a student finds on real recordings, beside plain clustering of events.

    python benchmarks/real_recordings.py [STUDENT] [--out DIR] [--data DIR] [--precision int8]
        [--from-s 0] [--until-s 2.5]

Prints one row a recording and a method: boxes a window of each thing class, share of labelled
pixels that are called human and vehicle, and, on the street recording, how many of the moving
cars were found. Nobody labelled these recordings, so the cars are taken from the camera's own
pictures: a pixel moves when it differs from two pictures of the same fixed camera at least a
second away; connected moving regions of at least 60 pixels are cars (on this road nothing else is
that large). The baseline has no network: connected regions of events with a neighbour, each of
them called a vehicle; its settings are those that find most cars. Overlays are written for
looking at. ``--from-s`` and ``--until-s`` count a part of every recording, for a student that
learned from the rest.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.drawing.colours import blank, screen_factor, to_bgr
from evdistill_core.drawing.overlay import legend, overlay
from evdistill_core.drawing.sheets import contact_sheet, write_image
from evdistill_core.events.window import Window, WindowAssembler, WindowSpec
from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.foundation.labels import IGNORE, SIX_CLASSES, ClassTable
from evdistill_core.inference.postprocess import (
    PostprocessConfig,
    Postprocessor,
    event_support,
    find_components,
)
from evdistill_core.inference.prediction import Prediction
from evdistill_core.inference.runner import Runner
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile
from evdistill_core.messages.images import to_grey
from evdistill_core.recordings.base import Frame
from evdistill_core.recordings.opening import open_recording
from evdistill_core.representations import InputSpec, represent

Box = tuple[int, int, int, int]

STREET = "recordings/davis346_street_frames.aedat4"
PERSONS = ("bags/evt3_vga_person", "recordings/dvxplorer_person.aedat4")
# Nothing in these is a vehicle or a person.
OTHERS = (
    "recordings/davis346_robot_arm.aedat4",
    "bags/libcaer_cmp_davis346_tags",
    "recordings/davis240_slider_50k.txt",
    "recordings/davis240_poster.npz",
    "recordings/gen3_evt2.raw",
    "recordings/atis_plane.es",
    "recordings/imx636_evt3.raw",
)
ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "evdistill_core" / "assets" / "street6.evstudent"
DEMO = ROOT / "demo" / "davis346_street.mcap"

FAR_US = 1_000_000  # a car has left its own outline by then
NEAR_US = 120_000
MOVING_LEVELS = 18  # of 255
MOVING_SHARE = 0.3
MIN_CAR_PX = 60
FOUND_IOU = 0.25
SHEET_WINDOWS = 16
# What finds most cars on the street recording without a network.
CLUSTERS = PostprocessConfig(unlabelled_radius_px=1, closing_px=0, join_px=1, min_area_px=100)


@dataclass
class Row:
    """One method on one recording."""

    recording: str
    method: str
    windows: int = 0
    vehicle_boxes: int = 0
    human_boxes: int = 0
    vehicle_share: float = 0.0
    human_share: float = 0.0
    windows_with_vehicle: int = 0
    windows_with_human: int = 0
    cars: int = 0
    cars_found: int = 0
    boxes_on_cars: int = 0

    def cells(self) -> list[str]:
        """Return the row of the printed table."""
        if not self.windows:
            return [self.recording, self.method, "0", *("-" for _ in HEAD[3:])]
        n = self.windows
        recall = f"{self.cars_found}/{self.cars}" if self.cars else "-"
        exact = f"{self.boxes_on_cars}/{self.vehicle_boxes}" if self.cars else "-"
        return [
            self.recording,
            self.method,
            str(self.windows),
            f"{self.vehicle_boxes / n:.2f}",
            f"{self.human_boxes / n:.2f}",
            f"{self.windows_with_vehicle / n:.0%}",
            f"{self.windows_with_human / n:.0%}",
            f"{self.vehicle_share:.0%}",
            f"{self.human_share:.0%}",
            recall,
            exact,
        ]


HEAD = [
    "recording", "method", "windows", "vehicle boxes/window", "human boxes/window",
    "windows with vehicle", "windows with human", "vehicle px", "human px", "cars found",
    "boxes on cars",
]  # fmt: skip


class StudentMethod:
    """The live pipeline's arithmetic: representation, network, postprocessing."""

    def __init__(self, student: StudentFile, runner: Runner, config: PostprocessConfig) -> None:
        self.name = student.path.stem
        self.spec: InputSpec = student.info.input
        self.classes: ClassTable = student.info.classes
        self._runner = runner
        self._post = Postprocessor(config, student.info.classes.thing_ids)

    def __call__(self, window: Window) -> Prediction:
        """Return the prediction of a window."""
        events = window.events
        grid = self.spec.grid(height=events.height, width=events.width)
        logits, head = self._runner.run_whole(represent(window, self.spec))
        return self._post(
            logits,
            events,
            stride=self._runner.output_stride * grid.factor,
            span_us=(window.t_start_us, window.t_end_us),
            head=head,
            factor=grid.factor,
        )


class ClusterMethod:
    """No network: every connected region of supported events is a vehicle."""

    name = "clusters"

    def __init__(self, classes: ClassTable, config: PostprocessConfig) -> None:
        self.classes = classes
        self._config = config
        self._vehicle = classes.names.index("vehicle")
        self._is_thing = np.zeros(256, np.uint8)
        self._is_thing[self._vehicle] = 1

    def __call__(self, window: Window) -> Prediction:
        """Return the prediction of a window."""
        support = event_support(window.events, self._config)
        mask = np.where(support > 0, np.uint8(self._vehicle), np.uint8(IGNORE))
        confidence = support.astype(np.float32)
        boxes = find_components(mask, confidence, self._is_thing, self._config)
        return Prediction(mask, confidence, tuple(boxes))


def windows_of(path: Path, window_us: int) -> Iterator[Window]:
    """Yield the windows of a recording, cut as the live side cuts them."""
    assembler = WindowAssembler(WindowSpec(duration_us=window_us))
    with open_recording(path) as recording:
        for batch in recording.batches():
            if batch.discontinuity:
                assembler.reset()
            yield from assembler.push(batch.events)


def frames_of(path: Path) -> list[Frame]:
    """Return the ordinary pictures of a recording; empty where it has none."""
    with open_recording(path) as recording:
        return list(recording.frames()) if recording.info.frame_topic else []


def moving_boxes(frames: list[Frame], index: int) -> list[Box]:
    """Return the boxes of what moves in a picture of a fixed camera.

    A pixel belongs to a mover when it differs from two pictures taken much earlier or later. Where
    a slow car stood in both of those, it differs too: so a region must also have changed since
    the pictures just before and after.
    """
    times = np.array([f.t_us for f in frames])
    away = np.abs(times - times[index])
    far = np.flatnonzero(away >= FAR_US)
    if far.size < 2:
        return []
    first = int(far[away[far].argmin()])
    second = int(far[np.abs(times[far] - times[first]).argmax()])
    near = [int(np.abs(times - times[index] - dt).argmin()) for dt in (-NEAR_US, NEAR_US)]
    image = cv2.GaussianBlur(to_grey(frames[index].image), (3, 3), 0)
    changed = {
        k: cv2.absdiff(image, cv2.GaussianBlur(to_grey(frames[k].image), (3, 3), 0)) > MOVING_LEVELS
        for k in (first, second, *near)
    }
    both = (changed[first] & changed[second]).astype(np.uint8)
    recent = changed[near[0]] | changed[near[1]]
    joined = cv2.morphologyEx(both, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    boxes = []
    for k in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[k])
        if area >= MIN_CAR_PX and recent[labels == k].mean() >= MOVING_SHARE:
            boxes.append((x, y, x + w, y + h))
    return boxes


def iou(a: Box, b: Box) -> float:
    """Return the overlap of two boxes."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def measure(
    path: Path,
    method: StudentMethod | ClusterMethod,
    window_us: int,
    sheet: Path,
    span_s: tuple[float, float] = (0.0, math.inf),
) -> Row:
    """Run a method over a recording, write its overlays, return its row.

    Args:
        path: of the recording.
        method: sees every window, so that its tracks are those of the live side.
        window_us: length of a window.
        sheet: image of some windows.
        span_s: windows that begin outside of it, after the first one, do not count.
    """
    row = Row(path.stem, method.name)
    frames = frames_of(path)
    times = np.array([f.t_us for f in frames])
    with_cars = path.stem.startswith("davis346_street")
    pictures = []
    pixels = np.zeros(3, np.int64)  # labelled, vehicle, human
    first_us: int | None = None
    for window in windows_of(path, window_us):
        prediction = method(window)
        first_us = window.t_start_us if first_us is None else first_us
        if not span_s[0] <= (window.t_start_us - first_us) / 1e6 < span_s[1]:
            continue
        background, cars = blank(window.events.height, window.events.width), []
        if frames:
            nearest = int(np.abs(times - window.t_end_us).argmin())
            background = to_bgr(frames[nearest].image)
            cars = moving_boxes(frames, nearest) if with_cars else []
        pixels += tally(row, prediction, cars, method.classes)
        picture = drawn(background, window, prediction, cars, method.classes)
        pictures.append((picture, f"{row.recording} {row.windows - 1}"))
    row.vehicle_share, row.human_share = (float(n / max(1, pixels[0])) for n in pixels[1:])
    if not pictures:
        return row
    chosen = pictures[:: max(1, -(-len(pictures) // SHEET_WINDOWS))]
    page = contact_sheet([p for p, _ in chosen], [c for _, c in chosen])
    write_image(sheet, np.vstack([page, legend(method.classes, width=page.shape[1])]))
    return row


def tally(
    row: Row, prediction: Prediction, cars: list[Box], classes: ClassTable
) -> npt.NDArray[np.int64]:
    """Add a window's boxes to the row; return its labelled, vehicle and human pixels."""
    vehicle, human = (classes.names.index(n) for n in ("vehicle", "human"))
    boxes = [d.box_xyxy for d in prediction.detections if d.class_id == vehicle]
    num_humans = sum(d.class_id == human for d in prediction.detections)
    row.windows += 1
    row.vehicle_boxes += len(boxes)
    row.human_boxes += num_humans
    row.windows_with_vehicle += bool(boxes)
    row.windows_with_human += bool(num_humans)
    row.cars += len(cars)
    row.cars_found += sum(any(iou(c, b) >= FOUND_IOU for b in boxes) for c in cars)
    row.boxes_on_cars += sum(any(iou(c, b) > 0 for c in cars) for b in boxes)
    mask = prediction.mask
    return np.array([(mask != IGNORE).sum(), (mask == vehicle).sum(), (mask == human).sum()])


def drawn(
    background: npt.NDArray[np.uint8],
    window: Window,
    prediction: Prediction,
    cars: list[Box],
    classes: ClassTable,
) -> npt.NDArray[np.uint8]:
    """Return the overlay, with the cars that the camera's images show framed in green."""
    factor = screen_factor(*background.shape[:2])
    shown = overlay(background, prediction, classes, events=window.events, factor=factor)
    for left, top, right, bottom in (tuple(factor * v for v in box) for box in cars):
        cv2.rectangle(shown, (left - 1, top - 1), (right, bottom), (0, 255, 0), 1)
    return shown


def main() -> None:
    """Measure every recording with both methods and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("student", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--out", type=Path, default=Path("out/real_recordings"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--precision", default="fp32", help="of the network, such as int8")
    parser.add_argument("--from-s", type=float, default=0.0, help="count windows from here on")
    parser.add_argument("--until-s", type=float, default=math.inf, help="... and up to here")
    args = parser.parse_args()
    if args.until_s <= args.from_s:
        parser.error(f"--until-s {args.until_s:g} must be above --from-s {args.from_s:g}")
    default = ROOT.parent / "shared" / "data"
    data = args.data or Path(os.environ.get("EVDISTILL_TEST_DATA", default))
    student = StudentFile.open(args.student)
    config = PostprocessConfig()
    rows = []
    for relative in (STREET, *PERSONS, *OTHERS):
        path = DEMO if relative == STREET and not (data / STREET).exists() else data / relative
        if not path.exists():
            print(f"left out: no {path}")
            continue
        for method in (
            StudentMethod(student, make_runner(student, precision=args.precision), config),
            ClusterMethod(SIX_CLASSES, CLUSTERS),
        ):
            sheet = args.out / f"{path.stem}_{method.name}.png"
            span_s = (args.from_s, args.until_s)
            rows.append(measure(path, method, student.info.input.window_us, sheet, span_s))
    print("| " + " | ".join(HEAD) + " |")
    print("|" + "---|" * len(HEAD))
    for row in rows:
        print("| " + " | ".join(row.cells()) + " |")
    content = {
        "student": args.student.name,
        "precision": args.precision,
        "from_s": args.from_s,
        "until_s": args.until_s if math.isfinite(args.until_s) else None,
        "date": time.strftime("%Y-%m-%d"),
        "postprocess": asdict(config),
        "rows": [asdict(r) for r in rows],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "real_recordings.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"overlays in {args.out}")


if __name__ == "__main__":
    try:
        main()
    except EvdistillError as error:
        sys.exit(f"error: {error}")
