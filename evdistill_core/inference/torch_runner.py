"""Students on torch: CUDA in half precision, or the CPU where ONNX Runtime cannot serve."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.inference.prediction import InstanceOutput
from evdistill_core.inference.runner import (
    Device,
    FloatArray,
    Output,
    Precision,
    WholeRunner,
    check_run_input,
)
from evdistill_core.inference.student import StudentFile
from evdistill_core.models.checkpoint import load_weights
from evdistill_core.models.network import NetworkOutput, StudentNetwork, fold_batch_norm
from evdistill_core.models.registry import build_student, check_network_of_file

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchRunner(WholeRunner):
    """Runs the weights of a student, batch norms folded (see ``runner.Runner``)."""

    _state: torch.Tensor | None

    def __init__(
        self,
        student: StudentFile,
        *,
        device: Device = "auto",
        precision: Precision = "auto",
        threads: int = 0,
    ) -> None:
        super().__init__(student)
        self._device = _choose_device(device)
        self.precision = _choose_precision(self._device, precision)
        if threads and self._device.type == "cpu":
            torch.set_num_threads(threads)
        network = fold_batch_norm(load_network(student))
        self._network = network.to(device=self._device, dtype=_DTYPES[self.precision])
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def description(self) -> str:
        """Runtime, device and precision in one line."""
        if self._device.type == "cuda":
            where = f"{torch.cuda.get_device_name(self._device)} {self.precision}"
        else:
            threads = torch.get_num_threads()
            where = f"cpu {self.precision}, {threads} thread{'s' if threads > 1 else ''}"
        return f"{self._info.name} on torch {torch.__version__}, {where}"

    def run_whole(self, input_chw: FloatArray) -> Output:
        """Return logits and instances of one window (see ``runner.Runner.run_whole``)."""
        check_run_input(input_chw, self._channels, self.size_multiple)
        # A copy, because torch warns of read-only arrays, and so that nothing of ours keeps it.
        x_bchw = torch.from_numpy(np.array(input_chw, order="C", copy=True))[None]
        x_bchw = x_bchw.to(
            device=self._device,
            dtype=_DTYPES[self.precision],
            memory_format=torch.channels_last,
        )
        with torch.inference_mode():
            given = self._step(x_bchw) if self.is_recurrent else self._network(x_bchw)
            if not isinstance(given, NetworkOutput):
                return Output(_on_cpu(given))
            logits, instances = given
            if instances is None:
                return Output(_on_cpu(logits))
            centre, offset_px = (_on_cpu(part) for part in instances)
            return Output(_on_cpu(logits), InstanceOutput(centre[0], offset_px))

    def _step(self, x_bchw: torch.Tensor) -> torch.Tensor | NetworkOutput:
        shape = self._info.state_shape(x_bchw.shape[2], x_bchw.shape[3])
        state = self._state
        if state is None or state.shape != shape:
            state = x_bchw.new_zeros(shape)
        given: torch.Tensor | NetworkOutput
        given, self._state = self._network(x_bchw, state)
        return given


def _on_cpu(x_bxhw: torch.Tensor) -> FloatArray:
    """Return the first of a batch as an array."""
    result: FloatArray = x_bxhw[0].float().contiguous().cpu().numpy()
    return result


def load_network(student: StudentFile) -> StudentNetwork:
    """Return the trained network of a student, in evaluation mode, fp32, on the CPU.

    Raises:
        StudentError: its weights are damaged or do not fit its description.
        ConfigError: its network is not to be had here.
        PluginError: its network is code which nobody allowed.
    """
    check_network_of_file(student.info.network.name, str(student.path))
    network = build_student(
        student.info.network.name,
        student.info.network.options,
        in_channels=student.info.input.channels,
        num_classes=len(student.classes),
    )
    facts = ("size_multiple", "output_stride", "state_channels", "state_stride", "has_instances")
    if any(getattr(network, f) != getattr(student.info.network, f) for f in facts):
        raise StudentError(
            f"{student.path} describes another version of {student.info.network.name}; export it "
            "again with `evdistill export`"
        )
    arrays = {k: torch.from_numpy(v) for k, v in student.weights().items()}
    load_weights(network, arrays, str(student.path))
    return network.eval()


def _choose_device(device: Device) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        built = torch.version.cuda
        reason = (
            f"torch {torch.__version__} is built for CUDA {built} but finds no usable device "
            "(driver?)"
            if built
            else f"torch {torch.__version__} is built without CUDA"
        )
        raise ConfigError(f"device cuda is not available: {reason}; available: cpu")
    return torch.device("cuda" if device == "cuda" or (device == "auto" and has_cuda) else "cpu")


def _choose_precision(
    device: torch.device, precision: Precision
) -> Literal["fp32", "fp16", "bf16"]:
    if precision == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if precision == "int8":
        raise ConfigError(
            "torch runs students in fp32, bf16 and fp16, got precision int8; use runtime "
            "onnxruntime or openvino"
        )
    if device.type == "cpu" and precision == "fp16":
        raise ConfigError("precision fp16 is not available on the cpu; available: fp32, bf16")
    if device.type == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise ConfigError("this GPU has no bf16; available: fp32, fp16")
    return precision
