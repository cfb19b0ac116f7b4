"""Students on OpenVINO: the fastest on Intel and AMD processors that compute in bfloat16."""

from __future__ import annotations

import openvino

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.inference.graph_runner import GraphRunner, graph_of
from evdistill_core.inference.runner import FloatArray
from evdistill_core.inference.student import StudentFile

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
# What OpenVINO computes in what is not quantised. A processor without it takes a wider one.
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}


class OpenVinoRunner(GraphRunner):
    """Runs the ONNX model of a student on the CPU (see ``runner.Runner``).

    Args:
        student: an opened student file.
        precision: one of ``PRECISIONS``, or "auto": fp32.
        threads: CPU threads for the network; 0: one.

    Raises:
        ConfigError: no such precision, or this processor does not compute in it.
        StudentError: the student has no model for it, or a damaged one.
    """

    def __init__(self, student: StudentFile, *, precision: str = "auto", threads: int = 0) -> None:
        super().__init__(student)
        self.precision = "fp32" if precision == "auto" else precision
        self._threads = threads or 1
        core = openvino.Core()
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"precision must be one of {', '.join(PRECISIONS)} with runtime openvino, got "
                f"{precision}"
            )
        able = {str(name).upper() for name in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")}
        if self.precision in {"bf16", "fp16"} and self.precision.upper() not in able:
            raise ConfigError(
                f"this processor computes in {', '.join(sorted(able))}, not in {self.precision}; "
                "use precision fp32"
            )
        self._compiled = self._load(core, student)
        self._request = self._compiled.create_infer_request()

    def _load(self, core: openvino.Core, student: StudentFile) -> openvino.CompiledModel:
        graph = graph_of(student, self.precision)
        options = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # other threads decode and publish
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
        }
        try:
            model = core.read_model(graph)
            compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-300:]
            raise StudentError(
                f"OpenVINO {openvino.__version__} cannot load the model of {student.path}: "
                f"{reason}; update openvino, use runtime onnxruntime, or export the student again"
            ) from error
        taken, given = (
            [[d.get_length() if d.is_static else str(d) for d in v.partial_shape] for v in values]
            for values in (model.inputs, model.outputs)
        )
        self._check_signature(student, taken, given)
        return compiled

    @property
    def description(self) -> str:
        """Runtime, device and precision in one line."""
        threads = f"{self._threads} thread{'s' if self._threads > 1 else ''}"
        version = openvino.__version__.split("-")[0]
        return f"{self._info.name} on OpenVINO {version}, cpu {self.precision}, {threads}"

    def _compute(self, given: list[FloatArray]) -> list[FloatArray]:
        self._request.infer(dict(enumerate(given)), share_inputs=True)
        # Copies: the next window overwrites what the request holds.
        count = len(self._compiled.outputs)
        return [self._request.get_output_tensor(i).data.copy() for i in range(count)]
