"""Draws representations.png: one window of the demo recording in every representation of ours.

Run: python docs/images/make_representations.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt

from evdistill_core.recordings.opening import open_recording
from evdistill_core.representations import InputSpec, represent

ROOT = Path(__file__).parents[2]
START_S = 1.0
PART = (slice(172, 222), slice(120, 200))  # a car from the left
SPECS = {
    "voxel: one channel a time bin, signed": InputSpec(bins=3),
    "histogram: one channel a time bin and polarity": InputSpec(kind="histogram", bins=3),
    "time_surface: how recent the last event is": InputSpec(kind="time_surface"),
    "counts2: all events of a polarity": InputSpec(kind="counts2", normalisation="robust"),
}
NAMES = {
    "voxel": ["start of the window", "middle", "end"],
    "histogram": [f"{p}, third {i + 1}" for p in ("brighter", "darker") for i in range(3)],
    "time_surface": ["brighter", "darker"],
    "counts2": ["brighter", "darker"],
}


def draw(axis: plt.Axes, channel: npt.NDArray[np.float32], spec: InputSpec) -> None:
    """Draw one channel: signed ones in blue and red, others in grey."""
    low, colours = (-1.0, "RdBu") if spec.representation.polarity == "signed" else (0.0, "Greys")
    axis.imshow(channel, cmap=colours, vmin=low, vmax=1.0, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def main() -> None:
    """Draw and save."""
    with open_recording(ROOT / "demo" / "davis346_street.mcap") as recording:
        window = next(iter(recording.windows(start_s=START_S)))
    figure, axes = plt.subplots(len(SPECS), 6, figsize=(15, 8), layout="constrained")
    for row, (title, spec) in zip(axes, SPECS.items(), strict=True):
        channels = represent(window.events, spec, window.t_start_us, window.t_end_us)
        for axis in row:
            axis.axis("off")
        for axis, name, channel in zip(row, NAMES[spec.kind], channels, strict=False):
            axis.axis("on")
            draw(axis, channel[PART], spec)
            axis.set_xlabel(name, fontsize=10)
        row[0].set_title(title, loc="left", fontsize=13)
    figure.savefig(ROOT / "docs" / "images" / "representations.png", dpi=72)


if __name__ == "__main__":
    main()
