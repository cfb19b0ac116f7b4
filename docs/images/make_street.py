"""Draws street.jpg: four windows of the demo recording as the default student sees them.

Run: python docs/images/make_street.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

import evdistill_core as evdistill
from evdistill_core.drawing.colours import to_bgr
from evdistill_core.drawing.overlay import legend
from evdistill_core.drawing.sheets import contact_sheet

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "demo" / "davis346_street.mcap"
WINDOWS = (4, 26, 34, 38)


def main() -> None:
    """Draw and save."""
    student = evdistill.Student.load()
    with evdistill.open_recording(RECORDING) as recording:
        frames = list(recording.frames())
    pictures = []
    for result in student.predict(RECORDING):
        if result.index in WINDOWS:
            frame = [f for f in frames if f.stamp_ns <= result.stamp_ns][-1]
            pictures.append(result.draw(to_bgr(frame.image), legend=False))
    sheet = contact_sheet(pictures, [f"window {k}" for k in WINDOWS], columns=2)
    strip = legend(student.classes, width=sheet.shape[1])
    picture = np.concatenate([sheet, strip])
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 72])
    (ROOT / "docs" / "images" / "street.jpg").write_bytes(data.tobytes())


if __name__ == "__main__":
    main()
