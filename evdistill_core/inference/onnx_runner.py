"""Students on ONNX Runtime: the robot's default. Does not import torch."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _ort

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.inference.prediction import InstanceOutput
from evdistill_core.inference.runner import (
    FloatArray,
    Output,
    StudentRunner,
    check_run_input,
)
from evdistill_core.inference.student import StudentFile

# What the runtime raises for a model that it cannot load or run.
ORT_ERRORS = (
    _ort.Fail,
    _ort.InvalidArgument,
    _ort.InvalidGraph,
    _ort.InvalidProtobuf,
    _ort.NoModel,
    _ort.NoSuchFile,
    _ort.NotImplemented,
    _ort.RuntimeException,
    _ort.EPFail,
    RuntimeError,
)
# Key "location" of an external tensor in protobuf bytes: a model that wants to read other files.
_EXTERNAL_DATA = b"\x0a\x08location"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return the options of a session that shares its cores with other work.

    Args:
        threads: that compute one operation.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin between calls would take the cores that decode events or train.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class OnnxRunner(StudentRunner):
    """Runs the ONNX model of a student in fp32 (see ``runner.Runner``)."""

    def __init__(
        self, student: StudentFile, *, device: Literal["cpu", "cuda"] = "cpu", threads: int = 0
    ) -> None:
        super().__init__(student)
        available = onnxruntime.get_available_providers()
        if _PROVIDERS[device] not in available:
            raise ConfigError(
                f"this ONNX Runtime has no {device} support, only {', '.join(available)}; install "
                "onnxruntime-gpu, use runtime torch, or device cpu"
            )
        self._threads = threads or 1
        self._device = device
        self._session = self._load(student)
        self._input_names = [v.name for v in self._session.get_inputs()]
        self._state: FloatArray | None = None

    def _load(self, student: StudentFile) -> onnxruntime.InferenceSession:
        model = student.onnx()
        if _EXTERNAL_DATA in model:
            raise StudentError(
                f"{student.path}: its ONNX model refers to other files; export it again with "
                "`evdistill export`"
            )
        options = session_options(self._threads)
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        try:
            session = onnxruntime.InferenceSession(
                model, options, providers=[_PROVIDERS[self._device]]
            )
        except ORT_ERRORS as error:
            raise StudentError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load the model of {student.path}: "
                f"{error}; update onnxruntime or export the student again"
            ) from error
        self._check_signature(session, student)
        return session

    def _check_signature(self, session: onnxruntime.InferenceSession, student: StudentFile) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        taken, given = ([list(v.shape) for v in values] for values in (inputs, outputs))
        # Dimensions and channels of what goes in and comes out: logits, instances, state.
        state = [(4, self._info.state_channels)] * self._info.is_recurrent
        instances = [(4, 1), (4, 2)] if self._info.has_instances else []
        answer = (2 if student.info.task == "recognition" else 4, len(student.classes))
        fits = [(len(s), s[1] if len(s) > 1 else 0) for s in taken] == [
            (4, self._channels),
            *state,
        ] and [(len(s), s[1] if len(s) > 1 else 0) for s in given] == [answer, *instances, *state]
        if not fits:
            memory = " with instances" if instances else ""
            memory += f" and a state of {state[0][1]} channels" if state else ""
            raise StudentError(
                f"{student.path}: its ONNX model maps {taken} to {given}, but its description "
                f"says {self._channels} channels to {len(student.classes)} classes{memory}; "
                "export it again with `evdistill export`"
            )

    @property
    def description(self) -> str:
        """Runtime, device and precision in one line."""
        threads = f", {self._threads} thread{'s' if self._threads > 1 else ''}"
        return (
            f"{self._info.name} on ONNX Runtime {onnxruntime.__version__}, {self._device} fp32"
            f"{threads if self._device == 'cpu' else ''}"
        )

    @property
    def has_instances(self) -> bool:
        """Whether ``run_whole`` gives instances."""
        return self._info.has_instances

    def reset(self) -> None:
        """Forget earlier windows."""
        self._state = None

    def run(self, input_chw: FloatArray) -> FloatArray:
        """Return the logits of one window (see ``runner.Runner.run``)."""
        return self.run_whole(input_chw).logits

    def run_whole(self, input_chw: FloatArray) -> Output:
        """Return logits and instances of one window (see ``runner.Runner.run_whole``)."""
        check_run_input(input_chw, self._channels, self.size_multiple)
        given = [np.ascontiguousarray(input_chw)[None]]
        if self.is_recurrent:
            given.append(self._state_for(*input_chw.shape[1:]))
        results = self._session.run(None, dict(zip(self._input_names, given, strict=True)))
        if self.is_recurrent:
            self._state = results[-1]
        logits: FloatArray = results[0][0]
        if not self.has_instances:
            return Output(logits)
        return Output(logits, InstanceOutput(results[1][0, 0], results[2][0]))

    def _state_for(self, height: int, width: int) -> FloatArray:
        shape = self._info.state_shape(height, width)
        if self._state is None or self._state.shape != shape:
            return np.zeros(shape, np.float32)
        return self._state
