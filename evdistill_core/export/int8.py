"""A student in 8 bits: the ONNX model with ranges that were measured on windows of events.

Weights are quantised for each output channel, activations for each tensor, as QDQ nodes (quantise,
dequantise), which ONNX Runtime, OpenVINO and TensorRT turn into integer arithmetic.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from evdistill_core.foundation.errors import DataError, StudentError
from evdistill_core.inference.runner import FloatArray
from evdistill_core.recordings.opening import open_recording
from evdistill_core.representations import InputSpec, represent

MAX_WINDOWS = 128
MIN_WINDOWS = 8
MIN_EVENTS = 500
"""A window with fewer says nothing of the ranges that a scene has."""


def calibration_windows(recordings: Sequence[Path], spec: InputSpec) -> list[FloatArray]:
    """Return inputs of a student from recordings, spread evenly over each.

    All are of one size, that of the first recording; windows with hardly an event are left out.

    Args:
        recordings: paths.
        spec: the student's input.

    Raises:
        RecordingError: one cannot be read.
        DataError: they hold too few windows, or sensors whose inputs differ in size.
    """
    found: list[FloatArray] = []
    for path in recordings:
        own: list[FloatArray] = []
        keep_every = 1
        with open_recording(path) as recording:
            windows = recording.windows(duration_us=spec.window_us)
            usable = (w for w in windows if len(w.events) >= MIN_EVENTS)
            for number, window in enumerate(usable):
                if number % keep_every:
                    continue
                own.append(represent(window, spec))
                if len(own) >= 2 * MAX_WINDOWS // len(recordings):
                    # Every second one: a long recording is thinned evenly, whatever its length.
                    own, keep_every = own[::2], 2 * keep_every
        found += own
    shapes = {x.shape for x in found}
    if len(shapes) > 1:
        raise DataError(
            f"recordings for --int8-from must be of sensors of one size, got inputs of "
            f"{', '.join('x'.join(map(str, s)) for s in sorted(shapes))}"
        )
    if len(found) < MIN_WINDOWS:
        raise DataError(
            f"{', '.join(map(str, recordings))}: {len(found)} windows of at least {MIN_EVENTS} "
            f"events, --int8-from needs {MIN_WINDOWS}"
        )
    return found


def to_int8(model: bytes, windows: Sequence[FloatArray], *, float_layers: int = 0) -> bytes:
    """Return an ONNX model in 8 bits.

    Args:
        model: of a student without a memory, weights inside.
        windows: (C, H, W) inputs that the ranges are measured on.
        float_layers: convolutions, counted from the input, that stay in float. What gives the
            outputs always does, from the last convolutions on.

    Raises:
        StudentError: ONNX Runtime cannot quantise it.
    """
    from onnxruntime.quantization import (  # noqa: PLC0415 - it imports onnx
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="evdistill-int8-") as name:
        trained, folded, small = (Path(name) / f"{n}.onnx" for n in ("trained", "folded", "int8"))
        trained.write_bytes(model)
        level = logging.root.level
        try:
            logging.root.setLevel(logging.ERROR)  # it warns of what this function does
            quant_pre_process(str(trained), str(folded), skip_symbolic_shape=True)
            quantize_static(
                str(folded), str(small), _Reader(windows),
                nodes_to_exclude=_nodes_in_float(folded, float_layers),
                quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )  # fmt: skip
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StudentError(
                f"ONNX Runtime cannot put this network in 8 bits: {error}"
            ) from error
        finally:
            logging.root.setLevel(level)
        return small.read_bytes()


def _nodes_in_float(model: Path, first: int) -> list[str]:
    """Return names of the first convolutions, and of the nodes from the last ones to the outputs.

    An output in 8 bits ends where the windows end that its range was measured on: a person nearer
    than all of those would get offsets that are too short. The last convolutions are 1x1 and cost
    next to nothing.
    """
    import onnx  # noqa: PLC0415 - only an export needs it

    graph = onnx.load(model).graph
    makers = {name: node for node in graph.node for name in node.output}
    last, waiting = [], [output.name for output in graph.output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None:
            continue
        last.append(node.name)
        if node.op_type != "Conv":
            waiting += node.input
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    return [*convolutions[:first], *last]


class _Reader:
    """Gives windows to ONNX Runtime, one at a time."""

    def __init__(self, windows: Sequence[FloatArray]) -> None:
        self._windows: Iterator[FloatArray] = iter(windows)

    def get_next(self) -> dict[str, FloatArray] | None:
        """Return the next one, None after the last."""
        x = next(self._windows, None)
        return None if x is None else {"input": x[None]}
