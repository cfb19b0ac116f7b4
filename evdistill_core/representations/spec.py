"""What a student is fed: the description that travels in the student file.

The same ``InputSpec`` makes the training input and the robot's input, so the two cannot differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from evdistill_core.foundation import config
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.ranges import check_above, check_at_least, check_ranges
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.representations.grid import Grid
from evdistill_core.representations.registry import REPRESENTATIONS
from evdistill_core.representations.representation import Representation

# 480x360 stays whole, VGA is halved, 1280x720 becomes a third: every common sensor lands near the
# 346x260 for which a two-core CPU keeps real time.
DEFAULT_MAX_PIXELS = 200_000


@dataclass(frozen=True, kw_only=True)
class BackgroundFilter:
    """Neighbour filter: an event stays if another pixel nearby fired at nearly the same time.

    Attributes:
        radius_px: how far the other pixel may be, in rows and in columns; at least 1.
        dt_us: how far apart in time, earlier or later, in microseconds; 1 .. 60 s.
    """

    radius_px: int = 1
    dt_us: int = 10_000

    def __post_init__(self) -> None:
        """Refuse values under which the filter would drop everything."""
        config.check_types(self)
        check_ranges(self, radius_px=(1, 16), dt_us=(1, 60_000_000))


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """Window, representation, normalisation and size of a student's input.

    Attributes:
        kind: "voxel": signed polarity in time bins. "histogram": counts per polarity in time bins.
            "counts2": the authors' two counts. "time_surface": how recent the last event is.
            Or a representation of a plugin (docs/how-to/extending.md).
        bins: time bins of voxel and histogram, at least 1.
        window_us: length of one window, microseconds of sensor time.
        window_count: a window also ends after this many events; None: by time alone.
        normalisation: "fixed" divides by ``scale``, and "nonzero" uses mean and deviation of the
            non-zero cells of the window. "maximum" divides by the maximum of the window, per
            polarity. With "robust" that is the 99.9th percentile, and larger counts are clipped.
            Which fit a representation, its default ("auto") first: ``voxel`` and ``histogram``
            "fixed", "nonzero"; ``counts2`` "maximum", "robust", "fixed"; ``time_surface`` "none".
        scale: "fixed": events per sensor pixel (and bin) that give 1.0; above 0.
        clip: "fixed": values are limited to -clip .. clip; above 0.
        background_filter: applied to the window's events first; None: no filter.
        max_pixels: a sensor with more pixels is shrunk by a whole factor while accumulating.
        size_multiple: height and width of the input are padded to a multiple of this.
        sequence: windows in a row that a sample of training and evaluation has, labels at the end
            of the last; above 1 for recurrent students, which are rolled over them. On a stream
            they see every window.
        decay_us: time_surface: time in which a value falls to 1/e, in microseconds.
        options: parameters of a plugin's representation, by name.

    Normalisation by the window itself makes noise look like signal when nothing moves; that is
    why "fixed" is the default.
    """

    kind: str = "voxel"
    bins: int = 5
    window_us: int = 50_000
    window_count: int | None = None
    normalisation: Literal["auto", "none", "fixed", "nonzero", "maximum", "robust"] = "auto"
    scale: float = 2.0
    clip: float = 1.0
    background_filter: BackgroundFilter | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    size_multiple: int = 32
    sequence: int = field(default=1, metadata=config.LATER)
    decay_us: int = field(default=50_000, metadata=config.LATER)
    options: dict[str, object] = field(default_factory=dict, hash=False, metadata=config.LATER)

    def __post_init__(self) -> None:
        """Refuse values that would only fail later, on the robot."""
        config.check_types(self)
        allowed = self.representation.normalisations
        if self.normalisation == "auto":
            object.__setattr__(self, "normalisation", allowed[0])
        if self.normalisation not in allowed:
            raise ConfigError(
                f"normalisation of {self.kind} must be one of {', '.join(allowed)}, "
                f"got {self.normalisation!r}"
            )
        object.__setattr__(self, "options", self._checked_options())
        check_ranges(
            self,
            bins=(1, 256),
            window_us=(1, 1 << 40),
            max_pixels=(1, 1 << 32),
            size_multiple=(1, 1024),
            sequence=(1, 256),
            decay_us=(1, 1 << 40),
            channels=(1, 1024),
        )
        check_at_least(self, window_count=1)
        check_above(self, scale=0, clip=0)

    @property
    def span_us(self) -> int:
        """Length of the windows of one sample, in microseconds."""
        return self.sequence * self.window_us

    def _checked_options(self) -> dict[str, object]:
        """Return the options of the representation, defaults filled in."""
        known = self.representation.options
        for name, value in self.options.items():
            if name not in known:
                raise ConfigError(
                    f"representation {self.kind} has no option {name!r}; it has "
                    f"{', '.join(sorted(known)) or 'none'}{did_you_mean(name, known)}"
                )
            wanted = type(known[name])
            if type(value) is not wanted and not (wanted is float and type(value) is int):
                raise ConfigError(
                    f"option {name} of {self.kind} must be "
                    f"{config.TYPE_WORDS.get(wanted, wanted.__name__)}, got {value!r}"
                )
        return {**known, **self.options}

    @property
    def representation(self) -> Representation:
        """The representation by its kind."""
        return REPRESENTATIONS.get(self.kind)

    @property
    def channels(self) -> int:
        """First dimension of the input; 3 for counts2, the third of which stays zero."""
        return self.representation.channels(self)

    def grid(self, *, height: int, width: int) -> Grid:
        """Return where a sensor of this size lies in the input.

        Args:
            height: rows of the sensor, at least 1.
            width: columns of the sensor, at least 1.

        Raises:
            ConfigError: a size below 1.
        """
        if height < 1 or width < 1:
            raise ConfigError(f"a sensor has at least 1x1 pixels, got {width}x{height}")
        factor = max(1, math.isqrt(max(0, height * width // self.max_pixels)))
        while -(-height // factor) * -(-width // factor) > self.max_pixels and factor < max(
            height, width
        ):
            factor += 1
        used_height, used_width = -(-height // factor), -(-width // factor)
        multiple = self.size_multiple
        return Grid(
            height=-(-used_height // multiple) * multiple,
            width=-(-used_width // multiple) * multiple,
            factor=factor,
            used_height=used_height,
            used_width=used_width,
        )

    def shape(self, *, height: int, width: int) -> tuple[int, int, int]:
        """Return (channels, rows, columns) of the input for a sensor of this size."""
        grid = self.grid(height=height, width=width)
        return self.channels, grid.height, grid.width

    def to_mapping(self) -> dict[str, object]:
        """Return plain data for JSON or YAML; ``from_mapping`` reads it back to an equal spec."""
        return config.to_mapping(self)

    @staticmethod
    def from_mapping(
        values: Mapping[str, object], where: str = "", *, source: str = "the description"
    ) -> InputSpec:
        """Read what ``to_mapping`` wrote into a file; absent keys take their default.

        Args:
            values: plain data.
            where: dotted place, for errors.
            source: what to call the file in errors.

        Raises:
            ConfigError: an unknown key or a value that is refused.
            PluginError: the representation is code which nobody allowed.
        """
        kind = values.get("kind")
        if isinstance(kind, str):
            REPRESENTATIONS.check_file_name(kind, source)
        return config.from_mapping(InputSpec, values, where)
