"""Draws demo.webp: the demo recording as events, and as masks and boxes of the default student.

Run: python docs/images/make_demo_film.py [FILE]

At the pace of the recording. The window in which the recording ends is left out. The rows of sky
and houses, in which nothing moves, are cut off so that the street is large enough to read.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

import evdistill_core as evdistill
from evdistill_core.drawing.colours import Image, enlarge, event_picture, to_bgr
from evdistill_core.drawing.overlay import legend
from evdistill_core.drawing.text import write_on_plate
from evdistill_core.events.array import Events
from evdistill_core.perception.result import Result

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "demo" / "davis346_street.mcap"
SCALE = 3
ROWS = slice(105, 240)
LETTERS_PX = 17
ALPHA = 0.7
GAP_PX = 6
QUALITY = 62


def panels(result: Result, image: Image) -> Image:
    """Return events above, mask and boxes below, (H, W, 3) uint8 BGR."""
    rows = slice(SCALE * ROWS.start, SCALE * ROWS.stop)
    events = enlarge(event_picture(result.events), SCALE)[rows].copy()
    nothing = Events.empty(result.events.width, result.events.height)
    alone = replace(result, events=nothing)  # the events stand above
    answer = alone.draw(image, alpha=ALPHA, scale=SCALE, legend=False)[rows].copy()
    for panel, text in (
        (events, f"what comes in: {len(result.events):,} events in 50 ms"),
        (answer, "what comes out: mask, boxes, ids"),
    ):
        write_on_plate(panel, text, (6, 6), LETTERS_PX, (60, 60, 60))
    gap = np.full((GAP_PX, events.shape[1], 3), 24, np.uint8)
    return np.concatenate([events, gap, answer])


def film() -> list[Image]:
    """Return the pictures of all whole windows."""
    student = evdistill.Student.load()
    with evdistill.open_recording(RECORDING) as recording:
        frames = list(recording.frames())
        last_us = max(int(batch.events.t_us[-1]) for batch in recording.batches())
    pictures = []
    for result in student.predict(RECORDING):
        if result.t_end_us <= last_us:
            image = to_bgr([f for f in frames if f.stamp_ns <= result.stamp_ns][-1].image)
            pictures.append(panels(result, image))
    strip = legend(student.classes, width=pictures[0].shape[1])
    return [np.concatenate([picture, strip]) for picture in pictures]


def main(target: Path) -> None:
    """Draw and save."""
    pictures = [PillowImage.fromarray(picture[:, :, ::-1]) for picture in film()]
    pictures[0].save(
        target, "WEBP", save_all=True, append_images=pictures[1:], duration=50, loop=0,
        quality=QUALITY, method=4,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images" / "demo.webp")
