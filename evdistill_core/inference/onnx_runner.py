"""Students on ONNX Runtime, with any of its execution providers. Does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _ort

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.inference.graph_runner import GraphRunner, graph_of
from evdistill_core.inference.runner import FloatArray
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


@dataclass(frozen=True)
class Provider:
    """One execution provider of ONNX Runtime.

    Attributes:
        name: as ONNX Runtime calls it.
        device: where it computes.
        precisions: what it can be asked for; the first is the usual one.
        package: the build of ONNX Runtime that has it.
        options: precision and threads to the provider's own options.
    """

    name: str
    device: str
    precisions: tuple[str, ...]
    package: str
    options: Callable[[str, int], Mapping[str, Any]] = lambda precision, threads: {}


def _openvino_options(precision: str, threads: int) -> Mapping[str, Any]:
    asked = {"fp32": "FP32", "fp16": "FP16", "int8": "ACCURACY"}[precision]
    return {"device_type": "CPU", "precision": asked, "num_of_threads": threads}


def _tensorrt_options(precision: str, threads: int) -> Mapping[str, Any]:
    return {} if precision == "fp32" else {f"trt_{precision}_enable": True}


PROVIDERS: Mapping[str, Provider] = {
    "cpu": Provider("CPUExecutionProvider", "cpu", ("fp32", "int8"), "onnxruntime"),
    "openvino": Provider(
        "OpenVINOExecutionProvider", "cpu", ("fp32", "fp16", "int8"), "onnxruntime-openvino",
        _openvino_options,
    ),
    "cuda": Provider("CUDAExecutionProvider", "cuda", ("fp32",), "onnxruntime-gpu"),
    "tensorrt": Provider(
        "TensorrtExecutionProvider", "cuda", ("fp16", "fp32", "bf16", "int8"), "onnxruntime-gpu",
        _tensorrt_options,
    ),
}  # fmt: skip
"""All that a student can be run with, by our name for it."""


def has_provider(name: str) -> bool:
    """Tell whether this build of ONNX Runtime has a provider of ``PROVIDERS``."""
    return PROVIDERS[name].name in onnxruntime.get_available_providers()


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


class OnnxRunner(GraphRunner):
    """Runs the ONNX model of a student (see ``runner.Runner``).

    Args:
        student: an opened student file.
        provider: a key of ``PROVIDERS``.
        precision: one that the provider has, or "auto": its usual one.
        threads: CPU threads for the network; 0: one.

    Raises:
        ConfigError: this ONNX Runtime has no such provider, or the provider no such precision.
        StudentError: the student has no model for it, or a damaged one.
    """

    def __init__(
        self,
        student: StudentFile,
        *,
        provider: str = "cpu",
        precision: str = "auto",
        threads: int = 0,
    ) -> None:
        super().__init__(student)
        self._provider = PROVIDERS[provider]
        available = onnxruntime.get_available_providers()
        if self._provider.name not in available:
            raise ConfigError(
                f"this ONNX Runtime has no {provider} support, only {', '.join(available)}; "
                f"install {self._provider.package}, or use another runtime or device cpu"
            )
        known = self._provider.precisions
        self.precision = known[0] if precision == "auto" else precision
        if self.precision not in known:
            raise ConfigError(
                f"ONNX Runtime on {provider} runs students in {', '.join(known)}, got precision "
                f"{precision}; use one of these, or another runtime"
            )
        self._threads = threads or 1
        self._session = self._load(student)
        self._input_names = [v.name for v in self._session.get_inputs()]

    def _load(self, student: StudentFile) -> onnxruntime.InferenceSession:
        model = graph_of(student, self.precision)
        options = session_options(self._threads)
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        chosen = self._provider.options(self.precision, self._threads)
        try:
            session = onnxruntime.InferenceSession(
                model, options, providers=[(self._provider.name, dict(chosen))]
            )
        except ORT_ERRORS as error:
            raise StudentError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load the model of {student.path}: "
                f"{error}; update onnxruntime or export the student again"
            ) from error
        taken, given = (
            [list(v.shape) for v in values]
            for values in (session.get_inputs(), session.get_outputs())
        )
        self._check_signature(student, taken, given)
        return session

    @property
    def description(self) -> str:
        """Runtime, device and precision in one line."""
        device = self._provider.device
        via = self._provider.name.removesuffix("ExecutionProvider")
        where = device if via.lower() == device else f"{device} ({via})"
        threads = f", {self._threads} thread{'s' if self._threads > 1 else ''}"
        return (
            f"{self._info.name} on ONNX Runtime {onnxruntime.__version__}, {where} "
            f"{self.precision}{threads if device == 'cpu' else ''}"
        )

    def _compute(self, given: list[FloatArray]) -> list[FloatArray]:
        results: list[FloatArray] = self._session.run(
            None, dict(zip(self._input_names, given, strict=True))
        )
        return results
