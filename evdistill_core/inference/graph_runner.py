"""What runtimes of the ONNX model in a student file share: its signature, state and outputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from evdistill_core.foundation.errors import StudentError
from evdistill_core.inference.prediction import InstanceOutput
from evdistill_core.inference.runner import (
    FloatArray,
    Output,
    WholeRunner,
    check_run_input,
)
from evdistill_core.inference.student import StudentFile

# Key "location" of an external tensor in protobuf bytes: a model that wants to read other files.
_EXTERNAL_DATA = b"\x0a\x08location"


class GraphRunner(WholeRunner):
    """Base of runners of the ONNX model of a student.

    Args:
        student: an opened student file.
    """

    _state: FloatArray | None

    def run_whole(self, input_chw: FloatArray) -> Output:
        """Return logits and instances of one window (see ``runner.Runner.run_whole``)."""
        check_run_input(input_chw, self._channels, self.size_multiple)
        given = [np.ascontiguousarray(input_chw)[None]]
        if self.is_recurrent:
            given.append(self._state_for(*input_chw.shape[1:]))
        results = self._compute(given)
        if self.is_recurrent:
            self._state = results[-1]
        logits: FloatArray = results[0][0]
        if not self.has_instances:
            return Output(logits)
        return Output(logits, InstanceOutput(results[1][0, 0], results[2][0]))

    @abstractmethod
    def _compute(self, given: list[FloatArray]) -> list[FloatArray]:
        """Return all outputs for all inputs, in the model's order; arrays of the caller's own."""

    def _state_for(self, height: int, width: int) -> FloatArray:
        shape = self._info.state_shape(height, width)
        if self._state is None or self._state.shape != shape:
            return np.zeros(shape, np.float32)
        return self._state

    def _check_signature(
        self, student: StudentFile, taken: Sequence[Sequence[Any]], given: Sequence[Sequence[Any]]
    ) -> None:
        """Refuse a model whose inputs and outputs are not those of the description.

        Args:
            student: says what they should be.
            taken: shape of each input; a free dimension may be anything.
            given: shape of each output.
        """
        # Dimensions and channels of what goes in and comes out: logits, instances, state.
        state = [(4, self._info.state_channels)] * self._info.is_recurrent
        instances = [(4, 1), (4, 2)] if self._info.has_instances else []
        answer = (2 if student.info.task == "recognition" else 4, len(student.classes))

        def facts(shapes: Sequence[Sequence[Any]]) -> list[tuple[int, Any]]:
            return [(len(s), s[1] if len(s) > 1 else 0) for s in shapes]

        wanted = [answer, *instances, *state]
        if facts(taken) == [(4, self._channels), *state] and facts(given) == wanted:
            return
        memory = " with instances" if instances else ""
        memory += f" and a state of {state[0][1]} channels" if state else ""
        raise StudentError(
            f"{student.path}: its ONNX model maps {list(taken)} to {list(given)}, but its "
            f"description says {self._channels} channels to {len(student.classes)} classes{memory};"
            " export it again with `evdistill export`"
        )


def graph_of(student: StudentFile, precision: str) -> bytes:
    """Return the ONNX model of a student for a precision, weights inside.

    Raises:
        StudentError: there is none, it is damaged, or it refers to other files.
    """
    model = student.onnx_int8() if precision == "int8" else student.onnx()
    if _EXTERNAL_DATA in model:
        raise StudentError(
            f"{student.path}: its ONNX model refers to other files; export it again with "
            "`evdistill export`"
        )
    return model
