"""Whether two forms of a network compute the same, up to what their arithmetic allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import StudentError
from evdistill_core.inference.grouping import GroupingConfig
from evdistill_core.inference.runner import FloatArray, Output
from evdistill_core.representations import InputSpec, represent

Form = Callable[[FloatArray], Output]


class Limit(NamedTuple):
    """What two forms may differ by.

    Attributes:
        difference: of two values, as a share of the largest value.
        agreement: least share of cells with the same class, 0..1. Near ties fall either way.
    """

    difference: float
    agreement: float


LIMITS: Mapping[str, Limit] = {
    "fp32": Limit(1e-3, 0.99),  # rounding gives 1e-6 to 1e-5; a wrong layer gives far more
    "bf16": Limit(0.1, 0.97),
    "fp16": Limit(0.1, 0.97),
    "int8": Limit(0.25, 0.95),
}
"""By precision. Beyond it a form is refused, at export and when it is loaded."""
_OF_OFFSETS = 0.999
"""Share of offsets that are compared. Few of the windows that give the ranges of 8 bits hold a
person near the camera, whose offsets are the longest: there a few are cut off."""
_CURE = "retrain or report this"
_CURES = {
    "folded": "a network of your own that calls its batch norms in another order than it registers "
    "them says folds_batch_norm = False",
    "int8": "name recordings that are more like what the student is for, or leave it out",
}


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One output of one form at one size, against the trained network.

    Attributes:
        form: "folded", "onnx" or "int8"; at load the runtime.
        output: "logits", or "centre" and "offset_px" of networks with an instance head.
        precision: what the form computes in, a key of ``LIMITS``.
        height: rows of the input.
        width: columns of the input.
        max_abs_difference: largest difference of two values; of offsets in reduced precisions, of
            all but a thousandth of them.
        max_abs_logit: largest value of the trained network, the scale of the difference.
        argmax_agreement: share of cells with the same class, 0..1; 1 of other outputs.
    """

    form: str
    height: int
    width: int
    max_abs_difference: float
    max_abs_logit: float
    argmax_agreement: float
    output: str = "logits"
    precision: str = "fp32"

    @property
    def same_class(self) -> str:
        """The agreement for a table; a dash for outputs that are no classes."""
        return f"{self.argmax_agreement:.3%}" if self.output == "logits" else "-"

    @property
    def difference(self) -> str:
        """How far it is, in words."""
        limit = LIMITS[self.precision]
        allowed = limit.difference * self._scale
        return (
            f"{self.height}x{self.width} by {self.max_abs_difference:.3g} in {self.output} "
            f"(largest value {self.max_abs_logit:.3g}, allowed {allowed:.3g}), "
            f"same class in {self.argmax_agreement:.2%} of cells (at least {limit.agreement:.0%})"
        )

    @property
    def is_equal(self) -> bool:
        """Whether both are the same up to rounding.

        The difference is judged against the largest logit where that is above 1: rounding grows
        with the numbers. Offsets in reduced precision are judged against ``reach_px`` of
        ``GroupingConfig`` at least. What is not finite is never equal.
        """
        return self._is_within(1.0)

    @property
    def is_well_within(self) -> bool:
        """Whether it is within half of what is allowed."""
        return self._is_within(0.5)

    @property
    def _scale(self) -> float:
        """What the difference is judged against."""
        # Whoever reads offsets lets them miss by reach_px.
        is_offset = self.output == "offset_px" and self.precision != "fp32"
        return max(GroupingConfig.reach_px if is_offset else 1.0, self.max_abs_logit)

    def _is_within(self, share: float) -> bool:
        limit = LIMITS[self.precision]
        return (
            math.isfinite(self.max_abs_logit)
            and self.max_abs_difference <= share * limit.difference * self._scale  # False for NaN
            and self.argmax_agreement >= 1 - share * (1 - limit.agreement)
        )


