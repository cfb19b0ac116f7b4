"""What a representation is: one object for each kind of input that a student can be fed.

A plugin makes such an object (docs/how-to/extending.md); ``registry.REPRESENTATIONS`` finds it by
name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.representations.grid import Grid

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
X = TypeVar("X", FloatArray, "Tensor")
NORMALISATIONS = ("none", "fixed", "nonzero", "maximum", "robust")
POLARITIES = ("signed", "halves", "ignored")


class Described(Protocol):
    """What a representation may know of an ``InputSpec``, which is one."""

    @property
    def bins(self) -> int:
        """Time bins."""
        ...

    @property
    def window_us(self) -> int:
        """Usual length of a window."""
        ...

    @property
    def decay_us(self) -> int:
        """Time in which a value falls to 1/e."""
        ...

    @property
    def options(self) -> Mapping[str, object]:
        """The representation's own parameters, by name; all of them are there."""
        ...


class TorchEvents(Protocol):
    """N events of a window inside the frame, as int64 tensors on a device."""

    @property
    def cell(self) -> Tensor:
        """Cell of each event in a flat channel, (N,)."""
        ...

    @property
    def p(self) -> Tensor:
        """Polarity, (N,): 1 brighter, 0 darker."""
        ...

    @property
    def elapsed_us(self) -> Tensor:
        """Time since the start of the window, (N,) in 0 .. span_us - 1."""
        ...


@dataclass(frozen=True)
class InputWindow:
    """Where the events of one window go.

    Attributes:
        spec: the whole description of the input.
        grid: how the sensor's pixels lie in it.
        t_start_us: start of the window, microseconds of sensor time.
        t_end_us: end of the window (exclusive), above the start.
    """

    spec: Described
    grid: Grid
    t_start_us: int
    t_end_us: int

    @property
    def span_us(self) -> int:
        """Length of the window."""
        return self.t_end_us - self.t_start_us

    @property
    def plane(self) -> int:
        """Cells of one channel."""
        return self.grid.height * self.grid.width

    def cells(self, events: Events) -> npt.NDArray[np.int64]:
        """Return the cell of each event in a flat channel, (N,); events lie inside the frame."""
        factor = self.grid.factor
        rows, columns = events.y.astype(np.int64) // factor, events.x.astype(np.int64) // factor
        return np.asarray(rows * self.grid.width + columns)

    def elapsed_us(self, events: Events) -> npt.NDArray[np.int64]:
        """Return the time of each event since the start, (N,) in 0 .. span_us - 1.

        Events before the window count as at its start and events after it as at its end.
        """
        return np.asarray(events.t_us.clip(self.t_start_us, self.t_end_us - 1) - self.t_start_us)


@dataclass(frozen=True, kw_only=True)
class Representation:
    """One way to turn the events of a window into channels.

    Attributes:
        channels: channels of the input of a description, 1..1024.
        fill: writes the bare values of a window. It is told ``out``, (C, H, W) float32 zeros,
            C-contiguous; the events, in any order; and the window. Plugins get only the events
            inside the frame.
        fill_torch: the same with tensors: ``out`` lies on the device, see ``TorchEvents``. None:
            ``fill`` does it on the CPU.
        add: as ``fill``, for a window in parts: adds the values of the next events. It is also told
            which ones: (N,) bool, or None for all. None: ``fill`` gets all events at once; so it
            always is with plugins.
        slice_channels: for windows that overlap. It is told how many equal slices a window has, and
            returns how many channels of ``add`` a slice fills when the sum of the slices, each
            beginning with the last channel of the one before, is the window to the last bit; None
            where it is not.
        normalisations: of ``NORMALISATIONS``, which ones fit; the first is the default. "none"
            means that ``fill`` itself writes values within -1 .. 1.
        polarity: how brighter and darker events show. "signed": their signs. "halves": the first
            half of the channels holds brighter ones, the second half darker ones. "ignored": they
            look alike.
        empty_channels: so many last channels stay zero; they belong to neither half.
        options: names of its own parameters and their defaults (``InputSpec.options``).
    """

    channels: Callable[[Described], int]
    fill: Callable[[FloatArray, Events, InputWindow], None]
    fill_torch: Callable[[Tensor, TorchEvents, InputWindow], None] | None = None
    add: Callable[[FloatArray, Events, BoolArray | None, InputWindow], None] | None = None
    slice_channels: Callable[[Described, int], int | None] | None = None
    normalisations: tuple[str, ...] = ("none",)
    polarity: Literal["signed", "halves", "ignored"] = "halves"
    empty_channels: int = 0
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse words that mean nothing."""
        if not self.normalisations or not set(self.normalisations) <= set(NORMALISATIONS):
            raise ConfigError(
                f"normalisations must be some of {', '.join(NORMALISATIONS)}, "
                f"got {self.normalisations}"
            )
        if self.polarity not in POLARITIES:
            raise ConfigError(
                f"polarity must be one of {', '.join(POLARITIES)}, got {self.polarity!r}"
            )

    def polarities(self, x: X) -> tuple[X, X]:
        """Return how strongly brighter and darker events show in each cell.

        Args:
            x: (..., C, H, W) input of this kind.

        Returns:
            Two of (..., H, W), at least 0. Where polarity is ignored the second one is zero.
        """
        if self.polarity == "halves":
            half = (x.shape[-3] - self.empty_channels) // 2
            return x[..., :half, :, :].sum(-3), x[..., half : 2 * half, :, :].sum(-3)
        if self.polarity == "signed":
            return x.clip(min=0).sum(-3), (-x).clip(min=0).sum(-3)
        strength = abs(x).sum(-3)
        return strength, 0 * strength

    def with_inverted_polarity(self, x: FloatArray) -> FloatArray:
        """Return the input of the same window with brighter and darker events swapped.

        Args:
            x: (C, H, W) input of this kind; not modified.
        """
        if self.polarity == "signed":
            return -x
        if self.polarity == "ignored":
            return x
        half = (len(x) - self.empty_channels) // 2
        return np.concatenate([x[half : 2 * half], x[:half], x[2 * half :]])
