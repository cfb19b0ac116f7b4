"""Draws method.png: the two streams of EvDistill, and what is compared with what.

Run: python docs/images/make_method.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).parents[2]
COLOURS = {
    "data": "#e9eef3",
    "teacher": "#bcd4ee",
    "student": "#bfe3c0",
    "generator": "#f8d9a8",
    "output": "#ffffff",
    "loss": "#f6c9c9",
}
HEIGHT = 0.78
# Name, kind, x and y of the middle, width.
BOXES = (
    ("labelled\nimage x_i, y", "data", 1.1, 5.0, 1.9),
    ("teacher T", "teacher", 6.5, 5.6, 1.5),
    ("T(x_i)", "output", 9.0, 5.6, 1.7),
    ("G_ie\nimage to events", "generator", 3.5, 4.4, 1.8),
    ("student S", "student", 6.5, 4.4, 1.5),
    ("S(G_ie(x_i))", "output", 9.0, 4.4, 1.7),
    ("unlabelled\nwindow x_e", "data", 1.1, 1.4, 1.9),
    ("G_ei\nevents to image", "generator", 3.5, 2.0, 1.8),
    ("teacher T", "teacher", 6.5, 2.0, 1.5),
    ("T(G_ei(x_e))", "output", 9.0, 2.0, 1.7),
    ("student S", "student", 6.5, 0.8, 1.5),
    ("S(x_e)", "output", 9.0, 0.8, 1.7),
)
# From (x, y) to (x, y), text above.
ARROWS = (
    ((2.05, 5.3), (5.75, 5.6), ""),
    ((2.05, 4.75), (2.6, 4.4), ""),
    ((4.4, 4.4), (5.75, 4.4), "generated\nwindow"),
    ((7.25, 5.6), (8.15, 5.6), ""),
    ((7.25, 4.4), (8.15, 4.4), ""),
    ((2.05, 1.65), (2.6, 2.0), ""),
    ((2.05, 1.1), (5.75, 0.8), ""),
    ((4.4, 2.0), (5.75, 2.0), "reconstructed\nimage"),
    ((7.25, 2.0), (8.15, 2.0), ""),
    ((7.25, 0.8), (8.15, 0.8), ""),
)
COMPARED = (
    (5.6, 4.4, "KD, matching, affinity:\nkd_generated, ...\n\nlabels y: task_generated"),
    (2.0, 0.8, "KD, matching, affinity:\nkd_event, ..."),
)


def box(axes: plt.Axes, part: tuple[str, str, float, float, float]) -> None:
    """Draw one part of the method."""
    name, kind, x, y, width = part
    shape = FancyBboxPatch(
        (x - width / 2, y - HEIGHT / 2),
        width,
        HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.1",
        facecolor=COLOURS[kind],
        edgecolor="#333333",
        linewidth=1.2,
    )
    axes.add_patch(shape)
    axes.text(x, y, name, ha="center", va="center", fontsize=12)


def arrow(axes: plt.Axes, start: tuple[float, float], end: tuple[float, float], text: str) -> None:
    """Draw where data flows."""
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=14, color="#333333", shrinkA=0, shrinkB=0
        )
    )
    if text:
        axes.text(
            (start[0] + end[0]) / 2, start[1] + 0.06, text, ha="center", va="bottom", fontsize=11
        )


def compared(axes: plt.Axes, top: float, bottom: float, text: str) -> None:
    """Draw a bracket around two outputs, and the losses between them."""
    axes.plot([9.95, 10.1, 10.1, 9.95], [top, top, bottom, bottom], color="#b03030", linewidth=1.6)
    axes.text(10.25, (top + bottom) / 2, text, ha="left", va="center", color="#901f1f", fontsize=11)


def main() -> None:
    """Draw and save."""
    figure, axes = plt.subplots(figsize=(12, 6.2), layout="constrained")
    for part in BOXES:
        box(axes, part)
    for flow in ARROWS:
        arrow(axes, *flow)
    for pair in COMPARED:
        compared(axes, *pair)
    axes.add_patch(
        FancyBboxPatch(
            (2.6, 2.72), 7.25, 0.96, boxstyle="round,pad=0,rounding_size=0.1",
            facecolor="#fff4f4", edgecolor="#b03030", linestyle="--",
        )
    )  # fmt: skip
    axes.text(
        6.2, 3.2,
        "Two discriminators: generated windows look like real ones (gan_event),\n"
        "reconstructed images like images (gan_image).\nCycles: there and back gives the original. "
        "Consistency: the classes stay.",
        ha="center", va="center", color="#901f1f",
    )  # fmt: skip
    axes.text(0.15, 6.15, "Stream of images", fontsize=14, weight="bold")
    axes.text(0.15, 0.15, "Stream of events", fontsize=14, weight="bold")
    axes.text(
        6.5,
        0.22,
        "Only S is exported. T is frozen.",
        fontsize=12,
        ha="center",
        va="center",
        style="italic",
    )
    axes.set_xlim(0, 12.4)
    axes.set_ylim(0, 6.4)
    axes.axis("off")
    figure.savefig(ROOT / "docs" / "images" / "method.png", dpi=90)


if __name__ == "__main__":
    main()