def compare(  # noqa: PLR0913 - what to compare, and on what
    trained: Form,
    forms: dict[str, Form],
    *,
    channels: int,
    sizes: Iterable[tuple[int, int]],
    seed: int = 0,
    windows: int = 1,
) -> list[ParityRow]:
    """Run forms of a network on the same inputs.

    Args:
        trained: (C, H, W), or (T, C, H, W) windows in a row, to what it says of the last: the
            truth.
        forms: name to the same, exported.
        channels: C.
        sizes: heights and widths to try.
        seed: of the inputs, which are sparse as windows of events are.
        windows: T, above 1 for recurrent networks.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for height, width in sizes:
        shape = (channels, height, width)
        x = rng.normal(0, 1, shape if windows == 1 else (windows, *shape)).astype(np.float32)
        x[rng.random(x.shape) < 0.7] = 0
        truth = trained(x)
        for name, form in forms.items():
            rows += rows_of(name, "fp32", [(form(x), truth)], size=(height, width))
    return rows


def rows_of(
    form: str,
    precision: str,
    pairs: Sequence[tuple[Output, Output]],
    *,
    size: tuple[int, int],
    thing_ids: Sequence[int] | None = None,
) -> list[ParityRow]:
    """Return a row for each output of a form, over one or more windows.

    Args:
        form: its name.
        precision: what it computes in.
        pairs: what it says and what is right, window by window.
        size: height and width of the input.
        thing_ids: offsets count where the right class is one of these. Elsewhere nothing reads
            them, and nothing was learned of them: reduced precisions differ widely there. Of those
            that count, the worst thousandth does not: a box is made of many. None: they count
            everywhere.
    """
    rows = []
    for output in _by_name(pairs[0][1]):
        both = [(_by_name(given)[output], _by_name(right)[output]) for given, right in pairs]
        share = 1.0
        if output == "offset_px" and thing_ids is not None:
            share = _OF_OFFSETS
            both = [
                (_where_things_are(mine, right.logits, thing_ids),
                 _where_things_are(theirs, right.logits, thing_ids))
                for (mine, theirs), (_, right) in zip(both, pairs, strict=True)
            ]  # fmt: skip
        agreement = [_agreement(g, r) for g, r in both] if output == "logits" else [1.0]
        rows.append(
            ParityRow(
                form=form,
                height=size[0],
                width=size[1],
                max_abs_difference=_difference(both, share=share),
                max_abs_logit=float(max(np.abs(r).max(initial=0) for _, r in both)),
                argmax_agreement=float(np.mean(agreement)),
                output=output,
                precision=precision,
            )
        )
    return rows


def example_input(spec: InputSpec, *, height: int = 260, width: int = 346) -> FloatArray:
    """Return the input of a made-up window: edges that move, and a fifth of noise.

    What a network computes on it is like what it computes on a robot; on random numbers the ranges
    of 8 bits would not fit.
    """
    rng = np.random.default_rng(0)
    count = height * width // 4
    t_us = np.sort(rng.integers(0, spec.window_us, count))
    step = max(1, width // 12)
    edge = t_us * step // (2 * spec.window_us) + rng.integers(0, 12, count) * step
    is_noise = rng.random(count) < 1 / 5
    x = np.where(is_noise, rng.integers(0, width, count), (edge + rng.integers(0, 3, count)))
    # Edges end, as those of things do.
    y = np.where(
        is_noise, rng.integers(0, height, count),
        (rng.integers(0, height // 2, count) + edge // step % 3 * height // 4),
    )  # fmt: skip
    events = Events.from_columns(
        x % width, y % height, t_us, rng.integers(0, 2, count), width=width, height=height
    )
    return represent(events, spec, 0, spec.window_us)


def _by_name(output: Output) -> dict[str, FloatArray]:
    instances = {} if output.instances is None else output.instances._asdict()
    return {"logits": output.logits, **instances}


def _where_things_are(
    values: FloatArray, logits: FloatArray, thing_ids: Sequence[int]
) -> FloatArray:
    """Return (2, N) values of the cells whose class is one of things."""
    return values[:, np.isin(logits.argmax(0), thing_ids)]


def _difference(pairs: Sequence[tuple[FloatArray, FloatArray]], *, share: float) -> float:
    """Return the largest difference of that share of the values that differ least."""
    values = np.concatenate([np.abs(given - right).ravel() for given, right in pairs])
    if not values.size:
        return 0.0
    return float(np.quantile(values, share, method="higher"))


def _agreement(logits: FloatArray, truth: FloatArray) -> float:
    return float((logits.argmax(0) == truth.argmax(0)).mean())


def require_parity(rows: Iterable[ParityRow]) -> None:
    """Refuse an export that computes something else.

    Raises:
        StudentError: a row is not equal.
    """
    for row in rows:
        if not row.is_equal:
            raise StudentError(
                f"export refused: the {row.form} network differs from the trained one at "
                f"{row.difference}; {_CURES.get(row.form, _CURE)}"
            )
