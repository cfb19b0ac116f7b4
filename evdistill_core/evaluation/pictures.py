"""Pictures for reports: events, labels and predictions side by side; curves; confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from evdistill_core.drawing.colours import (
    BACKGROUND_BGR,
    Bgr,
    color_mask,
    enlarge,
    polarity_picture,
    screen_factor,
    to_bgr,
)
from evdistill_core.drawing.overlay import EVENT_COLOURS, legend
from evdistill_core.drawing.sheets import write_image
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.files import atomic_path
from evdistill_core.foundation.labels import OTHER_RGB, ClassTable
from evdistill_core.representations.registry import REPRESENTATIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = npt.NDArray[np.uint8]
LABEL_COLOURS: tuple[tuple[str, Bgr], ...] = (
    ("no label", (0, 0, 0)),
    ("none of the marked classes", OTHER_RGB[::-1]),
    *EVENT_COLOURS,
)
"""What pictures of labels show beside the classes, for legends."""


def input_picture(
    network_input: npt.NDArray[np.float32], kind: str = "voxel"
) -> npt.NDArray[np.uint8]:
    """Return what the network sees: brighter events yellow, darker ones blue, on a dark ground.

    Args:
        network_input: (C, H, W) float32; channels of one polarity are summed.
        kind: of the ``InputSpec``, or ``image``: grey in -1..1.

    Returns:
        (H, W, 3) uint8 RGB; full colour is reached at 1.0.
    """
    if kind == "image":
        grey = np.clip((network_input[0] + 1) * 127.5, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return polarity_picture(*REPRESENTATIONS.get(kind).polarities(network_input))[..., ::-1]


def label_picture(
    label: npt.NDArray[np.uint8],
    classes: ClassTable,
    where: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint8]:
    """Return the colours of a label image, (H, W, 3) uint8 RGB, dimmer where ``where`` is False."""
    colours = color_mask(label, classes)[..., ::-1]
    if where is None:
        return colours
    dim = (colours.astype(np.uint16) + 2 * np.array(BACKGROUND_BGR, np.uint16)) // 3
    return np.where(where[..., None], colours, dim).astype(np.uint8)


def panel_grid(
    rows: Sequence[Sequence[Picture]],
    classes: ClassTable | None,
    *,
    more: Sequence[tuple[str, Bgr]] = LABEL_COLOURS,
) -> Picture:
    """Return a grid of RGB pictures of one size, four pixels apart, with a legend below.

    Args:
        rows: of as many pictures each. Small pictures are enlarged by a whole factor.
        classes: whose colours the pictures have; None: no classes are shown.
        more: names and BGR colours beside the classes.

    Raises:
        DataError: no picture, or sizes differ.
    """
    if not rows or not rows[0]:
        raise DataError("a panel needs at least one picture")
    shapes = {p.shape for row in rows for p in row}
    if len(shapes) != 1:
        raise DataError(f"the pictures of a panel must have one size, got {sorted(shapes)}")
    grid = np.vstack([np.hstack([_framed(p) for p in row]) for row in rows])
    grid = enlarge(grid, screen_factor(grid.shape[1], grid.shape[1]))
    return np.vstack([grid, legend(classes, width=grid.shape[1], more=more)[..., ::-1]])


def write_panels(path: Path, rows: Sequence[Sequence[Picture]], classes: ClassTable | None) -> None:
    """Write a ``panel_grid`` as PNG. Arguments and errors are the same."""
    write_image(path, to_bgr(panel_grid(rows, classes)))


def write_curves(
    path: Path, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_label: str
) -> None:
    """Write one small plot a curve as PNG.

    Args:
        path: the picture.
        curves: title to (x values, y values).
        x_label: below every plot.
    """
    columns = min(3, max(1, len(curves)))
    rows = -(-len(curves) // columns) or 1
    figure = _figure((4.2 * columns, 2.8 * rows))
    for i, (title, (x, y)) in enumerate(curves.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.plot(x, y, linewidth=1, marker="." if len(x) < 40 else "")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(x_label, fontsize=8)
        axes.grid(visible=True, linewidth=0.3)
    _save(figure, path)


def write_confusion(
    path: Path, counts: npt.NDArray[np.int64], names: Sequence[str], title: str
) -> None:
    """Write a confusion as PNG: shares of each true class (rows), per predicted class.

    Args:
        path: the picture.
        counts: (K, K + 1), the last column "unlabelled".
        names: K class names.
        title: above the picture.
    """
    total = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    columns = [*names, "unlabelled"] if counts[:, -1].any() else list(names)
    shares = shares[:, : len(columns)]
    figure = _figure((1.0 + 0.9 * len(columns), 1.2 + 0.7 * len(names)))
    axes = figure.add_subplot(1, 1, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), list(names), fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)
    for i, j in np.ndindex(*shares.shape):
        ink = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, f"{shares[i, j]:.2f}", ha="center", va="center", color=ink, fontsize=8)
    _save(figure, path)


def _figure(size: tuple[float, float]) -> Figure:
    # The object interface: no pyplot, so no display and no state shared between threads.
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, only reports need it

    return Figure(figsize=size, layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _framed(picture: Picture) -> Picture:
    return np.pad(picture, ((2, 2), (2, 2), (0, 0)), constant_values=24)
