"""Whether exported forms of a network compute what the trained one computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from evdistill_core.foundation.errors import StudentError
from evdistill_core.inference.runner import FloatArray, Output

Form = Callable[[FloatArray], Output]
# fp32 rounding gives 1e-6 to 1e-5; a wrong layer gives far more.
TOLERANCE = 1e-3
_CURE = "retrain or report this"
_CURES = {
    "folded": "a network of your own that calls its batch norms in another order than it registers "
    "them says folds_batch_norm = False"
}
_MIN_AGREEMENT = 0.99  # near ties fall either way; the difference is the strict test


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One output of one form at one size, against the trained network.

    Attributes:
        form: "folded" or "onnx".
        output: "logits", or "centre" and "offset_px" of networks with an instance head.
        height: rows of the input.
        width: columns of the input.
        max_abs_difference: largest difference of two values.
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

    @property
    def same_class(self) -> str:
        """The agreement for a table; a dash for outputs that are no classes."""
        return f"{self.argmax_agreement:.3%}" if self.output == "logits" else "-"

    @property
    def is_equal(self) -> bool:
        """Whether both are the same up to rounding.

        The difference is judged against the largest logit where that is above 1: rounding grows
        with the numbers. What is not finite is never equal.
        """
        scale = max(1.0, self.max_abs_logit)
        return (
            math.isfinite(scale)
            and self.max_abs_difference <= TOLERANCE * scale  # False for NaN
            and self.argmax_agreement >= _MIN_AGREEMENT
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
        truth = _by_name(trained(x))
        for name, form in forms.items():
            given = _by_name(form(x))
            rows += [
                ParityRow(
                    form=name,
                    height=height,
                    width=width,
                    max_abs_difference=float(np.abs(given[output] - right).max()),
                    max_abs_logit=float(np.abs(right).max()),
                    argmax_agreement=_agreement(given[output], right) if output == "logits" else 1,
                    output=output,
                )
                for output, right in truth.items()
            ]
    return rows


def _by_name(output: Output) -> dict[str, FloatArray]:
    instances = {} if output.instances is None else output.instances._asdict()
    return {"logits": output.logits, **instances}


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
                f"{row.height}x{row.width} by {row.max_abs_difference:.3g} in {row.output} "
                f"(largest value {row.max_abs_logit:.3g}, allowed {TOLERANCE:g} of it), same class "
                f"in {row.argmax_agreement:.2%} of cells; {_CURES.get(row.form, _CURE)}"
            )
