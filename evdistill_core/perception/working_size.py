"""At which size a student sees a sensor: reduced, at full resolution, or in tiles.

A network costs time in proportion to the pixels of its input, and it knows things of the sizes that
it was trained with. ``max_pixels`` of the student says up to where an input is not reduced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.inference.prediction import InstanceOutput
from evdistill_core.inference.runner import Output, Runner
from evdistill_core.representations import InputSpec

FloatArray = npt.NDArray[np.float32]
OVERLAP_PX = 64
"""Input pixels that two tiles share at least: what a network sees around a pixel."""
BUDGET = 0.5
"""Share of the time from window to window that the network may take; decoding needs some too."""
COARSEST = 4
"""A measured size is at most so many times as coarse as the student's own."""
MEASURED = -1
"""``max_pixels``: as many as the machine can do."""


@dataclass(frozen=True)
class WorkingSize:
    """The input of a student for one size of what it sees.

    Attributes:
        spec: the student's, with the ``max_pixels`` in force.
        seen: height and width of what is seen, sensor pixels.
        factor: sensor pixels an input pixel and axis.
        height: rows of the input, padding included.
        width: columns of the input.
        tiles: columns and rows of tiles that the network takes one after another.
        run_ms: measured time of the network on one window; None: not measured.
    """

    spec: InputSpec
    seen: tuple[int, int]
    factor: int
    height: int
    width: int
    tiles: tuple[int, int] = (1, 1)
    run_ms: float | None = None

    @property
    def is_reduced(self) -> bool:
        """Whether sensor pixels are joined."""
        return self.factor > 1

    def note(self) -> str:
        """Return what a user must know of a reduced input; empty for full resolution."""
        if not self.is_reduced:
            return ""
        high, wide = self.seen
        small = f"{-(-wide // self.factor)}x{-(-high // self.factor)}"
        return (
            f"the student sees {wide}x{high} pixels reduced to {small}: small things are missed; "
            f"max_pixels:={wide * high} or tiles:=[0,0] give full resolution, at the cost of time"
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain data for reports and diagnostics; sizes in pixels, width first."""
        high, wide = self.seen
        return {
            "seen": f"{wide}x{high}",
            "factor": self.factor,
            "network": f"{self.width}x{self.height}",
            "tiles": f"{self.tiles[0]}x{self.tiles[1]}",
            "max_pixels": self.spec.max_pixels,
            "measured_ms": None if self.run_ms is None else round(self.run_ms, 2),
        }


def working_size(  # noqa: PLR0913 - what is asked for, by name
    spec: InputSpec,
    runner: Runner,
    *,
    seen: tuple[int, int],
    max_pixels: int,
    tiles: tuple[int, int],
    step_us: int,
) -> WorkingSize:
    """Return the size at which a student sees height x width sensor pixels.

    Args:
        spec: the student's.
        runner: is measured for ``max_pixels`` of ``MEASURED``; forgets earlier windows then.
        seen: height and width of what is seen.
        max_pixels: more are reduced; 0: the student's own, ``MEASURED``: as the machine can do.
        tiles: columns and rows at full resolution; (1, 1): no tiles, (0, 0): as many as the
            student's ``max_pixels`` needs.
        step_us: from window to window, what a measured size must keep up with.

    Raises:
        ConfigError: tiles for a student with a memory, or more tiles than fit.
    """
    if tiles != (1, 1):
        return _tiled(spec, runner, seen, tiles)
    if max_pixels == MEASURED:
        return _measured(spec, runner, seen, step_us)
    return _of_factor(replace(spec, max_pixels=max_pixels) if max_pixels else spec, seen)


def _of_factor(spec: InputSpec, seen: tuple[int, int]) -> WorkingSize:
    grid = spec.grid(height=seen[0], width=seen[1])
    return WorkingSize(spec, seen, grid.factor, grid.height, grid.width)


def _full(spec: InputSpec, seen: tuple[int, int], factor: int = 1) -> InputSpec:
    return replace(spec, max_pixels=-(-seen[0] // factor) * -(-seen[1] // factor))


def _tiled(
    spec: InputSpec, runner: Runner, seen: tuple[int, int], tiles: tuple[int, int]
) -> WorkingSize:
    if runner.is_recurrent:
        raise ConfigError(
            "tiles need a student without a memory: each tile would need one of its own"
        )
    full = _of_factor(_full(spec, seen), seen)
    columns, rows = tiles
    if tiles == (0, 0):
        columns = rows = 1
        while _tile_pixels(full, columns, rows, spec.size_multiple) > spec.max_pixels:
            if full.width * rows >= full.height * columns:
                columns += 1
            else:
                rows += 1
            if max(columns, rows) > 64:
                break
    for count, length, name in ((columns, full.width, "columns"), (rows, full.height, "rows")):
        if count > 1 and length < count * OVERLAP_PX:
            raise ConfigError(
                f"{count} {name} of tiles do not fit into {length} pixels: a tile has at least "
                f"{OVERLAP_PX}"
            )
    return replace(full, tiles=(columns, rows))


def _tile_pixels(size: WorkingSize, columns: int, rows: int, multiple: int) -> int:
    return _tile_length(size.width, columns, multiple) * _tile_length(size.height, rows, multiple)


def _tile_length(length: int, count: int, multiple: int) -> int:
    """Return the length of each of ``count`` tiles that overlap."""
    if count == 1:
        return length
    wanted = -(-(length + (count - 1) * OVERLAP_PX) // count)
    return min(length, -(-wanted // multiple) * multiple)


def _measured(spec: InputSpec, runner: Runner, seen: tuple[int, int], step_us: int) -> WorkingSize:
    """Return the finest size that the network computes within its share of a step."""
    budget_ms = BUDGET * step_us / 1e3
    own = _of_factor(spec, seen).factor
    best: WorkingSize | None = None
    for factor in range(own, 0, -1):
        size = _of_factor(_full(spec, seen, factor), seen)
        if best is not None and best.run_ms is not None:
            likely_ms = best.run_ms * (size.height * size.width) / (best.height * best.width)
            if likely_ms > 1.5 * budget_ms:
                break
        size = replace(size, run_ms=_run_ms(runner, size))
        if best is not None and size.run_ms is not None and size.run_ms > budget_ms:
            break
        best = size
    factor = own
    while best is not None and best.run_ms is not None and best.run_ms > budget_ms:
        factor += 1
        size = _of_factor(_full(spec, seen, factor), seen)
        if factor > COARSEST * own or min(seen) // factor < spec.size_multiple:
            break
        best = replace(size, run_ms=_run_ms(runner, size))
    runner.reset()
    if best is None:
        raise AssertionError("the student's own size is always measured")
    return best


def _run_ms(runner: Runner, size: WorkingSize) -> float:
    empty = np.zeros((size.spec.channels, size.height, size.width), np.float32)
    runner.run(empty)  # buffers are made
    taken = []
    for _ in range(3):
        began_ns = time.perf_counter_ns()
        runner.run(empty)
        taken.append((time.perf_counter_ns() - began_ns) / 1e6)
    return min(taken)


def run_network(runner: Runner, size: WorkingSize, input_chw: FloatArray) -> Output:
    """Return what a student says of a window, computed in one piece or in tiles."""
    if size.tiles == (1, 1):
        return runner.run_whole(input_chw)

    def run(part: FloatArray) -> tuple[FloatArray, ...]:
        logits, instances = runner.run_whole(part)
        return (logits, *(instances or ()))

    logits, *head = run_in_tiles(run, input_chw, size.tiles, size.spec.size_multiple)
    return Output(logits, InstanceOutput(*head) if head else None)


def run_in_tiles(
    run: Callable[[FloatArray], tuple[FloatArray, ...]],
    input_chw: FloatArray,
    tiles: tuple[int, int],
    multiple: int,
) -> tuple[FloatArray, ...]:
    """Return what a network says of an input, computed tile by tile.

    Two neighbours meet in the middle of what they share.

    Args:
        run: (C, h, w) float32 to arrays (..., h / s, w / s), for a stride s that divides
            ``multiple``.
        input_chw: (C, H, W) float32; H and W are multiples of ``multiple``.
        tiles: columns and rows.
        multiple: heights and widths that the network takes are multiples of this.

    Returns:
        Arrays (..., H / s, W / s).
    """
    _, height, width = input_chw.shape
    whole: tuple[FloatArray, ...] = ()
    for top, bottom, row_from, row_to in _cuts(height, tiles[1], multiple):
        for left, right, column_from, column_to in _cuts(width, tiles[0], multiple):
            part = np.ascontiguousarray(input_chw[:, top:bottom, left:right])
            given = run(part)
            stride = (bottom - top) // given[0].shape[-2]
            if not whole:
                size = (height // stride, width // stride)
                whole = tuple(np.empty((*g.shape[:-2], *size), np.float32) for g in given)
            rows = slice(row_from // stride, row_to // stride)
            columns = slice(column_from // stride, column_to // stride)
            own_rows = slice((row_from - top) // stride, (row_to - top) // stride)
            own_columns = slice((column_from - left) // stride, (column_to - left) // stride)
            for target, source in zip(whole, given, strict=True):
                target[..., rows, columns] = source[..., own_rows, own_columns]
    return whole


def _cuts(length: int, count: int, multiple: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield start and end of each tile along one axis, and of the part that is taken from it."""
    tile = _tile_length(length, count, multiple)
    room = (length - tile) // multiple
    starts = [round(i * room / max(1, count - 1)) * multiple for i in range(count)]
    for i, start in enumerate(starts):
        # The middle of what two tiles share, on a multiple.
        before = (start + starts[i - 1] + tile) // 2 // multiple * multiple if i else 0
        after = (
            (starts[i + 1] + start + tile) // 2 // multiple * multiple if i + 1 < count else length
        )
        yield start, start + tile, before, after
