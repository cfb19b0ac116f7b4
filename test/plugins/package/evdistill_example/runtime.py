"""A runtime of one's own."""

from typing import Literal

import numpy as np

from evdistill_core.inference.onnx_runner import OnnxRunner
from evdistill_core.inference.runner import StudentRunner
from evdistill_core.inference.student import StudentFile


class Mirrored(StudentRunner):
    """ONNX Runtime on the window and on its mirror image; the mean of both."""

    def __init__(self, student: StudentFile, *, device: str, precision: str, threads: int) -> None:
        super().__init__(student)
        where: Literal["cpu", "cuda"] = "cuda" if device == "cuda" else "cpu"
        self._runner = OnnxRunner(student, provider=where, threads=threads)

    @property
    def description(self) -> str:
        """Runtime and device in one line."""
        return f"{self._runner.description}, mirrored"

    def run(self, input_chw: np.ndarray) -> np.ndarray:
        """Return the logits of one window, (K, H / s, W / s)."""
        mirrored = self._runner.run(input_chw[:, :, ::-1])[:, :, ::-1]
        return (self._runner.run(input_chw) + mirrored) / 2
